"""Tests of giajax.engine.lessons."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax.data import shapes
from giajax.engine import lessons
from giajax.tasks import base as tasks
from giajax.tasks import TASKS
from giajax.tasks.parts import detections
from tests import detectors
from tests.learners import pupils


def test_accuracy_counts_each_image_once():
  out = pupils.NET.apply(pupils.START, jnp.asarray(pupils.X)).out
  right = float(np.mean(np.argmax(out, -1) == pupils.Y))
  made = lessons.accuracy(pupils.NET, pupils.TASK, pupils.START, pupils.EASY)
  np.testing.assert_allclose(made, right, atol=1e-6)


def test_loss_is_the_mean_over_all_images():
  out = pupils.NET.apply(pupils.START, jnp.asarray(pupils.X)).out
  expected = pupils.TASK.loss(out, jnp.asarray(pupils.Y))
  made = lessons.loss(pupils.NET, pupils.TASK, pupils.START, pupils.EASY)
  np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_a_rating_sees_each_image_once(monkeypatch):
  """In several passes, the last of which is filled up."""
  monkeypatch.setattr(lessons, '_EVALUATED', 3)
  data = shapes.load(size=32, count=4)
  net = detectors.net((32, 32, 3), 2)
  variables = net.init(jax.random.key(0))
  x, y = data.take(range(4))
  out = net.apply(variables, x).out

  def rate(kept, objects):
    np.testing.assert_allclose(kept, out['scores'], rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, objects, y)
    return 1.0, 2.0

  worth = tasks.Worth(lambda out: out['scores'], rate, ('one', 'two'))
  task = TASKS['detection'](2, image_shape=(32, 32, 3))._replace(worth=worth)
  rated = lessons.worth(net, task, variables, data)
  assert rated == {'one': 1.0, 'two': 2.0}
  assert lessons.worth(pupils.NET, pupils.TASK, pupils.START, pupils.EASY) == {}


def test_the_right_boxes_have_an_average_precision_of_one():
  task = TASKS['detection'](2, image_shape=(32, 32, 3))
  _, y = shapes.load(size=32, count=8).take(range(8))
  found = detections.Detections(y.boxes, y.classes, y.valid.astype(float))
  np.testing.assert_allclose(task.worth.rate(found, y), (1, 1))
  assert task.worth.names == ('AP50', 'AP')
