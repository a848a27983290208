"""Tests of giajax.keys."""

import jax
import numpy as np
import pytest

from giajax import keys


def data(key):
  return jax.random.key_data(key).tolist()


def test_keys_are_stable():
  """Recorded figures are drawn from these; a change makes them others."""
  key = jax.random.key(0)
  assert data(keys.named(key, 'model')) == NAMED
  assert data(keys.at(key, 1, 2, 3)) == PATH


def test_at_is_a_path():
  key = jax.random.key(0)
  assert data(keys.at(key)) == data(key)
  assert data(keys.at(key, 1, 2)) == data(keys.at(keys.at(key, 1), 2))
  assert data(keys.at(key, 1, 2)) != data(keys.at(key, 2, 1))


def test_names_and_indices_differ():
  key = jax.random.key(0)
  found = {tuple(data(keys.named(key, n))) for n in ('a', 'b', 'ab', 'ba', '')}
  found |= {tuple(data(keys.at(key, i))) for i in range(100)}
  found.add(tuple(data(key)))
  assert len(found) >= 105  # crc32('') is 0


@pytest.mark.parametrize('wrap', [jax.jit, lambda f: f])
def test_position_does_not_matter(wrap):
  """A restart draws the same alone, among others and in another order."""
  draw = wrap(jax.vmap(lambda r: jax.random.normal(keys.at(KEY, 5, r), (2,))))
  together = np.asarray(draw(np.arange(6)))
  np.testing.assert_array_equal(draw(np.array([4, 2])), together[[4, 2]])
  np.testing.assert_array_equal(draw(np.array([3])), together[[3]])


def test_draws_are_those_of_jax():
  """Drawing flat changes how long it takes to compile, not one bit."""
  shape = (3, 2, 4, 5)
  np.testing.assert_array_equal(
    keys.normal(KEY, shape), jax.random.normal(KEY, shape)
  )
  np.testing.assert_array_equal(
    keys.uniform(KEY, shape, 0.5),
    jax.random.uniform(KEY, shape, minval=-0.5, maxval=0.5),
  )


KEY = jax.random.key(7)
NAMED = [303697408, 1831871300]
PATH = [322093509, 564533456]
