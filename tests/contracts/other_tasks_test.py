"""What every row of ATTACKS promises for tasks that are no classification."""

import functools

from contracts import attack_setups
import jax
import jax.numpy as jnp
import pytest

from giajax import threat
from giajax import types
from giajax import world as worlds
from giajax.attacks import ATTACKS
from giajax.clients import aggregate
from giajax.tasks import base as tasks
from giajax.tasks import regression

K = 4
TASKS = {
  'regression': regression.regression(K),
  'loss': tasks.from_loss(lambda out, y: jnp.sum(out * y['a'], axis=1)),
}


def _targets(name, count):
  y = jnp.ones((count, K))
  return y if name == 'regression' else {'a': y}


@pytest.mark.parametrize('task_name', sorted(TASKS))
@pytest.mark.parametrize('name', sorted(ATTACKS))
def test_an_attack_refuses_a_task_or_is_traced(name, task_name):
  setup, task = attack_setups.SETUPS[name], TASKS[task_name]
  net = setup.net()

  def train(net):
    client = setup.client(net, task=task, train_mode=setup.train_mode)
    return aggregate.aggregate(client, setup.clients)

  world = worlds.World(net, task, train(net), setup.batch_size)
  try:
    attack = ATTACKS[name](world, **dict(setup.kwargs))
  except ValueError as error:
    assert 'task' in str(error).partition(';')[0], error
    return
  x = jnp.zeros((setup.batch_size, *net.spec.image_shape))
  batch = types.Batch(x, _targets(task_name, setup.batch_size))
  given = net if attack.on_net is None else attack.on_net(net)
  message = types.ServerMessage(given.init(jax.random.key(0)))
  needs = attack.needs - {'label_counts'}
  side = threat.side(needs, batch, K, lambda: x)

  def whole(key):
    history = ()
    for _ in range(attack.num_rounds):
      sent = attack.craft(key, message, side, history)
      update = train(given).update(key, sent, batch)[0]
      seen = threat.observed(needs, sent, update)
      history += (types.Observation(*seen, side),)
    obs = attack.merge(history)
    state = attack.init(key, obs, attack.hparams)
    if attack.num_steps:
      state, _ = attack.step(key, state, obs, attack.hparams)
    return attack.read(state, obs, attack.hparams)

  among = jax.vmap(whole, axis_name=worlds.RESTARTS)
  run = functools.partial(jax.eval_shape, among)
  found = run(jax.random.split(jax.random.key(0), 2))
  slots = found.valid.shape
  leaves = jax.tree.leaves(found.batch.y)
  assert slots[0] == 2 and all(leaf.shape[:2] == slots for leaf in leaves)
