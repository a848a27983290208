"""LOKI: a separate place in the aggregate for each client's gradients.

Zhao, Sharma, Elkordy, Ezzeldin, Avestimehr and Bagchi, LOKI: Large-scale Data
Reconstruction Attack against Federated Learning through Model Manipulation,
IEEE S&P 2024, arXiv 2303.12233. In front of the imprint layer of `imprint`,
with its bounded activation, stands a convolution to one set of channels for
each of the n clients:

  (1)  client j receives kernels that are s times the identity in set j and
       zero in all others (s, their convolutional scaling factor)

ReLU leaves nothing of the other sets, and the linear layer has no gradient
there. In the mean over the clients, part j is therefore what client j sent,
divided by n.

The gradients of the biases do mix, so only the direction g of an image is known
for each unit and client. The unit's bin says what its brightness must be:

  (2)  x = g m / mean(g)    with m the median of the bin

The images of one client fall into the bins as in Robbing the Fed, so of N
images N (1 - 1/k)^(B-1) come back, where B is the batch size of one client. A
large s keeps the weights small compared with their updates, and moves a unit
that an image has changed far away from what other images would reach in later
steps.

Assumed known: the model, the batch size and the number of clients; the server
alters the architecture and sends each client parameters of its own; mean and
deviation of an image's brightness, or proxy images to measure them.

Differs from the authors: they scale an image by its own smallest and largest
value; here its bin gives the scale, which fits most photographs better. The
kernels also undo the network's normalisation, so that ReLU meets no negative
value. The layer after it is scaled so that the network reads grey images of
variance 1; theirs is scaled by 1000. The statistics are the same for all
clients, not learned for each client over the rounds.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import backdrop
from giajax.attacks.parts import candidates
from giajax.attacks.parts import image_vectors
from giajax.attacks.parts import imprint
from giajax.attacks.parts import measurements
from giajax.models import base as models
from giajax.models import layers

_CONV = f'{models.FRONT}.conv'
_FIRST = f'{models.FRONT}.bins.first'
_SECOND = f'{models.FRONT}.bins.second'


class Sets(layers.Layer):
  """A convolution to a set of channels for each client, and bins after it."""

  def __init__(self, image_shape, clients, bins, *, rngs):
    channels = image_shape[-1]
    self.conv = layers.Conv(channels, clients * channels, 3, 1, 1, rngs=rngs)
    inputs = clients * math.prod(image_shape)
    self.bins = imprint.Front(inputs, image_shape, bins, 1.0, rngs=rngs)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to the same shape."""
    return self.bins(jax.nn.relu(self.conv(x)))


class SetsPlan(NamedTuple):
  """What the server puts in front of the network.

  Attributes:
    world: the attacker's picture of the system.
    bins: k.
    law: the law of an image's brightness.
    location: the mean brightness, or None to measure it.
    scale: the standard deviation of the brightness, treated like `location`.
    scaling: s.
    gain: every entry of V.
    shift: every entry of e.
  """

  world: worlds.World
  bins: int
  law: str
  location: float | None
  scale: float | None
  scaling: float
  gain: float
  shift: float


def loki(
  world: worlds.World,
  *,
  bins: int = 256,
  law: str = 'gaussian',
  location: float | None = None,
  scale: float | None = None,
  scaling: float = 500.0,
) -> base.Attack:
  """Each client's images from an aggregate, by separate kernels per client.

  Args:
    world: the attacker's picture of the system, of at least 2 clients.
    bins: the number of bins k, of equal mass; the authors take four for each
      image of a client.
    law: the law of an image's brightness, a name in `measurements.LAWS`.
    location: the mean brightness, in [0, 1]; measured on 'proxy_data' if None.
    scale: the standard deviation of the brightness, treated like `location`.
    scaling: the scaling factor s, above 0.

  Raises:
    ValueError: a name that does not exist, a number outside its range, fewer
      bins than images of a client, a network that takes no layer in front, or
      a single client.
  """
  clients = world.client.clients
  if clients < 2:
    raise ValueError(
      f'Expected an aggregate of at least 2 clients for loki; got clients='
      f'{clients}; set cases.clients, or use robbing_the_fed'
    )
  imprint.check(
    world,
    'loki',
    bins=bins,
    images=world.batch_size // clients,
    law=law,
    location=location,
    scale=scale,
  )
  require.positive(scaling, 'scaling', advice='the authors take 500')

  ends = measurements.edges(law, bins)
  grid = measurements.centres(law, min(bins, 1000)) - ends[:-1, None]
  gain, shift = imprint.grey_levels(
    np.clip(grid / np.diff(ends)[:, None], 0, 1)
  )
  plan = SetsPlan(world, bins, law, location, scale, scaling, gain, shift)
  needs = {
    'model',
    'batch_size',
    'alter_architecture',
    'alter_parameters',
    'individual_models',
  }
  return base.closed_form(
    functools.partial(_read, plan),
    needs=needs | measurements.knowledge(location),
    craft=functools.partial(_craft, plan),
    on_net=imprint.insert(functools.partial(_front, plan)),
  )


