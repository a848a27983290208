"""The iterative attacks find the image on networks where they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax import types
from giajax import world as worlds
from giajax.attacks.optimisation import beyond_inferring
from giajax.attacks.optimisation import dlg
from giajax.attacks.optimisation import idlg
from giajax.attacks.optimisation import inverting_gradients
from giajax.attacks.optimisation import modern
from giajax.attacks.optimisation import multiscale
from giajax.attacks.optimisation import partial_matching
from giajax.attacks.optimisation import sapag
from giajax.attacks.optimisation import wei
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 4
RESTARTS = 3
MLP = mlp.mlp((5, 5, 1), K, widths=(8,), activation='tanh')
_LBFGS = dict(num_steps=60, memory_size=5, max_linesearch_steps=10)
_ADAM = dict(num_steps=300, total_variation=0.0)


def attacked(factory, batch_size, hps, **kwargs):
  """Returns a batch and what restarts read of it, first and last, [hps, R]."""
  net, task = MLP, classification.classification(K)
  client = fedsgd.fedsgd(net, task)
  attack = factory(worlds.World(net, task, client, batch_size), **kwargs)
  message = types.ServerMessage(net.init(jax.random.key(0)))
  shape = (batch_size, *net.spec.image_shape)
  x = jax.random.uniform(jax.random.key(1), shape)
  batch = types.Batch(x, jnp.arange(batch_size) + 1)
  update = client.update(jax.random.key(0), message, batch)[0]
  side = {'labels': batch.y} if 'labels' in attack.needs else {}
  obs = types.Observation(message, update, side)

  def restart(hp, key):
    start = attack.init(keys.named(key, 'init'), obs, hp)

    def step(state, t):
      return attack.step(keys.at(key, t), state, obs, hp)

    end, _ = jax.lax.scan(step, start, jnp.arange(attack.num_steps))
    return attack.read(start, obs, hp), attack.read(end, obs, hp)

  over_restarts = jax.vmap(restart, (None, 0))
  hps = {n: jnp.asarray(hps.get(n, [v])) for n, v in attack.hparams.items()}
  widest = max(map(len, hps.values()))
  hps = {n: jnp.broadcast_to(v, widest) for n, v in hps.items()}
  seeds = jax.random.split(jax.random.key(2), RESTARTS)
  return batch, *jax.jit(jax.vmap(over_restarts, (0, None)))(hps, seeds)


@pytest.mark.parametrize(
  ('factory', 'batch_size', 'least', 'kwargs'),
  [
    (dlg.dlg, 1, 1, _LBFGS),
    (idlg.idlg, 1, 2, _LBFGS),
    (inverting_gradients.inverting_gradients, 2, 2, _ADAM),
    (
      inverting_gradients.inverting_gradients,
      2,
      2,
      dict(leaf_weights='linear', top_leaves=3, **_ADAM),
    ),
    (
      modern.modern,
      2,
      2,
      dict(features=0.01, double_opponents=False, warmup_steps=5, **_ADAM),
    ),
    (multiscale.multiscale, 2, 2, dict(stages=2, **_ADAM)),
    (sapag.sapag, 2, 2, dict(num_steps=300)),
    (partial_matching.partial_matching, 2, 2, dict(radius=0.01, **_ADAM)),
    (wei.wei, 1, 2, dict(task_loss=1e-4, **_LBFGS)),
    (beyond_inferring.beyond_inferring, 1, 2, _LBFGS | dict(total_variation=0)),
  ],
)
def test_finds_the_images(factory, batch_size, least, kwargs):
  batch, first, last = attacked(factory, batch_size, {}, **kwargs)
  assert METRICS['psnr'].score(first.batch.x, batch.x).max() < 15
  psnr = METRICS['psnr'].score(last.batch.x, batch.x)[0]
  best = int(np.argmin(last.score[0]))
  assert psnr[best].min() >= 25
  np.testing.assert_array_equal(last.batch.y[0, best], batch.y)
  # No single lucky start, where the labels are known.
  assert (psnr.min(axis=1) >= 25).sum() >= least


def test_total_variation_smooths():
  weights = {'total_variation': [0.0, 10.0]}
  factory = inverting_gradients.inverting_gradients
  _, _, last = attacked(factory, 1, weights, num_steps=100)
  rough, smooth = np.abs(np.diff(last.batch.x, axis=-2)).mean((1, 2, 3, 4, 5))
  assert smooth < 0.5 * rough
