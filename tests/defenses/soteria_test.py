"""Tests of giajax.defenses.soteria."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.defenses import soteria
from giajax.models import subset
from giajax.models.classification import mlp
from giajax.ops import moments
from giajax.tasks import classification

K, UNITS = 3, 21
TASK = classification.classification(K)
KEY = jax.random.key(0)
NET = mlp.mlp((3, 4, 1), K, widths=(UNITS,), normalisation='half')
QUERY = types.ServerMessage(NET.init(KEY))
BATCH = types.Batch(
  jax.random.uniform(jax.random.key(1), (4, 3, 4, 1)), jnp.arange(4) % K
)
CLIENT = fedsgd.fedsgd(NET, TASK)
KERNEL = 'layers.1.kernel'


def leaves(client, **changes):
  batch = BATCH._replace(**changes)
  return trees.named_leaves(client.update(KEY, QUERY, batch)[0].delta)


def scores():
  """The authors' ratio, by hand: dr/dX of a ReLU layer is its weights."""
  layer = QUERY.variables.params['layers']['0']
  weight = np.asarray(layer['kernel'], np.float64)
  pixels = (np.asarray(BATCH.x, np.float64).reshape(4, -1) - 0.5) / 0.5
  r = np.maximum(pixels @ weight + np.asarray(layer['bias']), 0)
  slope = (r > 0) * np.linalg.norm(weight / 0.5, axis=0)
  return (slope / (r + 0.1)).sum(0)


@pytest.mark.parametrize('fraction', [0.0, 0.4, 0.9])
def test_rows_of_the_classifier_are_cut_by_the_authors_rule(fraction):
  guarded = soteria.soteria(fraction=fraction).on_client(CLIENT)
  found, plain = leaves(guarded), leaves(CLIENT)
  least = np.percentile(scores(), 100 * fraction)
  mask = (scores() >= least - 1e-6).astype(np.float32)
  # The others are a fraction of the units, but for those tied at a quantile.
  assert abs((1 - mask).sum() - fraction * UNITS) <= 1
  np.testing.assert_allclose(
    found.pop(KERNEL), plain.pop(KERNEL) * mask[:, None], rtol=1e-5, atol=1e-8
  )
  jax.tree.map(np.testing.assert_array_equal, found, plain)


def test_what_is_cut_is_what_says_most_of_the_image():
  """A unit of a large value and a small slope goes first."""

  def representation(x):
    pixels = x.reshape(len(x), -1)
    return pixels @ jnp.diag(jnp.array([1.0, 2.0, 5.0])) + jnp.array(
      [0.0, 30.0, 0.0]
    )

  x = jnp.full((2, 1, 3, 1), 0.5)
  r, slopes = np.array([0.5, 31.0, 2.5]), np.array([1.0, 2.0, 5.0])
  found = soteria.harmlessness(representation, x)
  np.testing.assert_allclose(found, 2 * slopes / (r + 0.1), rtol=1e-6)
  assert np.argmin(found) == 1


def test_belief_leaves_the_kernel_out():
  believed = soteria.soteria(fraction=0.5).on_belief(CLIENT)
  found, plain = leaves(believed), leaves(CLIENT)
  assert not found.pop(KERNEL).any() and plain.pop(KERNEL).any()
  jax.tree.map(np.testing.assert_array_equal, found, plain)
  target = CLIENT.update(KEY, QUERY, BATCH)[0].delta
  seen = believed.moments(KEY, QUERY, BATCH, target)[0]
  own = moments.of_gradients(
    believed.update(KEY, QUERY, BATCH)[0].delta, target
  )
  for part, expected in zip(seen, own):
    for name, value in expected.items():
      np.testing.assert_allclose(part[name], value, rtol=1e-4, atol=1e-7)


def test_settings_that_cannot_carry_it_are_refused():
  guard = soteria.soteria(fraction=0.5)
  many = fedavg.fedavg(NET, TASK, num_images=4, batch_size=2)
  with pytest.raises(ValueError, match='local_steps=2'):
    guard.on_client(many)
  frozen = subset.subset(NET, freeze=['layers.1.*'])
  with pytest.raises(ValueError, match='where it is frozen'):
    guard.on_client(fedsgd.fedsgd(frozen, TASK))


@pytest.mark.parametrize('fraction', [-0.1, 1.0, float('nan'), True])
def test_bad_fractions(fraction):
  with pytest.raises(ValueError, match=f'fraction={fraction}'):
    soteria.soteria(fraction=fraction)
