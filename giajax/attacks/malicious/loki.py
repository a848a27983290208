"""LOKI: a place of its own for each client's gradients in their aggregate.

Zhao, Sharma, Elkordy, Ezzeldin, Avestimehr and Bagchi, LOKI: Large-scale Data
Reconstruction Attack against Federated Learning through Model Manipulation,
IEEE S&P 2024, arXiv 2303.12233. In front of the imprint layer of `imprint`,
with its bounded activation, stands a convolution to one set of channels for
each of the n clients. Client j receives kernels that are s times the identity
in set j and zero in all others (s, their convolutional scaling factor). ReLU
leaves nothing of the other sets, the linear layer has no gradient there, and
the mean over clients keeps part j of it as client j sent it, over n.

The biases' gradients do mix, so that of each unit and client only the direction
g of an image is known. The unit's bin says what its brightness must be:

  x = g m / mean(g)    with m the median of the bin

The images of one client fall into the bins as those of Robbing the Fed, and so
many of N come back: N (1 - 1/k)^(B-1) with B of a client. A large s keeps its
weights small beside their updates, and a unit that an image has changed far off
what others would reach in later steps.

Deviations: the authors scale an image by its own least and largest value, here
by its bin, which most photographs fit better. The kernels also undo the
network's normalisation, so that ReLU finds no negative value. The layer behind
is scaled for the network to read grey images of variance 1, theirs by 1000. The
statistics are the same for all clients, not learned for each over rounds.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import backdrop
from giajax.attacks.parts import imprint
from giajax.models import base as models
from giajax.models import layers

_CONV = f'{models.FRONT}.conv'
_FIRST = f'{models.FRONT}.bins.first'
_SECOND = f'{models.FRONT}.bins.second'


class Sets(layers.Layer):
  """A convolution to a set of channels for each client, and bins behind it."""

  def __init__(self, image_shape, clients, bins, *, rngs):
    channels = image_shape[-1]
    self.conv = layers.Conv(channels, clients * channels, 3, 1, 1, rngs=rngs)
    inputs = clients * math.prod(image_shape)
    self.bins = imprint.Front(inputs, image_shape, bins, 1.0, rngs=rngs)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps normalised images [B, H, W, C] to the same shape."""
    return self.bins(jax.nn.relu(self.conv(x)))


def loki(
  world: worlds.World,
  *,
  bins: int = 256,
  law: str = 'gaussian',
  location: float | None = None,
  scale: float | None = None,
  scaling: float = 500.0,
) -> base.Attack:
  """Each client's images from an aggregate, by kernels of its own.

  Args:
    world: the attacker's picture of the system, of at least 2 clients.
    bins: k, of equal mass; the authors take four for each image of a client.
    law: of an image's brightness, a name in `imprint.LAWS`.
    location: mean brightness, in [0, 1]; from 'proxy_data' if None.
    scale: its standard deviation, likewise.
    scaling: s, above 0.

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
  share = world.batch_size // clients
  imprint.check(world, 'loki', bins, share, law, location, scale)
  if not 0 < scaling < math.inf:
    raise ValueError(
      f'Expected a finite scaling above 0; got scaling={scaling}; the authors '
      'take 500'
    )
  spec = world.net.spec
  shape = spec.image_shape
  size = math.prod(shape)
  kernels, offsets = _identities(spec, clients, scaling)
  ends = imprint.edges(law, bins)
  grid = imprint.centres(law, min(bins, 1000)) - ends[:-1, None]
  gain, shift = imprint.passed_on(np.clip(grid / np.diff(ends)[:, None], 0, 1))

  behind = backdrop.backdrop(world.net)

  def make(*, rngs):
    return Sets(shape, clients, bins, rngs=rngs)

  def brightness(side, at):
    """Maps deviations from the mean to brightness in [0, 1]."""
    weights = imprint.mean(jax.random.key(0), shape)
    centre, deviation = imprint.statistics(side, weights, location, scale)
    return jnp.clip(centre + deviation * at, 0, 1)

  def craft(key, message, side, history):
    del key, history
    cuts = brightness(side, ends)
    # Bins that the law puts outside [0, 1] are as good as none.
    widths = jnp.maximum(jnp.diff(cuts), 1e-6)
    slopes = jnp.broadcast_to(
      1 / (scaling * size * widths), (clients * size, bins)
    )
    leaves = {
      f'{_FIRST}.kernel': slopes,
      f'{_FIRST}.bias': -cuts[:-1] / widths,
      f'{_SECOND}.kernel': jnp.full((bins, size), gain),
      f'{_SECOND}.bias': shift + jnp.asarray(behind),
    }
    each = {f'{_CONV}.kernel': kernels, f'{_CONV}.bias': offsets}
    return base.put(message, leaves)._replace(each=each)

  needs = {
    'model',
    'batch_size',
    'alter_architecture',
    'alter_parameters',
    'individual_models',
  } | imprint.knowledge(location)

  def bounds(side):
    # The outer bins reach far beyond where their images are.
    medians = imprint.centres(law, bins)
    return brightness(side, ends), brightness(side, medians)

  read, on_net = _reading(world, bins, bounds), imprint.insert(make)
  return base.closed_form(read, needs=needs, craft=craft, on_net=on_net)


def _reading(world, bins, bounds):
  """Returns the attack's `read`.

  Args:
    world: of the attack.
    bins: k.
    bounds: `(side) -> ([bins + 1], [bins])`, ends and medians of the bins in
      [0, 1].
  """
  clients, shape = world.client.clients, world.net.spec.image_shape
  share, size = world.batch_size // clients, math.prod(shape)
  # Over local steps an image may reach several units.
  considered = bins if world.client.local_steps > 1 else min(bins, share)

  def read(obs):
    name = f'{_FIRST}.kernel'
    sent = trees.named_leaves(obs.update.delta)[name]
    kernel = world.client.as_gradient({name: sent})[name]
    cuts, medians = bounds(obs.side)

    def one(part):
      level = part.mean(0)
      # What a unit weighs, whatever its slope.
      mass = jnp.abs(level) * jnp.diff(cuts) / jnp.maximum(medians, 1e-6)
      amount, picked = jax.lax.top_k(mass, considered)
      known = jnp.where(level == 0, 1.0, level)[picked]
      flat = part[:, picked].T * (medians[picked] / known)[:, None]
      found = imprint.Candidates(imprint.unflatten(flat, shape), amount)
      return imprint.reconstruction(found, share, share)

    parts = jax.lax.map(one, kernel.reshape(clients, size, bins))
    batch = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), parts.batch)
    return types.Reconstruction(
      batch, parts.valid.reshape(-1), parts.score.mean()
    )

  return read


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
