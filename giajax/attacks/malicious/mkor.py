"""MKOR: linear layers that keep classes apart, after convolutions that copy.

Wang, Velipasalar and Gursoy, Maximum Knowledge Orthogonality Reconstruction
with Gradients in Federated Learning, WACV 2024, arXiv 2310.19222. Chosen over
Scale-MIA (Shi et al., NDSS 2025, arXiv 2311.05808), which needs an autoencoder
trained on data like the client's, because this needs no data and no training.

The convolutions hand the image on (`pixel_relay`). Every row of the first
linear layer is the mean of its input h >= 0, and all others are the identity,
so that unit c of each, c < K, only feeds the logit of class c. All logits of an
image are equal then, and all softmax probabilities q_c = 1/K; with n_c images
of class c, S_c the sum of their h and T the sum over all images, B times the
gradients of row c are

  (1)  dL/db_c = B q_c - n_c
  (2)  dL/dW_c = q_c T - S_c

T is known from a class without images. With B >= K there may be no such class;
then the bias of the last class of the last layer makes q_c nearly 0 for all
other classes, for which T plays no part, while the last class is given up. For
a class that has one image, S_c / n_c is that image; for a class that has more,
it is their mean. The label is the class of the row.

Assumed known: the model and the batch size; the server alters weights.

Behind pools, a pixel is only known to lie between the extremes of windows,
whose side doubles with every pool (`pixel_relay`): VGG-16 in its CIFAR form has
five, and 512 features for 3,072 values, so the window is the whole image and
only the labels are found (eight CIFAR-10 images: 10 to 17 dB). The score counts
images and does not reflect this.

Dropout makes logits and probabilities differ by what the server cannot know (no
image above 33 dB at a rate of 0.1), and is refused.

Differs from the authors: their released client treats the logits as
log-probabilities, whose gradient lacks q_c T, and pads convolutions by
repetition; they do not need to know T. Their noise on the weights, which hides
them from a client, is left out; so is the smoothing of images.
"""

from collections.abc import Mapping
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import pixel_relay
from giajax.models import inspect

# The logit of a class that leaves no probability to others in float32.
_SURE = 30.0


class ClassRowsPlan(NamedTuple):
  """How the server alters the weights.

  Attributes:
    world: the attacker's picture of the system.
    relay: what the first linear layer reads.
    leaves: all weights that the server alters, by dotted name.
    sure: the logit of the last class, 0 if no class is given up.
  """

  world: worlds.World
  relay: pixel_relay.PixelRelay
  leaves: Mapping[str, np.ndarray]
  sure: float


def mkor(world: worlds.World) -> base.Attack:
  """The image of each class with one image, in closed form, at any batch size.

  Args:
    world: the attacker's picture of the system: a network of convolutions and
      2x2 max-pools, or nothing, in front of linear layers of at least K units
      with ReLU.

  Raises:
    ValueError: another task or network, or a client of several local steps or
      with random layers, such as dropout.
  """
  net, instead = world.net, 'use robbing_the_fed'
  require.exclusive_classes(world, 'mkor', advice=instead)
  require.one_step(world.client, 'mkor', advice=instead)
  relay = pixel_relay.pixel_relay(net, 'mkor')
  require.no_random_layers(
    net, 'mkor', train=world.client.train_mode, advice=instead
  )
  linear = _linear_layers(net)

  sure = _SURE if world.batch_size >= net.spec.num_classes else 0.0
  leaves = {**relay.leaves, **_weights(net, linear, relay, sure)}
  plan = ClassRowsPlan(world, relay, leaves, sure)
  _require_equal_logits(plan)
  return base.closed_form(
    functools.partial(_read, plan),
    needs={'model', 'batch_size', 'alter_parameters'},
    craft=functools.partial(_craft, plan),
  )


