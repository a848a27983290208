"""Tests of pruning, quantization, per_example_clipping."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy import stats

from giajax import types
from giajax.clients import base as clients
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.defenses import per_example_clipping
from giajax.defenses import pruning
from giajax.defenses import quantization
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.tasks import classification

K = 3
TASK = classification.classification(K)
KEY = jax.random.key(0)


def sent(defense, leaf, seed=0, believed=False):
  """Returns what a defence makes of a client that sends `leaf`."""
  update = types.Update({'w': jnp.asarray(leaf)}, {}, jnp.int32(1))
  client = clients.Client(
    lambda key, message, batch, taps=(): (update, None),
    None,
    lambda delta: delta,
    train_mode=False,
    net=NET,
  )
  guard = defense.on_belief if believed else defense.on_client
  return guard(client).update(jax.random.key(seed), None, None)[0].delta['w']


# Pruning.


def test_top_entries_are_kept():
  leaf = jnp.array([[3.0, -1.0], [0.5, -4.0], [2.0, 0.0]])
  found = sent(pruning.pruning(keep=0.5), leaf)
  np.testing.assert_array_equal(found, [[3.0, 0.0], [0.0, -4.0], [2.0, 0.0]])
  np.testing.assert_array_equal(sent(pruning.pruning(keep=1.0), leaf), leaf)
  np.testing.assert_array_equal(
    sent(pruning.pruning(keep=0.01), leaf), [[0, 0], [0, -4], [0, 0]]
  )


def test_random_entries_are_kept():
  leaf = jnp.arange(1.0, 1001.0)
  guard = pruning.pruning(keep=0.2, kind='random')
  found = np.asarray(sent(guard, leaf))
  assert (found > 0).sum() == 200
  assert abs(found[found > 0].mean() - 500) < 100  # whatever their size
  assert not np.array_equal(found, sent(guard, leaf, seed=1))
  np.testing.assert_array_equal(sent(guard, leaf, believed=True), leaf)


# Quantisation.


def test_one_bit_is_the_sign_times_the_mean_magnitude():
  found = sent(quantization.quantization(bits=1), [1.0, -2.0, 3.0])
  np.testing.assert_allclose(found, [2.0, -2.0, 2.0])


def test_two_bits_have_three_levels():
  found = sent(quantization.quantization(bits=2), [4.0, 1.9, -2.1, -0.1])
  np.testing.assert_allclose(found, [4.0, 0.0, -4.0, 0.0])


@pytest.mark.parametrize('bits', [3, 8])
def test_levels_and_error(bits):
  leaf = np.random.default_rng(0).normal(size=2000).astype(np.float32)
  found = np.asarray(sent(quantization.quantization(bits=bits), leaf))
  step = np.abs(leaf).max() / (2 ** (bits - 1) - 1)
  assert np.abs(found - leaf).max() <= step / 2 * 1.0001
  assert len(np.unique(np.round(found / step))) <= 2**bits - 1


def test_stochastic_rounding_keeps_the_mean():
  leaf = np.full(4000, 0.3, np.float32)
  leaf[0] = 1.0
  found = sent(quantization.quantization(bits=2, stochastic=True), leaf)
  assert set(np.unique(found)) == {0.0, 1.0}
  np.testing.assert_allclose(found.mean(), 0.3, atol=0.03)


def test_a_leaf_of_zeros_stays():
  for bits in (1, 4):
    found = sent(quantization.quantization(bits=bits), np.zeros(3))
    np.testing.assert_array_equal(found, 0)


def test_belief_has_a_slope():
  guard = quantization.quantization(bits=1)
  slope = jax.grad(lambda w: sent(guard, w, believed=True).sum())(jnp.ones(3))
  np.testing.assert_array_equal(slope, 1)


# Per-example clipping.


NET = mlp.mlp((3, 3, 1), K, widths=(4,))
QUERY = types.ServerMessage(NET.init(KEY))
BATCH = types.Batch(
  jax.random.uniform(jax.random.key(1), (4, 3, 3, 1)), jnp.arange(4) % K
)
CLIENT = fedsgd.fedsgd(NET, TASK)


def flat(tree):
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def per_example():
  return np.stack(
    [
      flat(CLIENT.update(KEY, QUERY, types.Batch(x[None], y[None]))[0].delta)
      for x, y in zip(*BATCH)
    ]
  )


def test_mean_of_clipped_gradients_by_hand():
  each = per_example()
  norms = np.linalg.norm(each, axis=1)
  clip = float(np.median(norms))
  guard = per_example_clipping.per_example_clipping(clip=clip)
  for on in (guard.on_client, guard.on_belief):
    found = flat(on(CLIENT).update(KEY, QUERY, BATCH)[0].delta)
    expected = (each * np.minimum(1, clip / norms)[:, None]).mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_noise_is_in_units_of_the_clip_over_the_batch():
  guard = per_example_clipping.per_example_clipping
  quiet, loud = (
    guard(clip=2.0, noise_multiplier=m).on_client(CLIENT) for m in (0.0, 3.0)
  )

  @jax.jit
  @jax.vmap
  def noise(key):
    found, plain = (c.update(key, QUERY, BATCH)[0].delta for c in (loud, quiet))
    return jax.tree.map(jnp.subtract, found, plain)

  noises = flat(noise(jax.random.split(KEY, 60)))
  np.testing.assert_allclose(noises.std(), 3.0 * 2.0 / 4, rtol=0.05)


def exact_epsilon(sigma, delta):
  """Balle and Wang 2018, theorem 8: of one Gaussian mechanism."""

  def excess(epsilon):
    a, b = 1 / (2 * sigma), epsilon * sigma
    first = stats.norm.cdf(a - b)
    return first - math.exp(epsilon) * stats.norm.cdf(-a - b) - delta

  return optimize.brentq(excess, 0, 200)


@pytest.mark.parametrize(('noise', 'rounds'), [(1.0, 1), (4.0, 10)])
def test_epsilon_lies_between_the_exact_and_the_classical_one(noise, rounds):
  found = per_example_clipping.epsilon(noise, delta=1e-5, rounds=rounds)
  rho = rounds / (2 * noise**2)  # of zero-concentrated privacy
  classical = rho + 2 * math.sqrt(rho * math.log(1e5))
  exact = exact_epsilon(noise / math.sqrt(rounds), 1e-5)
  assert exact <= found <= classical
  assert found < 1.2 * exact


def test_sampling_amplifies_and_multiplier_inverts():
  kwargs = dict(delta=1e-5, sampling_rate=0.01, rounds=1000)
  noise = per_example_clipping.multiplier(3.0, **kwargs)
  found = per_example_clipping.epsilon(noise, **kwargs)
  np.testing.assert_allclose(found, 3.0, rtol=1e-3)
  all_of_them = {**kwargs, 'sampling_rate': 1.0}
  assert per_example_clipping.epsilon(noise, **all_of_them) > 10 * found


def test_batch_norm_in_training_mode_and_local_steps_are_refused():
  guard = per_example_clipping.per_example_clipping(clip=1.0)
  net = resnet.resnet((4, 4, 1), K, blocks=(1,), width=0.05)
  client = guard.on_client(fedsgd.fedsgd(net, TASK, train_mode=True))
  batch = types.Batch(jnp.ones((2, 4, 4, 1)), jnp.arange(2))
  with pytest.raises(ValueError, match='without BatchNorm in training mode'):
    client.update(KEY, types.ServerMessage(net.init(KEY)), batch)
  many = fedavg.fedavg(NET, TASK, num_images=4, batch_size=2)
  with pytest.raises(ValueError, match='local_steps=2'):
    guard.on_client(many)


@pytest.mark.parametrize(
  ('make', 'kwargs', 'words'),
  [
    (pruning.pruning, {'keep': 0.0}, 'keep=0.0'),
    (pruning.pruning, {'keep': 1.1}, 'keep=1.1'),
    (pruning.pruning, {'keep': 0.5, 'kind': 'bottom'}, 'bottom'),
    (quantization.quantization, {'bits': 0}, 'bits=0'),
    (
      quantization.quantization,
      {'bits': 1, 'stochastic': True},
      'stochastic=True',
    ),
    (per_example_clipping.per_example_clipping, {'clip': 0.0}, 'clip=0.0'),
    (
      per_example_clipping.per_example_clipping,
      {'clip': 1.0, 'noise_multiplier': -1.0},
      'noise_multiplier=-1.0',
    ),
    (
      per_example_clipping.per_example_clipping,
      {'clip': 1.0, 'noise_multiplier': 1.0, 'epsilon': 1.0},
      'give one',
    ),
    (
      per_example_clipping.per_example_clipping,
      {'clip': 1.0, 'epsilon': -1.0},
      'epsilon=-1.0',
    ),
    (
      per_example_clipping.per_example_clipping,
      {'clip': 1.0, 'epsilon': 1.0, 'sampling_rate': 0.0},
      'sampling_rate=0.0',
    ),
  ],
)
def test_bad_arguments(make, kwargs, words):
  with pytest.raises(ValueError, match=words):
    make(**kwargs)
