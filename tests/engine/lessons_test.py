"""Tests of giajax.engine.lessons."""

import jax.numpy as jnp
import numpy as np

from giajax.engine import lessons
from tests.learners import pupils


def test_accuracy_counts_each_image_once():
  out = pupils.NET.apply(pupils.START, jnp.asarray(pupils.X)).out
  right = float(np.mean(np.argmax(out, -1) == pupils.Y))
  np.testing.assert_allclose(
    lessons.accuracy(pupils.NET, pupils.START, pupils.EASY), right, atol=1e-6
  )
