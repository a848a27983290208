"""Data leakage in federated averaging: the client's epochs, simulated.

Dimitrov, Balunović, Konstantinov and Vechev, Data Leakage in Federated
Averaging, TMLR 2022, arXiv 2206.12395.

Assumed known: the model, the client's protocol, the number of images and the
labels. The order in which the client took its images is not known, so each
epoch has candidate images of its own, [E, B, H, W, C], and the simulated
training takes them in their order:

  min over x  D(simulated(x), observed) + a TV(x) + c R(x)

where R makes the epochs agree on one set of images, in any order
(`priors.epoch_order`). In the end each epoch's images are assigned to those of
the first, among images of one label, and averaged.

Differs from the authors' code: the distance is the cosine; the optimiser is
Adam on signs with the steps of `inverting_gradients`; labels are not inferred
along the simulated steps (use a label rule).
"""

import jax
import jax.numpy as jnp
from optax import assignment

from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import distances
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.priors import epoch_order as order
from giajax.priors import total_variation as variation
from giajax.tasks import base as tasks

_APART = 1e6  # a squared distance above that of any two images


def dimitrov(
  world: worlds.World,
  *,
  num_steps: int = 4_000,
  learning_rate: float = 0.1,
  total_variation: float = 1e-3,
  epoch_order: float = 0.1,
  distance: str | distances.Distance = 'cosine',
  start: str = 'normal',
) -> base.Attack:
  """Simulated local training, with separate images for each epoch.

  Args:
    world: the attacker's picture; its client takes local epochs.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    total_variation: the weight of the prior; traced.
    epoch_order: the weight of the prior; traced.
    distance: the distance of the updates, a name in `DISTANCES` or a Distance.
    start: a start as in `starts.parse`, except 'target'.

  Raises:
    ValueError: a client that does not say what its epochs do, or a start from
      the truth.
  """
  client, images = world.client, world.batch_size
  if client.unrolled is None:
    raise ValueError(
      'Expected a single client that takes local epochs, without a '
      'defence on its update; got one that cannot be simulated; set '
      'belief.name to fedavg, or use inverting_gradients'
    )
  if start.startswith('target'):
    raise ValueError(
      'Expected a start that each epoch can have for itself; got '
      f'start={start!r}; use another'
    )
  simulated = world._replace(
    client=client._replace(update=client.unrolled, moments=None),
    batch_size=client.epochs * images,
  )
  pixels = variables.pixels(simulated, start=start)

  def batch(tree, obs):
    one_epoch = pixels.batch(tree, obs)
    every = jax.tree.map(
      lambda leaf: jnp.concatenate([leaf] * client.epochs), one_epoch.y
    )
    return one_epoch._replace(y=every)

  attack = match.match(
    simulated,
    variable=pixels._replace(batch=batch),
    distance=distance,
    terms={
      'total_variation': (total_variation, variation.total_variation(world)),
      'epoch_order': (
        epoch_order,
        order.epoch_order(world, epochs=client.epochs),
      ),
    },
    optimizer=optimizers.signed_adam(num_steps),
    num_steps=num_steps,
    learning_rate=learning_rate,
  )

  def read(state, obs, hp):
    (x, y), _, score = attack.read(state, obs, hp)
    x = x.reshape(client.epochs, images, *x.shape[1:])
    y = jax.tree.map(lambda leaf: leaf[:images], y)
    alike = tasks.shares(world.task.same, y, y) == 1
    mean = jnp.mean(jax.vmap(lambda own: _align(x[0], own, alike))(x), axis=0)
    valid = jnp.ones(images, bool)
    return types.Reconstruction(types.Batch(mean, y), valid, score)

  return attack._replace(read=read, steady=optimizers.STEADY)


def _align(first: types.Array, own: types.Array, alike: types.Array):
  """Returns the images in the order of the first epoch's most similar ones.

  Only images whose targets are `alike` [B, B] change places.
  """
  a, b = (x.reshape(len(x), -1) for x in (first, own))
  costs = jnp.sum(jnp.square(a[:, None] - b[None]), axis=-1)
  costs = jnp.where(alike, costs, _APART)
  rows, columns = assignment.hungarian_algorithm(costs)
  return own[columns[jnp.argsort(rows)]]