def _linear_layers(net):
  """Returns the paths of the linear layers, which must be the last ones."""
  sites = inspect.sites(net)
  linear = [path for path, site in sites.items() if site.kind == 'linear']
  if [*sites][-len(linear) :] != linear:
    raise _unfit(net)
  return linear


def _weights(net, linear, relay, sure):
  """Returns the weights of the linear layers."""
  shapes = trees.named_leaves(inspect.abstract_variables(net).params)
  leaves = {}
  for path in linear:
    if not {f'{path}.kernel', f'{path}.bias'} <= shapes.keys():
      raise _unfit(net)
    inputs, units = shapes[f'{path}.kernel'].shape
    if units < net.spec.num_classes:
      raise _unfit(net)
    kernel, bias = np.eye(inputs, units), np.zeros(units)
    if path == relay.layer:
      # The mean of the pixels, whatever the normalisation.
      used = (relay.sign != 0)[:, None] / np.sum(relay.sign != 0)
      kernel = np.tile(relay.std[:, None] * used, units)
      bias += (relay.mean[:, None] * used).sum()
    if path == linear[-1]:
      bias[-1] += sure
    leaves |= {f'{path}.kernel': kernel, f'{path}.bias': bias}
  return {name: leaf.astype(np.float32) for name, leaf in leaves.items()}


def _require_equal_logits(plan) -> None:
  """Checks whether every logit is the mean of what the first layer reads."""
  net, relay = plan.world.net, plan.relay
  variables = net.init(jax.random.key(0))
  x = jax.random.uniform(jax.random.key(1), (2, *net.spec.image_shape))
  params = trees.replaced(variables.params, plan.leaves)
  out = net.apply(variables._replace(params=params), x).out
  pixels = relay.features(x) * relay.std + relay.mean
  mean = jnp.mean(pixels, 1, where=relay.sign != 0)
  if jnp.abs(out.at[:, -1].add(-plan.sure) - mean[:, None]).max() > 1e-4:
    raise _unfit(net)


def _craft(plan, key, message, side, history):
  del key, side, history
  return base.put(message, plan.leaves)


def _read(plan, obs):
  """Returns the image or mean of each class, classes of one image first."""
  b, k = plan.world.batch_size, plan.world.net.spec.num_classes
  kernel, bias = _rows(plan, obs)
  q = jax.nn.softmax(jnp.zeros(k).at[-1].set(plan.sure))
  # (1)
  counts = b * q - bias
  # (2), where T comes from the classes without images.
  mixed = q > 0.5 / k  # T plays a part
  absent = mixed & (counts < 0.5)
  total = (kernel / q * absent).sum(1) / jnp.maximum(absent.sum(), 1)
  sums = jnp.where(mixed, q * total[:, None], 0.0) - kernel
  # S_c / n_c
  means = (sums / jnp.maximum(counts, 1)).T
  x = plan.relay.images(means * plan.relay.std + plan.relay.mean)
  valid = (counts > 0.5) & (absent.any() | ~mixed)
  order = jnp.argsort(jnp.where(valid, counts, jnp.inf))[:b]
  off = jnp.where(valid, jnp.abs(counts - jnp.round(counts)), 0).max()
  score = jnp.where(valid.any(), off, 1.0).astype(jnp.float32)
  batch = types.Batch(jnp.clip(x, 0.0, 1.0)[order], order.astype(jnp.int32))
  return types.Reconstruction(batch, valid[order], score)


def _rows(plan, obs):
  """Returns B times the gradients of the classes' rows, [D, K] and [K]."""
  b, k = plan.world.batch_size, plan.world.net.spec.num_classes
  gradient = plan.world.client.as_gradient(obs.update.delta)
  kernel, bias = base.kernel_and_bias(gradient, plan.relay.layer)
  return b * kernel[:, :k], b * bias[:k]


def _unfit(net):
  return ValueError(
    'Expected linear layers with biases, all trained, at least as many units '
    'as classes and ReLU for mkor, and nothing between; got '
    f'{net.spec.name}; use mlp with more units than classes'
  )
