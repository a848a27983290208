"""Tests of honest models and of the rounds between two messages."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.clients import fedsgd
from giajax.data import DATASETS
from giajax.tasks import classification
from giajax.verify.calibration import honest_models


def test_an_honest_round_is_plain_sgd(monkeypatch):
  tiny = dict(name='mlp', widths=(8,))
  monkeypatch.setattr(honest_models, 'FRESH', {'tiny': tiny})
  images = DATASETS['photographs'](size=8)
  (honest,) = honest_models.fresh(images, ['tiny'], 1)
  before = honest_models.variables(honest, 0)
  task = classification.classification(images.num_classes)
  client = fedsgd.fedsgd(honest.net, task)
  for turn in (0, 1):  # one step, and five
    after = honest_models.one_round(honest)(
      before, np.random.default_rng(7), turn
    )
    rng, variables = np.random.default_rng(7), before
    for _ in range(honest_models.steps(turn)):
      batch = images.take(rng.choice(images.size, 16, replace=False))
      message = types.ServerMessage(variables)
      sent, _ = client.update(jax.random.key(0), message, batch)
      params = jax.tree.map(
        lambda p, g: p - 0.01 * g, variables.params, sent.delta
      )
      variables = variables._replace(params=params)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
      after.params,
      variables.params,
    )
    moved = jax.tree.map(jnp.subtract, after.params, before.params)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(moved)) > 1e-4
