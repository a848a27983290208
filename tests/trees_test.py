"""Tests of giajax.trees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees

TREE = {
  'layer1': {
    '0': {'conv1': {'weight': jnp.arange(3.0)}},
    '10': {'bias': jnp.ones(1)},
    '2': {'bias': jnp.zeros(2)},
  },
  'fc': {'bias': jnp.ones(())},
}


def test_named_leaves():
  leaves = trees.named_leaves(TREE)
  assert list(leaves) == [
    'fc.bias',
    'layer1.0.conv1.weight',
    'layer1.10.bias',
    'layer1.2.bias',
  ]
  for leaf, value in zip(leaves.values(), jax.tree.leaves(TREE)):
    assert leaf is value
  assert trees.named_leaves({}) == {}
  assert list(trees.named_leaves({'a': [1, 2]})) == ['a.0', 'a.1']


def test_nested_is_the_inverse():
  found = trees.nested(trees.named_leaves(TREE))
  assert jax.tree.structure(found) == jax.tree.structure(TREE)
  jax.tree.map(np.testing.assert_array_equal, found, TREE)
  names = {'b.1': 0, 'a.2.c': 1, 'b.10': 2}
  assert trees.named_leaves(trees.nested(names)) == names
  assert trees.nested({}) == {}


def test_leaves_of_one_name_are_refused():
  with pytest.raises(ValueError, match='2 leaves and 1 names'):
    trees.named_leaves({'a': {'b': 0}, 'a.b': 1})


def test_like_takes_leaves_by_name():
  leaves = {n: n for n in reversed(trees.named_leaves(TREE))}
  leaves['surplus'] = 'surplus'
  found = trees.like(TREE, leaves)
  assert found['layer1']['10']['bias'] == 'layer1.10.bias'
  assert jax.tree.structure(found) == jax.tree.structure(TREE)
  with pytest.raises(KeyError, match=r'fc\.bias'):
    trees.like(TREE, {})


def test_dot_equals_float64():
  rng = np.random.default_rng(0)
  a = {n: rng.normal(size=(50, 40)) for n in 'abc'}
  b = {n: rng.normal(size=(50, 40)) + 0.1 for n in 'abc'}
  expected = sum(np.vdot(a[n], b[n]) for n in a)
  found = trees.dot(
    *(jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), t) for t in (a, b))
  )
  assert found.dtype == jnp.float32 and found.shape == ()
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert trees.dot({}, {}) == 0


def test_dot_is_taken_in_float32():
  half = {'a': jnp.full(4096, 1.001, jnp.bfloat16)}
  assert trees.squared_norm(half).dtype == jnp.float32
  np.testing.assert_allclose(trees.squared_norm(half), 4096, rtol=1e-6)


def test_squared_norm():
  assert (
    trees.squared_norm({'a': jnp.array([3.0]), 'b': [jnp.array(4.0)]}) == 25
  )


def test_safe_sqrt():
  np.testing.assert_allclose(trees.safe_sqrt(jnp.float32(9.0)), 3, rtol=1e-6)
  slope = jax.grad(trees.safe_sqrt)
  np.testing.assert_allclose(slope(4.0), 0.25, rtol=1e-6)
  assert slope(0.0) == 0 and trees.safe_sqrt(jnp.float32(0.0)) <= 1e-9
  assert np.isfinite(slope(1e-18))
  assert slope(0.04, 0.09) == 0
  np.testing.assert_allclose(trees.safe_sqrt(0.04, 0.09), 0.3, rtol=1e-6)


def test_safe_abs():
  x = jnp.array([-2.0, 0.0, -0.0, 3.0])
  assert trees.safe_abs(x).tolist() == [2, 0, 0, 3]
  slope = jax.vmap(jax.grad(trees.safe_abs))
  assert slope(x).tolist() == [-1, 0, 0, 1]


def test_where():
  a, b = {'u': jnp.ones(2), 'v': 1}, {'u': jnp.full(2, jnp.nan), 'v': 2}
  found = trees.where(jnp.bool_(True), a, b)
  assert (found['u'] == 1).all() and found['v'] == 1
  assert trees.where(jnp.bool_(False), a, b)['v'] == 2


def test_all_finite():
  assert trees.all_finite({}) and trees.all_finite({'count': jnp.arange(3)})
  assert trees.all_finite({'a': jnp.ones(3), 'b': 0})
  for bad in (jnp.nan, jnp.inf, -jnp.inf):
    assert not trees.all_finite({'a': jnp.ones(3), 'b': jnp.array([0, bad])})


def test_strong():
  weak = {'a': jnp.full((), 1.0), 'b': 2, 'c': jnp.ones(2)}
  found = trees.strong(weak)
  assert not any(jax.typeof(leaf).weak_type for leaf in jax.tree.leaves(found))
  jax.tree.map(np.testing.assert_array_equal, found, weak)
