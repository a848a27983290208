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

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.parts import inversion_networks
from giajax.generative import base as generative
from giajax.learners import base


class State(NamedTuple):
  """Where training stands."""

  variables: types.Variables  # of the network
  optimizer: optax.OptState


def inversion(
  world: worlds.World,
  generator: generative.Generator,
  message: types.ServerMessage,
  latents: inversion_networks.Latents,
  *,
  ordered: bool,
  num_steps: int,
  batches: int = 32,
  learning_rate: float = 1e-3,
) -> base.Learner:
  """A network from updates to images, by the mean squared error.

  Its losses are 'mse', of images in [0, 1].

  Args:
    world: the attacker's picture of the system.
    generator: the network.
    message: what the server sends, as far as the attacker sees it.
    latents: what the network reads of an update.
    ordered: whether latents are in the order of the images; if not, the order
      of least error is taken.
    num_steps: the number of steps, after which the learning rate is 0; a few
      hundred at least, or running statistics stay near those of the start.
    batches: the number of updates in a step.
    learning_rate: the learning rate of Adam in the first step.

  Raises:
    ValueError: a number out of range.
  """
  require.whole(num_steps, 'num_steps')
  require.whole(batches, 'batches', least=2, advice='use 32')
  require.positive(learning_rate, 'learning_rate', advice='use 1e-3')
  optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

  def observe(key, batch):
    update, _ = world.client.update(key, message, batch)
    obs = types.Observation(message, update, {'labels': batch.y})
    return latents(obs, batch.y)

  def init(key):
    variables = generator.init(key)
    return trees.strong(State(variables, optimizer.init(variables.params)))

  def step(key, state, batch):
    apart = jax.tree.map(
      lambda leaf: leaf.reshape(batches, -1, *leaf.shape[1:]), batch
    )
    z = jax.vmap(observe)(jax.random.split(key, batches), apart)
    z = z.reshape(-1, *z.shape[2:])

    def loss(params):
      variables = state.variables._replace(params=params)
      output = generator.apply(variables, z, train=True)
      x_hat = output.out.reshape(apart.x.shape)
      x = apart.x if ordered else _matched(apart.x, x_hat)
      return jnp.mean(jnp.square(x_hat - x)), output.stats

    params = state.variables.params
    (mse, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, memory = optimizer.update(gradient, state.optimizer, params)
    params = optax.apply_updates(params, updates)
    return State(types.Variables(params, stats), memory), {'mse': mse}

  return base.Learner(
    init,
    step,
    lambda key, state: state.variables,
    batches * world.batch_size,
  )


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
