"""What every row of DISTANCES promises. A row without an entry here fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.attacks.parts import distances
from giajax.ops import moments

# name: (value at equality at most, what it is blind to: the scale of the
# candidate ('own'), of both ('both'), or neither (''), distance of G and T by
# hand)
FACTS = {
  'l2': (0, '', 0.5 * (1 + 1 + 4 + 4)),
  'l2_and_norm': (1e-6, '', 10 + np.sqrt(10)),
  'layer_l2': (0, '', (1 + 1 + 4 + 4) / 2),
  'l1': (0, '', 1 + 1 + 2 + 2),
  'cosine': (1e-6, 'own', 1 - 24 / np.sqrt(29 * 29)),
  'layer_cosine': (1e-6, 'own', (1 - 24 / 25 + 1) / 2),
  'angular': (5e-4, 'own', np.arccos(24 / 29) / np.pi),
  'gaussian': (1e-6, 'both', 1 - (np.exp(-2 / 25) + np.exp(-8 / 4)) / 2),
}
G = {'a': jnp.array([3.0, 4.0]), 'b': {'c': jnp.array([[2.0], [0.0]])}}
T = {'a': jnp.array([4.0, 3.0]), 'b': {'c': jnp.array([[0.0], [2.0]])}}


def random_tree(seed):
  rng = np.random.default_rng(seed)
  shapes = {'a': (3, 4), 'b': (5,), 'c': (2, 2, 2)}
  return {
    n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()
  }


def scaled(tree, factor):
  return jax.tree.map(lambda leaf: factor * leaf, tree)


@pytest.fixture(params=sorted(distances.DISTANCES))
def name(request):
  return request.param


def test_every_row_has_facts():
  assert set(FACTS) == set(distances.DISTANCES)


def test_by_hand(name):
  distance = distances.DISTANCES[name]
  value = distance.on_gradients(G, T)
  assert value.shape == () and value.dtype == jnp.float32
  np.testing.assert_allclose(value, FACTS[name][2], rtol=1e-6)


@pytest.mark.parametrize(
  'other',
  [
    {'a': jnp.ones(1), 'b': {'c': jnp.ones((2, 1))}},  # would broadcast
    {'a': jnp.ones(2), 'b': {'c': jnp.ones(2)}},
    {'a': jnp.ones(2)},
  ],
)
def test_gradients_that_differ_are_refused_while_traced(name, other):
  distance = distances.lookup(name)
  assert distance.on_moments is distances.DISTANCES[name].on_moments
  jax.eval_shape(distance.on_gradients, G, T)
  for pair in ((G, other), (other, G)):
    with pytest.raises(ValueError, match=r"shapes of the candidate's; got"):
      jax.eval_shape(distance.on_gradients, *pair)


def test_zero_at_equal_gradients_only(name):
  distance, g = distances.DISTANCES[name].on_gradients, random_tree(0)
  assert abs(distance(g, g)) <= FACTS[name][0]
  assert distance(g, random_tree(1)) > 0.05
  assert distance(scaled(g, -1.0), g) > 0.9


def test_scale_of_the_candidate(name):
  distance = distances.DISTANCES[name].on_gradients
  g, t = random_tree(0), random_tree(1)
  plain = distance(g, t)
  for factor in (0.1, 7.0):
    same = np.isclose(distance(scaled(g, factor), t), plain, rtol=1e-5)
    assert same == (FACTS[name][1] == 'own')


def test_scale_of_tiny_gradients(name):
  """A converged network's gradients are compared like any other's."""
  distance, g = distances.DISTANCES[name].on_gradients, random_tree(0)
  t = random_tree(1)
  tiny = distance(scaled(g, 1e-8), scaled(t, 1e-8))
  if FACTS[name][1]:
    np.testing.assert_allclose(tiny, distance(g, t), rtol=1e-4)
    assert distance(scaled(g, 1e-8), scaled(g, 1e-8)) <= FACTS[name][0]
  else:
    assert tiny < 1e-6


def test_moments_equal_gradients(name):
  distance = distances.DISTANCES[name]
  if distance.on_moments is None:
    pytest.skip('no such form')
  g, t = random_tree(0), random_tree(1)
  np.testing.assert_allclose(
    distance.on_moments(moments.of_gradients(g, t)),
    distance.on_gradients(g, t),
    rtol=1e-4,
  )


def test_the_derivative_is_finite(name):
  derivative = jax.grad(distances.DISTANCES[name].on_gradients)
  g = random_tree(0)
  zero = scaled(g, 0.0)
  for a, b in ((g, g), (zero, g), (g, zero), (zero, zero)):
    for leaf in jax.tree.leaves(derivative(a, b)):
      assert np.isfinite(leaf).all()


def test_equality_is_stationary(name):
  """In particular, |x| has no slope at 0."""
  derivative = jax.grad(distances.DISTANCES[name].on_gradients)
  g = random_tree(0)
  for leaf in jax.tree.leaves(derivative(g, g)):
    assert np.abs(leaf).max() < 1e-6


def test_the_derivative_descends(name):
  distance = distances.DISTANCES[name].on_gradients
  g, t = random_tree(0), random_tree(1)
  slope = jax.grad(distance)(g, t)
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(slope)) > 1e-4
  nearer = jax.tree.map(lambda u, v: u - 1e-3 * v, g, slope)
  assert distance(nearer, t) < distance(g, t)
