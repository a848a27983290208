"""A small network, and weights of it that are altered by hand."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.clients import fedsgd
from giajax.models import base as models
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.parts import norms
from giajax.tasks import classification
from giajax.verify import base
from giajax.verify import VERIFIERS

K, B, SHAPE = 4, 8, (6, 6, 3)
KEY = jax.random.key(0)
FIRST = 'hidden'


class Net(nnx.Module):
  """A convolution, BatchNorm, a hidden layer and a classifier."""

  def __init__(self, rngs):
    self.conv = layers.Conv(3, 6, 3, 1, 1, rngs=rngs)
    self.norm = norms.BatchNorm(6, rngs=rngs)
    self.hidden = layers.Linear(6 * 36, 40, rngs=rngs)
    self.fc = layers.Linear(40, K, rngs=rngs)

  def __call__(self, x):
    x = layers.flatten(jax.nn.relu(self.norm(self.conv(x))))
    return self.fc(jax.nn.relu(self.hidden(x)))


@functools.cache
def view():
  net = from_nnx.from_nnx(Net, models.make_spec('tiny', SHAPE, K, 'half'))
  return base.view(net, classification.classification(K))


@functools.cache
def fresh(seed=0):
  return view().net.init(jax.random.key(seed))


@functools.cache
def probe():
  x = jax.random.uniform(jax.random.key(1), (B, *SHAPE))
  return types.Batch(x, jnp.arange(B, dtype=jnp.int32) % K)


def received(seed=0, **changed):
  """Returns a message with leaves changed: hidden__kernel=(leaf -> leaf)."""
  parts = []
  for part in fresh(seed):
    leaves = trees.named_leaves(part)
    for name, change in changed.items():
      name = name.replace('__', '.')
      if name in leaves:
        leaves[name] = jnp.asarray(change(leaves[name]), jnp.float32)
    parts.append(trees.nested(leaves))
  return types.ServerMessage(types.Variables(*parts))


def bins(like):
  """A mean of everything in each unit."""
  return jnp.full(like.shape, 1 / like.shape[0])


def cuts(like):
  return -jnp.linspace(0.0, 0.3, len(like))


def mirrored(like):
  """Trap weights: a row's positive half is 0.9 of its negative half."""
  rng = np.random.default_rng(0)
  rows = []
  for _ in range(like.shape[1]):
    half = np.abs(rng.normal(size=like.shape[0] // 2))
    row = np.concatenate([-half, 0.9 * half])
    rows.append(rng.permutation(row))
  return np.stack(rows, 1)


def selecting(like):
  """Unit i answers image i of the probe alone."""
  path = FIRST
  out = view().net.apply(fresh(), probe().x, taps=[f'{path}.input'])
  inputs = np.asarray(out.taps[f'{path}.input'])
  targets = np.resize(np.eye(B), (like.shape[1], B)).T - 0.5
  return np.linalg.lstsq(inputs, targets, rcond=None)[0]


def identity(like):
  kernel = np.zeros(like.shape)
  for unit in range(like.shape[3]):
    kernel[1, 1, unit % 3, unit] = 1
  return kernel


def one_row(like):
  return jnp.zeros_like(like).at[:, 1].set(0.5)


def one_column(like):
  return jnp.zeros_like(like).at[3].set(300.0)


def surplus():
  message = received()
  leaves = trees.named_leaves(message.variables.params)
  leaves['front.kernel'] = jnp.ones((108, 9))
  leaves['front.back.kernel'] = jnp.ones((9, 108))
  params = trees.nested(leaves)
  return types.ServerMessage(message.variables._replace(params=params))


# Biases that leave only the last image of the probe, of class 3, unlearned.
def only_last(like):
  return jnp.where(jnp.arange(len(like)) == 0, 60.0, 0.0)


LAST = types.Batch(probe().x, jnp.array([0] * (B - 1) + [3], jnp.int32))


def run(name, message, images=None):
  known = view()._replace(accepted=fresh())
  return VERIFIERS[name](known)(KEY, message, images or probe())


def run_bare(name):
  return VERIFIERS[name](view())(KEY, received(), probe())


def stepped(seed):
  """Returns what an honest server sends after a round of one step."""
  client = fedsgd.fedsgd(view().net, classification.classification(K))
  batch = types.Batch(
    jax.random.uniform(jax.random.key(9), (B, *SHAPE)), probe().y
  )
  sent, _ = client.update(KEY, received(seed), batch)
  params = jax.tree.map(
    lambda p, g: p - 0.1 * g, fresh(seed).params, sent.delta
  )
  return types.ServerMessage(fresh(seed)._replace(params=params))


def scaled(factor):
  return lambda leaf: factor * leaf


def as_is(value):
  return lambda leaf: value
