"""Tests of giajax.data.memory."""

import numpy as np
import pytest

from giajax.data import base
from giajax.data import memory


def test_images_are_read_once_and_the_oldest_are_forgotten():
  calls = []

  def read(index):
    calls.append(index)
    return np.full((2, 2, 1), index, np.float32)  # 16 bytes

  kept = memory.Memory(32)
  for index in (0, 1, 0, 2, 0, 1):  # 2 takes the place of 1, not of 0
    assert kept(read, index)[0, 0, 0] == index
    assert kept.size <= 32
  assert calls == [0, 1, 2, 1]
  assert kept(lambda i: np.ones((2, 2, 1)), 0).mean() == 1  # another data set


def test_what_does_not_fit_is_not_kept():
  kept = memory.Memory(15)
  assert kept(lambda i: np.zeros((2, 2, 1), np.float32), 0).shape == (2, 2, 1)
  assert kept.size == 0


def test_data_sets_remember():
  calls = []

  def read(index):
    calls.append(index)
    return np.full((2, 2, 1), index / 4, np.float32)

  data = base.dataset(
    name='x',
    image_shape=(2, 2, 1),
    class_names=('a', 'b'),
    labels=[0, 1, 0],
    note='',
    read=read,
  )
  for _ in range(3):
    np.testing.assert_array_equal(data.take([2, 0]).x[:, 0, 0, 0], [0.5, 0])
  assert calls == [2, 0]


def test_images_of_another_shape_are_refused():
  shapes = [(2, 2, 1), (2, 3, 1)]
  images = base.dataset(
    name='x',
    image_shape=(2, 2, 1),
    class_names=('a',),
    labels=[0, 0],
    note='',
    read=lambda i: np.zeros(shapes[i], np.float32),
  )
  with pytest.raises(ValueError, match=r'^Expected .*2, 1\).* \(2, 3, 1'):
    images.take([0, 1])
