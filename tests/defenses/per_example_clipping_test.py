"""Tests of giajax.defenses.per_example_clipping."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy import stats

from giajax import types
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.defenses import per_example_clipping
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.tasks import classification

K = 3
TASK = classification.classification(K)
KEY = jax.random.key(0)
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


@pytest.mark.parametrize(('epsilon', 'rounds'), [(4.9, 1), (3.8, 10)])
def test_the_multiplier_guarantees_its_epsilon_and_little_more(epsilon, rounds):
  noise = per_example_clipping.multiplier(epsilon, delta=1e-5, rounds=rounds)
  rho = rounds / (2 * noise**2)  # of zero-concentrated privacy
  classical = rho + 2 * math.sqrt(rho * math.log(1e5))
  exact = exact_epsilon(noise / math.sqrt(rounds), 1e-5)
  assert exact <= epsilon <= classical * 1.001
  assert epsilon < 1.2 * exact


def test_sampling_amplifies():
  kwargs = dict(delta=1e-5, rounds=1000)
  rare, always = (
    per_example_clipping.multiplier(3.0, sampling_rate=rate, **kwargs)
    for rate in (0.01, 1.0)
  )
  assert 10 * rare < always
  guard = per_example_clipping.per_example_clipping
  by_epsilon = guard(clip=2.0, epsilon=3.0, sampling_rate=0.01, **kwargs)
  by_noise = guard(clip=2.0, noise_multiplier=rare)
  one, other = (
    flat(g.on_client(CLIENT).update(KEY, QUERY, BATCH)[0].delta)
    for g in (by_epsilon, by_noise)
  )
  np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


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
  ('kwargs', 'words'),
  [
    ({'clip': 0.0}, 'clip=0.0'),
    ({'clip': 1.0, 'noise_multiplier': -1.0}, 'noise_multiplier=-1.0'),
    ({'clip': 1.0, 'noise_multiplier': 1.0, 'epsilon': 1.0}, 'give one'),
    ({'clip': 1.0, 'epsilon': -1.0}, 'epsilon=-1.0'),
    (
      {'clip': 1.0, 'epsilon': 1.0, 'sampling_rate': 0.0},
      'sampling_rate=0.0',
    ),
  ],
)
def test_bad_arguments(kwargs, words):
  with pytest.raises(ValueError, match=words):
    per_example_clipping.per_example_clipping(**kwargs)