def _front(plan, *, rngs):
  shape, clients = plan.world.net.spec.image_shape, plan.world.client.clients
  return Sets(shape, clients, plan.bins, rngs=rngs)


def _brightness(plan, side, at):
  """Maps deviations from the mean to brightness in [0, 1]."""
  f = measurements.mean(jax.random.key(0), plan.world.net.spec.image_shape)
  centre, deviation = measurements.statistics(
    side, f, plan.location, plan.scale
  )
  return jnp.clip(centre + deviation * at, 0, 1)


def _craft(plan, key, message, side, history):
  """Returns the bins for all clients, and each client's kernels (1)."""
  del key, history
  spec, clients = plan.world.net.spec, plan.world.client.clients
  size = math.prod(spec.image_shape)
  cuts = _brightness(plan, side, measurements.edges(plan.law, plan.bins))
  # Bins that the law puts outside [0, 1] hold no image.
  widths = jnp.maximum(jnp.diff(cuts), 1e-6)
  slopes = 1 / (plan.scaling * size * widths)
  leaves = {
    f'{_FIRST}.kernel': jnp.broadcast_to(slopes, (clients * size, plan.bins)),
    f'{_FIRST}.bias': -cuts[:-1] / widths,
    f'{_SECOND}.kernel': jnp.full((plan.bins, size), plan.gain),
    f'{_SECOND}.bias': plan.shift + backdrop.backdrop(plan.world.net),
  }
  kernels, offsets = _identities(spec, clients, plan.scaling)
  each = {f'{_CONV}.kernel': kernels, f'{_CONV}.bias': offsets}
  return base.put(message, leaves)._replace(each=each)


def _identities(spec, clients, scaling):
  """Returns each client's kernels [n, 3, 3, C, n C] and biases [n, n C]."""
  channels = spec.image_shape[-1]
  kernels = np.zeros((clients, 3, 3, channels, clients, channels), np.float32)
  offsets = np.zeros((clients, clients, channels), np.float32)
  for j in range(clients):
    kernels[j, 1, 1, :, j] = scaling * np.diag(spec.std)
    offsets[j, j] = scaling * np.asarray(spec.mean)
  flat = clients * channels
  return (
    jnp.asarray(kernels.reshape(clients, 3, 3, channels, flat)),
    jnp.asarray(offsets.reshape(clients, flat)),
  )


def _read(plan, obs):
  """Returns the images of all clients, [n B, H, W, C], one after the other."""
  world, name = plan.world, f'{_FIRST}.kernel'
  clients, size = world.client.clients, math.prod(world.net.spec.image_shape)
  own = {name: trees.named_leaves(obs.update.delta)[name]}
  kernel = world.client.as_gradient(own)[name]
  cuts = _brightness(plan, obs.side, measurements.edges(plan.law, plan.bins))
  # The outer bins reach far beyond where their images are.
  medians = measurements.centres(plan.law, plan.bins)
  medians = _brightness(plan, obs.side, medians)
  parts = jax.lax.map(
    lambda part: _of_client(plan, part, cuts, medians),
    kernel.reshape(clients, size, plan.bins),
  )
  batch = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), parts.batch)
  return types.Reconstruction(
    batch, parts.valid.reshape(-1), parts.score.mean()
  )


def _of_client(plan, part, cuts, medians):
  """Returns the images of a client.

  Args:
    plan: the plan of the attack.
    part: the client's own part of the gradient, [d, k].
    cuts: the ends of the bins, in brightness, [k + 1].
    medians: the medians of the bins, [k].
  """
  world, bins = plan.world, plan.bins
  share = world.batch_size // world.client.clients
  # Over several local steps, an image may reach several units.
  considered = bins if world.client.local_steps > 1 else min(bins, share)
  level = part.mean(0)
  # The weight of a unit, whatever its slope.
  mass = jnp.abs(level) * jnp.diff(cuts) / jnp.maximum(medians, 1e-6)
  amount, units = jax.lax.top_k(mass, considered)
  level = jnp.where(level == 0, 1.0, level)[units]
  flat = part[:, units].T * (medians[units] / level)[:, None]  # (2)
  x = image_vectors.to_image(flat, world.net.spec.image_shape)
  return candidates.reconstruction(
    candidates.Candidates(x, amount), share, share
  )
