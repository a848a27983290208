"""Inversion networks: from updates to the images behind them.

Every step draws batches of auxiliary images, computes the update of each as the
attacker believes the client does, and changes a network by Adam so that its
images of these updates have a smaller mean squared error,

  (1)  min over w  E (1/B) sum_i |G_w(z(u(x)))_i - x_p(i)|^2 / pixels

u the update, z what the network reads of it (`attacks.generative.lti.latents`
or `fgla.latents`), p the identity, or the permutation of least error where
nothing in z orders the images. What is learned holds for one message, the
weights that the server sends, and for clients like the one that is pictured.

Differs from the authors' code, LTI's and FGLA's: no update is kept, batches
are drawn anew; the learning rate falls along a cosine.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from giajax import registry
from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.generative import fgla
from giajax.attacks.generative import lti
from giajax.attacks.parts import inversion_networks
from giajax.generative import base as generative
from giajax.learners import base


class Reader(NamedTuple):
  """What a network reads of an update.

  Attributes:
    latents: `(world) -> latents`, see `inversion_networks.Latents`.
    ordered: whether latents are in the order of the images; if not, the order
      of least error is taken.
  """

  latents: Callable[[worlds.World], inversion_networks.Latents]
  ordered: bool


# By the name of the network, which is that of its attack.
READERS = {
  'fgla': Reader(fgla.latents, ordered=True),
  'lti': Reader(lti.latents, ordered=False),
}


class State(NamedTuple):
  """Where training stands."""

  variables: types.Variables  # of the network
  optimizer: optax.OptState


def inversion(
  world: worlds.World,
  generator: generative.Generator,
  message: types.ServerMessage,
  *,
  num_steps: int,
  batch_size: int = 64,
  learning_rate: float = 1e-3,
) -> base.Learner:
  """A network from updates to images, by the mean squared error.

  Its losses are 'mse', of images in [0, 1].

  Args:
    world: the attacker's picture of the system.
    generator: the network, one of those in `READERS`.
    message: what the server sends, as far as the attacker sees it.
    num_steps: the number of steps, after which the learning rate is 0; a few
      hundred at least, or running statistics stay near those of the start.
    batch_size: the number of updates in a step, at least 2.
    learning_rate: the learning rate of Adam in the first step.

  Raises:
    ValueError: a number out of range, or another generator.
  """
  require.whole(num_steps, 'num_steps')
  require.whole(batch_size, 'batch_size', least=2, advice='use 64')
  require.positive(learning_rate, 'learning_rate', advice='use 1e-3')
  optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))
  measure = error(world, generator, message)

  def init(key):
    variables = generator.init(key)
    return trees.strong(State(variables, optimizer.init(variables.params)))

  def step(key, state, batch):
    def loss(params):
      variables = state.variables._replace(params=params)
      return measure(key, variables, batch, train=True)

    params = state.variables.params
    (mse, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, memory = optimizer.update(gradient, state.optimizer, params)
    params = optax.apply_updates(params, updates)
    return State(types.Variables(params, stats), memory), {'mse': mse}

  def read(key, state):
    del key
    return state.variables

  return base.Learner(init, step, read, batch_size * world.batch_size)


def error(
  world: worlds.World,
  generator: generative.Generator,
  message: types.ServerMessage,
) -> Callable[..., tuple[types.Array, types.Tree]]:
  """Returns what (1) is of some batches, and the running statistics then.

  It is a function `(key, variables, batch, train=False)` of n whole batches one
  after the other, [n B, H, W, C], whose updates are computed under one vmap.

  Args:
    world: the attacker's picture of the system.
    generator: the network, one of those in `READERS`.
    message: what the server sends, as far as the attacker sees it.

  Raises:
    ValueError: another generator.
  """
  reader = registry.lookup(READERS, generator.spec.name, 'inversion network')
  latents = reader.latents(world)

  def observe(key, batch):
    with jax.default_matmul_precision('highest'):  # as clients of an audit do
      update, _ = world.client.update(key, message, batch)
    obs = types.Observation(message, update, {'labels': batch.y})
    return latents(obs, batch.y)

  def measure(key, variables, batch, train=False):
    apart = jax.tree.map(
      lambda leaf: leaf.reshape(-1, world.batch_size, *leaf.shape[1:]), batch
    )
    z = jax.vmap(observe)(jax.random.split(key, len(apart.x)), apart)
    z = jax.lax.stop_gradient(z.reshape(-1, *z.shape[2:]))
    output = generator.apply(variables, z, train=train)
    x_hat = output.out.reshape(apart.x.shape)
    x = apart.x if reader.ordered else _matched(apart.x, x_hat)
    return jnp.mean(jnp.square(x_hat - x)), output.stats

  return measure


def _matched(x: types.Array, x_hat: types.Array) -> types.Array:
  """Returns the images of each batch in the order of least squared error.

  Args:
    x: [N, B, H, W, C] images.
    x_hat: as `x`, what they are compared with.
  """
  if x.shape[1] == 1:
    return x
  a, b = (v.reshape(*v.shape[:2], -1) for v in (x_hat, x))
  # Up to what a permutation does not change.
  cost = -jax.lax.stop_gradient(jnp.einsum('nid,njd->nij', a, b))
  rows, columns = jax.vmap(optax.assignment.hungarian_algorithm)(cost)
  order = jax.vmap(lambda r, c: jnp.zeros_like(c).at[r].set(c))(rows, columns)
  return jnp.take_along_axis(x, order[:, :, None, None, None], axis=1)
