"""Tests of giajax.attacks.parts.image_vectors."""

import jax
import numpy as np

from giajax.attacks.parts import image_vectors
from giajax.models import base as models
from giajax.models import layers
from giajax.models.classification import mlp

SPEC = mlp.mlp((4, 3, 3), 2, widths=(), normalisation='cifar10').spec
X = jax.random.uniform(jax.random.key(0), (5, 4, 3, 3))


def test_vectors_are_what_linear_layers_read():
  flat = layers.flatten(X)
  np.testing.assert_array_equal(image_vectors.to_vector(X[2]), flat[2])
  np.testing.assert_array_equal(
    image_vectors.to_image(flat, SPEC.image_shape), X
  )
  one = image_vectors.to_image(flat[2], SPEC.image_shape)
  np.testing.assert_array_equal(one, X[2])


def test_pixels_are_those_before_the_normalisation():
  flat = layers.flatten(models.normalise(X, SPEC))
  pixels = image_vectors.to_pixels(flat, SPEC)
  np.testing.assert_allclose(pixels, X, atol=1e-6)
