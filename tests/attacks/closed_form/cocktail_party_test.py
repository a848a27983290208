"""Tests of giajax.attacks.closed_form.cocktail_party."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax import types
from giajax import world as worlds
from giajax.attacks.closed_form import cocktail_party
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models import inspect
from giajax.models.classification import lenet
from giajax.models.classification import mlp
from giajax.tasks import classification

B, K, SIDE, UNITS = 4, 5, 16, 6
TASK = classification.classification(K)
NET = mlp.mlp((SIDE, SIDE, 1), K, widths=(UNITS,), normalisation='cifar10')
ROWS = np.arange(SIDE * SIDE)  # the pixels, in the order that the layer reads


def world(net, batch_size):
  return worlds.World(net, TASK, fedsgd.fedsgd(net, TASK), batch_size)


def sources():
  """Images of random rectangles, [B, H, W, 1]."""
  rng = np.random.default_rng(0)
  x = np.full((B, SIDE, SIDE, 1), 0.5, np.float32)
  for image in x:
    for _ in range(6):
      (top, left), (h, w) = rng.integers(0, SIDE, 2), rng.integers(2, SIDE, 2)
      image[top : top + h, left : left + w] = rng.uniform()
  return x


@functools.cache
def mixed():
  """What a layer's gradient is by (1), of known sources and known weights."""
  x = sources()
  weights = np.random.default_rng(1).normal(size=(B, UNITS)).astype(np.float32)
  rows = (x.reshape(B, -1) - NET.spec.mean[0]) / NET.spec.std[0]
  zeros = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape), inspect.abstract_variables(NET).params
  )
  first = {'kernel': jnp.asarray(rows.T @ weights), 'bias': weights.sum(0)}
  delta = {'layers': {**zeros['layers'], '0': first}}
  message = types.ServerMessage(types.Variables(zeros, {}))
  update = types.Update(delta, {}, jnp.int32(B))
  return types.Observation(message, update, {}), x, weights


@pytest.mark.parametrize('signal', ['differences', 'pixels'])
def test_the_true_directions_give_the_images(signal):
  """Sign and scale come from the bias, whatever the signs of the weights."""
  obs, x, weights = mixed()
  attack = cocktail_party.cocktail_party(world(NET, B), signal=signal)
  state = attack.init(jax.random.key(0), obs, {})
  mixtures = cocktail_party._mixtures(
    world(NET, B), 'layers.0', ROWS, cocktail_party._SIGNALS[signal], obs
  )
  # A column of weights goes to 1 in one direction and to 0 in the others.
  rows = x.reshape(B, -1) - x.reshape(B, -1).mean(1, keepdims=True)
  whole = mixtures.whole - mixtures.whole.mean(1, keepdims=True)
  v = np.linalg.lstsq(whole.T, rows.T, rcond=None)[0].T
  found = attack.read(
    state._replace(variable=jnp.asarray(v)), obs, dict(attack.hparams)
  )
  assert (weights.sum(1) < 0).any()
  assert METRICS['psnr'].score(found.batch.x, x).min() >= 60
  assert found.valid.all() and (found.batch.y == -1).all()


def test_finds_independent_sources():
  obs, x, _ = mixed()
  steps = 400
  attack = cocktail_party.cocktail_party(world(NET, B), num_steps=steps)
  hp = dict(attack.hparams)

  @jax.jit
  def run(key):
    def step(state, t):
      return attack.step(keys.at(key, t), state, obs, hp)

    start = attack.init(key, obs, hp)
    end, infos = jax.lax.scan(step, start, jnp.arange(steps))
    return attack.read(start, obs, hp), attack.read(end, obs, hp), infos

  first, last, infos = run(jax.random.key(0))
  before, after = (
    METRICS['psnr'].score(found.batch.x[:, None], x) for found in (first, last)
  )
  slots = np.argmax(after, axis=0)
  assert sorted(slots) == list(range(B))
  assert after.max(0).min() >= 20, after.max(0)
  assert before.max(0).mean() < after.max(0).mean() - 5
  assert infos.finite.all() and last.score < first.score


def test_mixtures_are_white():
  obs, _, _ = mixed()
  for signals in cocktail_party._SIGNALS.values():
    white = cocktail_party._mixtures(
      world(NET, B), 'layers.0', ROWS, signals, obs
    ).white
    np.testing.assert_allclose(
      white @ white.T / white.shape[1], np.eye(B), atol=1e-4
    )


@pytest.mark.parametrize(
  ('net', 'batch_size', 'options', 'message'),
  [
    (lenet.lenet((8, 8, 3), K), 2, {}, 'first layer is linear'),
    (NET, UNITS + 1, {}, '6 units and batch_size=7'),
    (mlp.mlp((2, 2, 1), K), 4, {}, '4 pixels and batch_size=4'),
    (mlp.mlp((1, 1, 9), K), 2, {}, 'images of more than one pixel'),
    (NET, B, dict(num_steps=0), 'num_steps=0'),
    (NET, B, dict(signal='pixel'), "did you mean 'pixels'"),
    (NET, B, dict(sharpness=-1.0), 'sharpness=-1'),
    (NET, B, dict(learning_rate=0.0), 'learning_rate=0'),
  ],
)
def test_refusals(net, batch_size, options, message):
  with pytest.raises(ValueError, match=f'^Expected .*{message}') as error:
    cocktail_party.cocktail_party(world(net, batch_size), **options)
  assert '\n' not in str(error.value)
