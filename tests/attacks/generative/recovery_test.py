"""Generative attacks find images on networks that give them away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import data
from giajax import keys
from giajax import types
from giajax import world as worlds
from giajax.attacks.generative import ci_net
from giajax.attacks.generative import grnn
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 16


@pytest.mark.parametrize(
  ('factory', 'size', 'kwargs'),
  [
    (ci_net.ci_net, 7, dict(num_steps=200, width=8, latent=8)),
    (grnn.grnn, 8, dict(num_steps=200, width=8, total_variation=0.0)),
  ],
)
def test_finds_a_photograph_and_its_label(factory, size, kwargs):
  images = data.DATASETS['photographs'](size=size)
  batch = images.take([3])
  net = mlp.mlp((size, size, 3), K, widths=(32,), activation='sigmoid')
  task = classification.classification(K)
  client = fedsgd.fedsgd(net, task)
  attack = factory(worlds.World(net, task, client, 1), **kwargs)
  message = types.ServerMessage(net.init(jax.random.key(0)))
  update = client.update(jax.random.key(0), message, batch)[0]
  side = {'labels': batch.y} if 'labels' in attack.needs else {}
  obs, hp = types.Observation(message, update, side), dict(attack.hparams)

  @jax.jit
  def run(key):
    def step(state, t):
      return attack.step(keys.at(key, t), state, obs, hp)

    start = attack.init(key, obs, hp)
    end, infos = jax.lax.scan(step, start, jnp.arange(attack.num_steps))
    return attack.read(start, obs, hp), attack.read(end, obs, hp), infos

  first, last, infos = run(jax.random.key(1))
  before, after = (
    METRICS['psnr'].score(found.batch.x, batch.x)[0] for found in (first, last)
  )
  assert infos.finite.all()
  assert before < 15 and after > 18, (before, after)
  np.testing.assert_array_equal(last.batch.y, batch.y)
