"""Tests of giajax.defenses.base: no defence, and several."""

import constant_client
import jax
import numpy as np

from giajax.defenses import base
from giajax.defenses import noise
from giajax.defenses import pruning


def test_none_is_the_identity():
  none, client, marker = base.none(), constant_client.constant(), object()
  assert none.on_net(marker) is marker
  assert (
    none.on_batch(jax.random.key(0), constant_client.BATCH)
    is constant_client.BATCH
  )
  assert none.on_client(client) is client
  assert none.on_belief(client) is client


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
  x = chained.on_batch(jax.random.key(0), constant_client.BATCH).x
  np.testing.assert_allclose(x, 3 * 2 + 3)


def test_the_last_of_a_chain_touches_the_update_last():
  louder = noise.gaussian_noise(scale=1.0)
  assert constant_client.has_deviation(
    constant_client.sent(base.chain(louder, times(10))), 20, 10
  )
  assert constant_client.has_deviation(
    constant_client.sent(base.chain(times(10), louder)), 20, 1
  )


def test_pruning_then_noise_is_both_by_hand():
  """The noise is on all entries, also those that are not sent."""
  start = np.linspace(-1, 1, 3000)
  defenses = pruning.pruning(keep=0.25), noise.gaussian_noise(scale=0.01)
  client = constant_client.constant(start)
  chained = base.chain(*defenses)
  one_by_one = client
  for defense in defenses:
    one_by_one = defense.on_client(one_by_one)
  found = constant_client.sent(chained, client=client)
  np.testing.assert_array_equal(
    found, constant_client.sent(base.none(), client=one_by_one)
  )
  kept = constant_client.sent(defenses[0], client=client)
  assert constant_client.has_deviation(found - kept, 0, 0.01)
  # The other way around, nothing that is not sent is noisy.
  turned = constant_client.sent(base.chain(*defenses[::-1]), client=client)
  for part, size in ((start[:2000], 500), (start[2000:], 250)):
    least = np.sort(np.abs(part))[-size]
    own = slice(0, 2000) if len(part) == 2000 else slice(2000, 3000)
    np.testing.assert_array_equal(
      kept[own], np.where(np.abs(part) >= least, part, 0).astype(np.float32)
    )
    assert (turned[own] == 0).sum() == len(part) - size
  # A server that knows of both prunes likewise, and sees no draw.
  believed = chained.on_belief(client).update(
    jax.random.key(0), constant_client.MESSAGE, constant_client.BATCH
  )
  leaves = jax.tree.leaves(believed[0].delta)
  np.testing.assert_array_equal(np.concatenate([*map(np.ravel, leaves)]), kept)


def test_noises_of_a_chain_are_independent():
  """Variances add, 3^2 + 4^2 = 5^2; one noise used twice would give 7."""
  parts = [noise.gaussian_noise(scale=s) for s in (3.0, 4.0)]
  entries = constant_client.sent(base.chain(*parts))
  assert constant_client.has_deviation(entries, 2, 5)
  assert not constant_client.has_deviation(entries, 2, 7)


def test_batch_changes_of_a_chain_draw_from_keys_of_their_own():
  drawn_from = []

  def on_batch(key, batch):
    drawn_from.append(tuple(jax.random.key_data(key).tolist()))
    return batch

  recording = base.Defense(on_batch=on_batch)
  base.chain(recording, recording).on_batch(
    jax.random.key(0), constant_client.BATCH
  )
  assert len(set(drawn_from)) == 2


def test_empty_chain_is_none():
  np.testing.assert_array_equal(
    constant_client.sent(base.chain()), np.full(3000, 2.0)
  )
