"""Tests of giajax.metrics.degenerate: updates made by hand, and of networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax.clients import fedsgd
from giajax.metrics import degenerate
from giajax.models import MODELS
from giajax.tasks import TASKS

RNG = np.random.default_rng(0)
ROUGH = RNG.normal(size=(4, 5)).astype(np.float32)
LAST = np.zeros((4, 5), np.float32)
LAST[2, 3] = 1.0
OUTER = np.outer(np.arange(1, 5), RNG.normal(size=5)).astype(np.float32)


@pytest.mark.parametrize(
  ('weight', 'bias', 'batch_size', 'words'),
  [
    (0 * ROUGH, np.zeros(5), 1, 'the update is zero'),
    (1e-30 * ROUGH, np.zeros(5), 1, 'the update is zero'),
    (0 * ROUGH + 3, np.full(5, -1.0), 2, 'one value only'),
    (0 * ROUGH, np.arange(5), 2, 'only biases'),
    (OUTER, np.arange(5), 2, 'rank one'),
    (LAST, np.arange(5), 2, ''),  # what a defence left is of no rank
    (OUTER, np.arange(5), 1, ''),  # a single image always has that
    (ROUGH, np.zeros(5), 2, ''),
    (ROUGH, np.full(5, 1.0), 2, ''),
    (1e-12 * ROUGH, np.zeros(5), 2, ''),
  ],
)
def test_by_hand(weight, bias, batch_size, words):
  delta = {'layer': {'weight': weight, 'bias': bias.astype(np.float32)}}
  reason = degenerate.reason(delta, batch_size)
  assert words in reason and bool(words) == bool(reason)


def test_biases_alone_may_tell_something():
  assert degenerate.reason({'bias': np.arange(3.0)}, 2) == ''


def _update(batch, scale):
  net = MODELS['mlp'](image_shape=(4, 4, 1), num_classes=3, widths=(6,))
  client = fedsgd.fedsgd(net, TASKS['classification'](3))
  variables = net.init(jax.random.key(0))
  params = jax.tree.map(lambda leaf: scale * leaf, variables.params)
  message = types.ServerMessage(variables._replace(params=params))
  return client.update(jax.random.key(1), message, batch)[0].delta


def test_updates_of_a_client():
  x = jax.random.uniform(jax.random.key(2), (3, 4, 4, 1))
  batch = types.Batch(x, jnp.array([0, 1, 2]))
  assert degenerate.reason(_update(batch, 1.0), 3) == ''
  alone = jax.tree.map(lambda leaf: leaf[:1], batch)
  assert degenerate.reason(_update(alone, 1.0), 1) == ''
  # Weights so large that the right class has probability 1: no loss is left.
  right = _saturated(x)
  assert degenerate.reason(_update(right, 1e4), 3) == 'the update is zero'


def _saturated(x):
  net = MODELS['mlp'](image_shape=(4, 4, 1), num_classes=3, widths=(6,))
  variables = net.init(jax.random.key(0))
  params = jax.tree.map(lambda leaf: 1e4 * leaf, variables.params)
  out = net.apply(variables._replace(params=params), x).out
  return types.Batch(x, jnp.argmax(out, -1).astype(jnp.int32))
