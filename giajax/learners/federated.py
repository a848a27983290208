"""Training with the updates that an audit attacks.

In each step, one client draws a batch and computes its update under its
defence, and the server uses that as the gradient of SGD: without a defence, and
with the client `fedsgd`, this is plain minibatch SGD. The accuracy under a
defence is the accuracy of a network that this learner trained under it.
"""

import optax

from giajax import require
from giajax import types
from giajax.clients import base as clients
from giajax.learners import base
from giajax.tasks import base as tasks


def federated(
  client: clients.Client,
  task: tasks.Task,
  start: types.Variables,
  *,
  num_steps: int,
  batch_size: int = 128,
  learning_rate: float = 0.1,
  momentum: float = 0.9,
  weight_decay: float = 5e-4,
  warmup_steps: int = 0,
) -> base.Learner:
  """SGD with the updates of a client.

  Args:
    client: what one client computes of a batch, its defence included.
    task: the task, for the loss that is shown.
    start: the variables to start from.
    num_steps: the number of steps T; the learning rate falls to 0 along a
      cosine.
    batch_size: the number of images behind one update.
    learning_rate: the highest learning rate, that of the first step without
      warm-up.
    momentum: the momentum of SGD, in [0, 1).
    weight_decay: the weight decay of every parameter, >= 0.
    warmup_steps: the steps over which the learning rate rises from 0, below T.

  Raises:
    ValueError: a number out of range.
  """
  require.whole(num_steps, 'num_steps')
  require.whole(batch_size, 'batch_size')
  require.positive(learning_rate, 'learning_rate', advice='use 0.1')
  require.fraction(momentum, 'momentum', zero=True, one=False)
  require.not_negative(weight_decay, 'weight_decay')
  require.whole(warmup_steps, 'warmup_steps', least=0)
  if warmup_steps >= num_steps:
    raise ValueError(
      f'Expected warmup_steps below the {num_steps} steps of the training; got '
      f'warmup_steps={warmup_steps}; lower it, or train for more epochs'
    )
  schedule = optax.warmup_cosine_decay_schedule(
    0.0 if warmup_steps else learning_rate,
    learning_rate,
    warmup_steps,
    num_steps,
  )
  optimizer = optax.chain(
    optax.add_decayed_weights(weight_decay), optax.sgd(schedule, momentum)
  )

  def init(key):
    del key
    return start, optimizer.init(start.params)

  def step(key, state, batch):
    variables, memory = state
    sent, output = client.update(key, types.ServerMessage(variables), batch)
    gradient = client.as_gradient(sent.delta)
    updates, memory = optimizer.update(gradient, memory, variables.params)
    params = optax.apply_updates(variables.params, updates)
    moved = variables._replace(params=params, stats=sent.stats)
    return (moved, memory), {'loss': clients.loss(task, output, batch.y)}

  def read(key, state):
    del key
    return state[0]

  return base.Learner(init, step, read, batch_size)
