"""MKOR: linear layers that keep classes apart behind convolutions that copy.

Wang, Velipasalar and Gursoy, Maximum Knowledge Orthogonality Reconstruction
with Gradients in Federated Learning, WACV 2024, arXiv 2310.19222. Chosen over
Scale-MIA (Shi et al., NDSS 2025, arXiv 2311.05808), which needs an autoencoder
trained on data like the client's, because this needs no data and no training.

The convolutions hand the image on (`passing`). Every row of the first linear
layer is the mean of its input h >= 0, and all others are the identity, so that
unit c of each, c < K, only feeds the logit of class c. All logits of an image
are equal then, and all softmax probabilities q_c = 1/K; with n_c images of
class c, S_c the sum of their h and T that of all, B times the gradients of row
c are

  dL/db_c = B q_c - n_c          dL/dW_c = q_c T - S_c

T is known from a class without images; with B >= K there may be none, and the
bias of the last class of the last layer makes q_c nearly 0 for all others, for
which T plays no part, while that class is given up. S_c / n_c is the image of a
class where it has one, and the mean of them where it has more. Labels are what
the rows stand for.

Assumed known: the model and the batch size; the server alters weights.

Behind pools a pixel is known to lie between the extremes of windows alone,
whose side doubles with every pool (`passing`): VGG-16 in its CIFAR form has
five, and 512 features for 3,072 values, so that the window is the image and
only the labels are found (eight CIFAR-10 images: 10 to 17 dB). The score counts
images and does not see this.

Dropout makes logits and probabilities differ by what the server cannot know (no
image above 33 dB at a rate of 0.1), and is refused.

Differs from the authors: their released client takes the logits for
log-probabilities, whose gradient lacks q_c T, and pads convolutions by
repetition; what here is T they need not know. Their noise on the weights, which
hides them from a client, is left out; so is the smoothing of images.
"""

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import pixel_relay
from giajax.models import inspect

_SURE = 30.0  # logit of a class whose probability leaves no float32 to others


def mkor(world: worlds.World) -> base.Attack:
  """The image of each class that has one, in closed form, from any batch.

  Args:
    world: the attacker's picture of the system: a network of convolutions and
      2x2 max-pools, or nothing, in front of linear layers of at least K units
      with ReLU.

  Raises:
    ValueError: another network, or a client of several local steps or with
      random layers, such as dropout.
  """
  net, b, k = world.net, world.batch_size, world.net.spec.num_classes
  if world.client.local_steps != 1:
    raise ValueError(
      'Expected a client of one local step for mkor; got local_steps='
      f'{world.client.local_steps}; use robbing_the_fed'
    )
  found = pixel_relay.passing(net, 'mkor')
  if inspect.draws(net, train=world.client.train_mode):
    raise ValueError(
      'Expected a client without random layers for mkor; got '
      f'{net.spec.name}, which draws numbers as dropout does; use '
      'robbing_the_fed'
    )
  sites = inspect.sites(net)
  linear = [path for path, site in sites.items() if site.kind == 'linear']
  if any(site.kind != 'linear' for site in [*sites.values()][-len(linear) :]):
    raise _unfit(net)
  sure = _SURE if b >= k else 0.0
  q = jax.nn.softmax(jnp.zeros(k).at[-1].set(sure))
  leaves = {**found.leaves, **_linear(net, linear, found, sure)}
  _require(net, leaves, found, sure)
  names = [f'{found.layer}.{leaf}' for leaf in ('kernel', 'bias')]

  def craft(key, message, side, history):
    del key, side, history
    return base.put(message, leaves)

  def read(obs):
    gradient = trees.named_leaves(world.client.as_gradient(obs.update.delta))
    kernel, bias = (b * gradient[name][..., :k] for name in names)
    counts = b * q - bias
    mixed = q > 0.5 / k  # T plays a part
    absent = mixed & (counts < 0.5)
    total = (kernel / q * absent).sum(1) / jnp.maximum(absent.sum(), 1)
    known = absent.any() | ~mixed
    sums = jnp.where(mixed, q * total[:, None], 0.0) - kernel
    means = (sums / jnp.maximum(counts, 1)).T
    x = found.images(means * found.std + found.mean)
    off = jnp.abs(counts - jnp.round(counts))
    valid = (counts > 0.5) & known
    order = jnp.argsort(jnp.where(valid, counts, jnp.inf))[:b]
    score = jnp.where(valid, off, 0).max()
    score = jnp.where(valid.any(), score, 1.0).astype(jnp.float32)
    y = order.astype(jnp.int32)
    return types.Reconstruction(
      types.Batch(jnp.clip(x, 0.0, 1.0)[order], y), valid[order], score
    )

  needs = {'model', 'batch_size', 'alter_parameters'}
  return base.closed_form(read, needs=needs, craft=craft)


def _linear(net, linear, found, sure):
  """Returns the weights of the linear layers."""
  held = trees.named_leaves(inspect.abstract_variables(net).params)
  leaves = {}
  for path in linear:
    if not {f'{path}.kernel', f'{path}.bias'} <= held.keys():
      raise _unfit(net)
    inputs, units = held[f'{path}.kernel'].shape
    if units < net.spec.num_classes:
      raise _unfit(net)
    kernel, bias = np.eye(inputs, units), np.zeros(units)
    if path == found.layer:
      used = (found.sign != 0)[:, None] / np.sum(found.sign != 0)
      kernel = np.tile(found.std[:, None] * used, units)
      bias += (found.mean[:, None] * used).sum()
    if path == linear[-1]:
      bias[-1] += sure
    leaves |= {f'{path}.kernel': kernel, f'{path}.bias': bias}
  return {name: np.float32(leaf) for name, leaf in leaves.items()}


def _require(net, leaves, found, sure):
  """Looks whether every logit is the mean of what the first layer reads."""
  variables = net.init(jax.random.key(0))
  x = jax.random.uniform(jax.random.key(1), (2, *net.spec.image_shape))
  params = trees.replaced(variables.params, leaves)
  out = net.apply(variables._replace(params=params), x).out
  pixels = found.features(x) * found.std + found.mean
  mean = jnp.mean(pixels, 1, where=found.sign != 0)
  if jnp.abs(out.at[:, -1].add(-sure) - mean[:, None]).max() > 1e-4:
    raise _unfit(net)


def _unfit(net):
  return ValueError(
    'Expected linear layers with biases, all trained, at least as many units '
    'as classes and ReLU for mkor, and nothing between; got '
    f'{net.spec.name}; use mlp'
  )
