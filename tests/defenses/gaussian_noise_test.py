"""Tests of giajax.defenses.gaussian_noise and base."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax.clients import base as clients
from giajax.defenses import base
from giajax.defenses import gaussian_noise
from giajax.models.classification import mlp

SHAPES = {'a': {'b': (40, 50)}, 'c': (1000,)}
QUERY = types.ServerMessage(types.Variables({}, {}))
BATCH = types.Batch(jnp.zeros((1, 1, 1, 1)), jnp.zeros(1, jnp.int32))


def constant(value=2.0):
  """A client that sends a constant."""
  delta = jax.tree.map(
    lambda shape: jnp.full(shape, value),
    SHAPES,
    is_leaf=lambda s: isinstance(s, tuple),
  )
  update = types.Update(delta, {'bn': jnp.ones(3)}, jnp.int32(1))
  output = types.Output(jnp.zeros((1, 2)), {}, {})
  return clients.Client(
    lambda key, message, batch, taps=(): (update, output),
    lambda *args: None,
    lambda delta: delta,
    train_mode=True,
    net=mlp.mlp((1, 1, 1), 2),
  )


def sent(defense, seed=0, client=None):
  """Returns what leaves the device, [3000] entries."""
  client = defense.on_client(client or constant())
  update, _ = client.update(jax.random.key(seed), QUERY, BATCH)
  leaves = jax.tree.leaves(update.delta)
  return np.concatenate([np.ravel(leaf) for leaf in leaves])


def has_deviation(entries, mean, std):
  """Whether entries look drawn from N(mean, std^2), at 4.5 sigma."""
  n = len(entries)
  centred = abs(entries.mean() - mean) < 4.5 * std / np.sqrt(n)
  spread = abs(entries.std() / std - 1) < 4.5 / np.sqrt(2 * n)
  return centred and spread


@pytest.mark.parametrize('scale', [0.01, 1.0, 30.0])
def test_statistics_in_both_directions(scale):
  entries = sent(gaussian_noise.gaussian_noise(scale=scale))
  assert has_deviation(entries, 2, scale)
  # The test would notice ten percent more, or less, or a shift.
  assert not has_deviation(entries, 2, 1.1 * scale)
  assert not has_deviation(entries, 2, 0.9 * scale)
  assert not has_deviation(entries, 2 + 0.2 * scale, scale)
  # A normal, by the fourth moment: 3, where a uniform has 1.8.
  kurtosis = np.mean(((entries - 2) / scale) ** 4)
  np.testing.assert_allclose(kurtosis, 3, atol=0.6)


def test_entries_and_leaves_are_independent():
  entries = sent(gaussian_noise.gaussian_noise(scale=1.0)) - 2
  rows, last = entries[:2000].reshape(40, 50), entries[2000:]
  for a, b in ((rows[::2], rows[1::2]), (rows[:20].ravel(), last)):
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4.5 / np.sqrt(1000)


def test_the_key_decides():
  defense = gaussian_noise.gaussian_noise(scale=1.0)
  np.testing.assert_array_equal(sent(defense), sent(defense))
  other = np.corrcoef(sent(defense), sent(defense, seed=1))[0, 1]
  assert abs(other) < 4.5 / np.sqrt(3000)


def test_zero_scale_is_the_update():
  np.testing.assert_array_equal(
    sent(gaussian_noise.gaussian_noise(scale=0)), np.full(3000, 2.0)
  )


def test_only_the_delta_is_noisy():
  defense = gaussian_noise.gaussian_noise(scale=1.0)
  client = defense.on_client(constant())
  update, _ = client.update(jax.random.key(0), QUERY, BATCH)
  np.testing.assert_array_equal(update.stats['bn'], np.ones(3))
  assert int(update.size) == 1 and client.train_mode


def test_moments_are_withdrawn():
  defense = gaussian_noise.gaussian_noise(scale=1.0)
  assert defense.on_client(constant()).moments is None
  assert base.none().on_client(constant()).moments is not None


@pytest.mark.parametrize(
  'scale', [-1.0, float('nan'), float('inf'), True, False]
)
def test_refused_scales(scale):
  with pytest.raises(ValueError, match=f'scale={scale}'):
    gaussian_noise.gaussian_noise(scale=scale)


def test_none_is_the_identity():
  none, client, marker = base.none(), constant(), object()
  assert none.on_net(marker) is marker
  assert none.on_batch(jax.random.key(0), BATCH) is BATCH
  assert none.on_client(client) is client


# Chains.


def times(factor):
  """A defence that multiplies the update, the batch and the net's name."""

  def on_client(client):
    def update(key, message, batch, taps=()):
      clean, output = client.update(key, message, batch, taps)
      delta = jax.tree.map(lambda v: factor * v, clean.delta)
      return clean._replace(delta=delta), output

    return client._replace(update=update)

  return base.Defense(
    on_net=lambda net: [*net, factor],
    on_batch=lambda key, batch: batch._replace(x=factor * batch.x + factor),
    on_client=on_client,
  )


def test_chain_applies_in_order():
  chained = base.chain(times(2), times(3))
  assert chained.on_net([]) == [2, 3]
  x = chained.on_batch(jax.random.key(0), BATCH).x
  np.testing.assert_allclose(x, 3 * 2 + 3)


def test_the_last_of_a_chain_touches_the_update_last():
  noise = gaussian_noise.gaussian_noise(scale=1.0)
  assert has_deviation(sent(base.chain(noise, times(10))), 20, 10)
  assert has_deviation(sent(base.chain(times(10), noise)), 20, 1)


def test_noises_of_a_chain_are_independent():
  """Variances add, 3^2 + 4^2 = 5^2; one noise used twice would give 7."""
  parts = [gaussian_noise.gaussian_noise(scale=s) for s in (3.0, 4.0)]
  entries = sent(base.chain(*parts))
  assert has_deviation(entries, 2, 5)
  assert not has_deviation(entries, 2, 7)


def test_batch_changes_of_a_chain_draw_from_keys_of_their_own():
  seen = []

  def on_batch(key, batch):
    seen.append(tuple(jax.random.key_data(key).tolist()))
    return batch

  noted = base.Defense(on_batch=on_batch)
  base.chain(noted, noted).on_batch(jax.random.key(0), BATCH)
  assert len(set(seen)) == 2


def test_empty_chain_is_none():
  np.testing.assert_array_equal(sent(base.chain()), np.full(3000, 2.0))
