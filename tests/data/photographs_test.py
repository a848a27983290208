"""Tests of giajax.data.photographs."""

import numpy as np
import pytest

from giajax import images
from giajax.data import photographs


def test_every_photograph_is_its_own_class():
  dataset = photographs.load()
  assert dataset.size == dataset.num_classes == len(dataset.class_names)
  assert dataset.num_classes >= 10
  assert len(set(dataset.class_names)) == dataset.num_classes
  np.testing.assert_array_equal(dataset.labels, np.arange(dataset.size))


@pytest.mark.parametrize(('size', 'channels'), [(32, 3), (8, 1), (200, 3)])
def test_images_have_the_asked_shape_and_range(size, channels):
  dataset = photographs.load(size=size, channels=channels)
  batch = dataset.take(np.arange(dataset.size))
  assert batch.x.shape == (dataset.size, size, size, channels)
  assert dataset.image_shape == batch.x.shape[1:]
  assert batch.x.dtype == np.float32
  assert batch.y.dtype == np.int32
  images.check_range(batch.x, 'photographs')


def test_every_photograph_has_contrast_and_no_two_are_alike():
  dataset = photographs.load()
  x = np.asarray(dataset.take(np.arange(dataset.size)).x)
  flat = x.reshape(dataset.size, -1)
  assert flat.std(axis=1).min() > 0.07
  distances = ((flat[:, None] - flat[None]) ** 2).mean(-1)
  assert distances[~np.eye(dataset.size, dtype=bool)].min() > 0.01


def test_take_keeps_the_order_asked_for():
  dataset = photographs.load(size=8)
  batch = dataset.take([5, 2])
  np.testing.assert_array_equal(batch.y, [5, 2])
  np.testing.assert_array_equal(batch.x[1], dataset.take([2]).x[0])


def test_colours_are_where_they_belong():
  dataset = photographs.load(size=16)
  x = dict(zip(dataset.class_names, dataset.take(np.arange(dataset.size)).x))
  red, green, blue = np.asarray(x['retina']).mean((0, 1))
  assert red > green > blue
  bricks = np.asarray(x['bricks'])
  np.testing.assert_array_equal(bricks[..., 0], bricks[..., 2])
  # The rocket stands bright before a blue evening sky.
  assert np.asarray(x['rocket'])[0, 3, 2] > np.asarray(x['rocket'])[0, 3, 0]


@pytest.mark.parametrize(
  'kwargs', [{'size': 0}, {'size': 3.5}, {'channels': 2}]
)
def test_wrong_formats_are_refused(kwargs):
  with pytest.raises(ValueError, match='Expected'):
    photographs.load(**kwargs)


@pytest.mark.parametrize('indices', [[99], [-1], [], [[0]], [0.5]])
def test_wrong_indices_are_refused(indices):
  with pytest.raises(ValueError, match='Expected'):
    photographs.load().take(indices)
