"""Values in any layout are reshaped and broadcast as arrays are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.models.aten.parts import values

NUMBERS = np.arange(2 * 1 * 3 * 4).reshape(2, 1, 3, 4)


def stored(order):
  """Returns `NUMBERS`, stored with its axes in another sequence."""
  return values.laid_out(jnp.asarray(NUMBERS.transpose(order)), order)


@pytest.mark.parametrize('order', itertools.permutations(range(4)))
def test_shapes_are_those_of_torch(order):
  value = stored(order)
  assert value.shape == NUMBERS.shape
  np.testing.assert_array_equal(value.logical(), NUMBERS)
  for shape in (
    (2, 3, 4),
    (24,),
    (2, -1),
    (6, 4),
    (2, 3, 2, 2),
    (1, 2, 1, 1, 3, 1, 4, 1),
    (4, 6),
    (2, 12, 1),
  ):
    found = values.reshaped(value, shape)
    np.testing.assert_array_equal(found.logical(), NUMBERS.reshape(shape))
    assert found.shape == NUMBERS.reshape(shape).shape
  turned = value.permuted((3, 0, 2, 1))
  np.testing.assert_array_equal(turned.logical(), NUMBERS.transpose(3, 0, 2, 1))


def test_images_between_convolutions_are_not_moved():
  images = jnp.zeros((2, 4, 5, 3))

  def run(images):
    value = values.laid_out(images, (0, 2, 3, 1))
    tokens = values.reshaped(value, (2, 3, 20)).permuted((0, 2, 1))
    back = values.reshaped(tokens.permuted((0, 2, 1)), (2, 3, 4, 5))
    ones = values.of(jnp.ones((3, 1, 1)))
    (one, other), order = values.aligned((back, ones))
    total = values.Value(one + other, order)
    pooled = values.Value(total.array.mean((1, 2), keepdims=True), order)
    return (
      tokens.logical(),
      total.laid((0, 2, 3, 1)),
      values.reshaped(pooled, (2, 3)).logical(),
    )

  text = str(jax.make_jaxpr(run)(images))
  # That of the three numbers beside them.
  assert text.count('transpose') <= 1


@pytest.mark.parametrize('order', itertools.permutations(range(4)))
def test_operands_are_broadcast_as_in_torch(order):
  value = stored(order)
  row = np.arange(4)
  plane = np.arange(12).reshape(3, 4) + 1
  (one, two, three, four), found = values.aligned(
    (value, values.of(row), 2, values.of(plane).permuted((0, 1)))
  )
  total = values.Value(one * two + three * four, found)
  np.testing.assert_array_equal(total.logical(), NUMBERS * row + 2 * plane)


def test_empty_arrays_are_reshaped():
  empty = values.of(jnp.zeros((0, 3)))
  assert values.reshaped(empty, (3, 0)).shape == (3, 0)
