"""The trained YOLOv8-n on 24 photographs of COCO, where these are at hand.

The figures were measured with torch. They move by per cents with the way in
which photographs are resampled. The test takes minutes: GIAJAX_SLOW=1.
"""

import os
from typing import NamedTuple

import jax
import numpy as np
import pytest

from giajax.data import coco_folder
from giajax.models import convert
from giajax.models import MODELS
from giajax.tasks import TASKS
from giajax.tasks.parts import average_precision
from giajax.tasks.parts import detections
from giajax.tasks.parts import objects
from giajax.tasks.parts import task_aligned

pytestmark = pytest.mark.skipif(
  os.environ.get('GIAJAX_SLOW') != '1', reason='takes minutes; GIAJAX_SLOW=1'
)
_WEIGHTS = (7.5, 0.5, 1.5, 1.0)


class Expected(NamedTuple):
  """What torch found.

  Attributes:
    found: the objects that are found.
    ap: AP50, and AP.
    first: the weighted terms of the loss of the first photograph: boxes,
      classes, distances; and what they are divided by.
    mean: the means of the same over all photographs.
  """

  found: int
  ap: tuple[float, float]
  first: tuple[float, ...]
  mean: tuple[float, ...]


EXPECTED = {
  256: Expected(
    58,
    (0.49, 0.36),
    (1.7735, 1.3759, 1.1659, 33.208),
    (1.305, 1.193, 1.103, 21.8),
  ),
  640: Expected(
    93,
    (0.65, 0.49),
    (1.4424, 1.0887, 1.2497, 68.145),
    (0.998, 1.024, 1.167, 33.8),
  ),
}


@pytest.mark.parametrize('size', EXPECTED)
def test_objects_and_losses_are_those_of_torch(shared_data, size):
  data = coco_folder.load(path=shared_data / 'coco', size=size)
  net = MODELS['yolov8n'](data.image_shape, data.num_classes)
  task = TASKS['detection'](data.num_classes, image_shape=data.image_shape)
  path = shared_data / 'weights/yolo/yolov8n_state.npz'
  variables = convert.load(path, net)

  @jax.jit
  def look(x, y):
    out = net.apply(variables, x).out
    found = detections.decoded(out, data.image_shape)
    terms = task_aligned.terms(out, y, data.image_shape)
    return found, task.worth.read(out), terms

  seen = []
  for index in range(data.size):
    batch = data.take([index])
    seen.append(jax.device_get((*look(*batch), batch.y)))
  *whole, terms, y = zip(*seen)
  found, rated, y = (
    jax.tree.map(lambda *leaves: np.concatenate(leaves), *each)
    for each in (*whole, y)
  )
  terms = np.array(terms) * _WEIGHTS
  expected = EXPECTED[size]
  assert y.valid.sum() == 176
  number = average_precision.recalled(found, objects.of(y))
  ap = task.worth.rate(rated, y)
  print(f'{size}: {number} found, AP50 {ap[0]:.3f}, AP {ap[1]:.3f}')
  assert abs(number - expected.found) <= 2
  np.testing.assert_allclose(ap, expected.ap, atol=0.02)
  np.testing.assert_allclose(terms[0], expected.first, rtol=0.02)
  np.testing.assert_allclose(terms.mean(axis=0), expected.mean, rtol=0.02)
