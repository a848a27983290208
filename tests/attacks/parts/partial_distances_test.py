"""Tests of giajax.attacks.parts.distances: parts of the gradient, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.attacks.parts import distances
from giajax.models import inspect
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.ops import moments

SIZES = {'a': 1.0, 'b': 10.0, 'c': 0.1, 'd': 5.0}
ORDER = ('d', 'a', 'c', 'b')


def tree(seed):
  key = jax.random.key(seed)
  return {
    n: s * jax.random.normal(jax.random.fold_in(key, i), (3, 4))
    for i, (n, s) in enumerate(SIZES.items())
  }


def scaled(found, weights):
  return {n: np.sqrt(w) * found[n] for n, w in weights.items()}


@pytest.mark.parametrize('name', ['cosine', 'l2', 'angular'])
def test_top_leaves_by_hand(name):
  g, t = tree(0), tree(1)
  part = distances.on_leaves(name, top=2)
  largest = {'b': 1.0, 'd': 1.0}
  expected = distances.DISTANCES[name].on_gradients(
    scaled(g, largest), scaled(t, largest)
  )
  assert part.on_moments is not None
  for found in (
    part.on_gradients(g, t),
    part.on_moments(moments.of_gradients(g, t)),
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-5)
  everything = distances.on_leaves(name, top=9).on_gradients(g, t)
  np.testing.assert_allclose(
    everything, distances.DISTANCES[name].on_gradients(g, t), rtol=1e-5
  )


@pytest.mark.parametrize(
  ('weights', 'values'),
  [
    ('linear', (1, 3 / 4, 2 / 4, 1 / 4)),
    ('exponential', np.exp([0, -1, -2, -3])),
  ],
)
def test_leaf_weights_by_hand(weights, values):
  g, t = tree(0), tree(1)
  by_name = dict(zip(ORDER, values))
  for name in ('cosine', 'l2'):
    part = distances.on_leaves(name, weights=weights, order=ORDER)
    expected = distances.DISTANCES[name].on_gradients(
      scaled(g, by_name), scaled(t, by_name)
    )
    np.testing.assert_allclose(part.on_gradients(g, t), expected, rtol=1e-5)


def test_all_leaves_alike_are_the_distance_itself():
  whole = distances.DISTANCES['layer_cosine']
  part = distances.on_leaves('layer_cosine')
  assert part.on_moments is whole.on_moments


def test_entries_by_hand():
  g = {'a': jnp.array([1.0, 2.0, 3.0, 4.0]), 'b': jnp.array([5.0, 6.0])}
  t = {'a': jnp.array([9.0, -1.0, 8.0, 0.5]), 'b': jnp.array([-7.0, 1.0])}
  found = distances.on_entries('l2', 0.5).on_gradients(g, t)
  np.testing.assert_allclose(found, (8**2 + 5**2 + 12**2) / 2, rtol=1e-6)
  whole = distances.on_entries('l2', 1.0).on_gradients(g, t)
  expected = distances.DISTANCES['l2'].on_gradients(g, t)
  np.testing.assert_allclose(whole, expected)


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (
      lambda: distances.on_leaves('cosine', top=-1),
      'from 0 to .* for top; got top=-1',
    ),
    (lambda: distances.on_leaves('l1', top=2), "got distance='l1'"),
    (
      lambda: distances.on_leaves('layer_cosine', weights='linear'),
      'leaf weights',
    ),
    (lambda: distances.on_leaves('cosine', weights='lin'), "mean 'linear'"),
    (lambda: distances.on_entries('l2', 0.0), 'fraction=0.0'),
  ],
)
def test_mistakes_are_named(make, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    make()


def test_order_is_that_of_a_pass():
  names = inspect.in_order(mlp.mlp((4, 4, 1), 3, widths=(5, 6)))
  layers = [*dict.fromkeys(name.rpartition('.')[0] for name in names)]
  assert len(layers) == 3 and layers == [
    *inspect.sites(mlp.mlp((4, 4, 1), 3, widths=(5, 6)))
  ]
  assert [name.rpartition('.')[2] for name in names[:2]] == ['kernel', 'bias']
  net = resnet.resnet((4, 4, 3), 4, depth=18, blocks=(1,), width=0.05)
  found = inspect.in_order(net)
  assert found[0].startswith('conv1') and found[-1].startswith('fc')
  assert set(found) == inspect.leaf_names(net)
