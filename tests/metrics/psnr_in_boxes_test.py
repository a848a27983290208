"""Tests of giajax.metrics.psnr_in_boxes: answers known by hand."""

import numpy as np
import pytest

from giajax import types
from giajax.metrics import base
from giajax.metrics import psnr_in_boxes
from giajax.models.classification import mlp
from giajax.tasks import TASKS
from giajax.tasks.parts import objects


def test_pixels_in_any_box_count_once():
  x = np.zeros((2, 4, 4, 1), np.float32)
  guess = x.copy()
  guess[0, :2, :2] = 0.1  # in the first box
  guess[0, 3, 3] = 1.0  # in none
  boxes = np.array([[[0, 0, 0.5, 0.5], [0.25, 0, 0.5, 1], [0, 0, 1, 1]]] * 2)
  valid = np.array([[True, True, False], [False] * 3])
  y = objects.Objects(boxes, np.zeros((2, 3), int), valid)
  found = psnr_in_boxes.psnr_in_boxes(x, guess, types.Batch(x, y))
  # Four pixels of .01 among the 4 + 4 - 2 of both boxes.
  np.testing.assert_allclose(found[0], -10 * np.log10(4 * 0.01 / 6), rtol=1e-5)
  assert np.isnan(found[1])


def test_it_needs_boxes():
  net = mlp.mlp((4, 4, 1), 3)
  task = TASKS['classification'](3)
  audited = base.Audited(
    net.spec.image_shape, net, lambda: net, task, lambda history: history[-1]
  )
  with pytest.raises(ValueError, match='a task without boxes'):
    psnr_in_boxes.prepare(audited, True)
