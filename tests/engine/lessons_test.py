"""Tests of giajax.engine.lessons."""

import jax.numpy as jnp
import numpy as np

from giajax.engine import lessons
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
