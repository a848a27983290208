"""Convolutions whose weights hand the image on to the first linear layer.

A convolution of stride s and padding p copies the phase (i, j) of a channel,
0 <= i, j < s, by a kernel that is

  (1)  1 at (p + i, p + j) and 0 elsewhere

With s^2 times the channels nothing is lost (Boenisch et al., EuroS&P 2023,
arXiv 2112.02918, for s = 1). ReLU does not change images in [0, 1]. A 2x2
max-pool keeps the largest of four pixels x; it is also given -x + 1, which
keeps the smallest, and, where there are channels left, the same shifted by a
pixel right, down and both ways (Wang et al., WACV 2024, arXiv 2310.19222).
Behind r x r of those windows a pixel lies between

  (2)  max over the windows that hold it of min x,  min over these of max x

and the middle is taken. Without pools both are the pixel itself.
"""

from collections.abc import Callable, Mapping
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.models import inspect
from giajax.ops import moments


class PixelRelay(NamedTuple):
  """What the first linear layer reads of an image, after such weights.

  Attributes:
    layer: the path of that layer.
    leaves: the weights, by dotted name; empty if the layer is the network's
      first.
    start: [D] int, the first pixel of a feature's window, of the H W C of an
      image.
    sign: [D] int8, 1 for the largest pixel of the window, -1 for one minus the
      smallest, 0 for a feature that holds nothing.
    side: the window's side r; 1 if every feature is one pixel.
    mean, std: [D] float32; the feature is (pixel - mean) / std.
    shape: the shape (H, W, C) of an image.
  """

  layer: str
  leaves: Mapping[str, np.ndarray]
  start: np.ndarray
  sign: np.ndarray
  side: int
  mean: np.ndarray
  std: np.ndarray
  shape: tuple[int, int, int]

  @property
  def exact(self) -> bool:
    """Whether the features hold every pixel of the image."""
    pixels = self.start[self.sign > 0]
    return self.side == 1 and len(np.unique(pixels)) == math.prod(self.shape)

  def images(self, features: types.Array) -> types.Array:
    """Maps features [..., D] in units of pixels to images [..., H, W, C]."""
    shape = (*features.shape[:-1], *self.shape)
    upper = self._spread(1, features, 1.0)
    upper = _extremes(upper, jax.lax.min, 1.0, -self.side)
    if not (self.sign < 0).any():
      return upper.reshape(shape)
    lower = self._spread(-1, 1 - features, 0.0)
    lower = _extremes(lower, jax.lax.max, 0.0, -self.side)
    return ((upper + lower) / 2).reshape(shape)  # the middle of (2)

  def features(self, x: types.Array) -> types.Array:
    """Maps images [B, H, W, C] to what the layer reads of them, [B, D]."""
    large, small = (
      _extremes(v, jax.lax.max, 0.0, self.side).reshape(len(x), -1)
      for v in (x, 1 - x)
    )
    pixels = jnp.where(
      self.sign > 0, large[:, self.start], small[:, self.start]
    )
    return jnp.where(self.sign == 0, 0, (pixels - self.mean) / self.std)

  def _spread(self, sign, values, fill):
    """Puts the features of a sign at their windows' starts, [n, H, W, C]."""
    ours = self.sign == sign
    flat = jnp.full((*values.shape[:-1], math.prod(self.shape)), fill)
    flat = flat.at[..., self.start[ours]].set(values[..., ours])
    return flat.reshape(-1, *self.shape)


class _Convolution(NamedTuple):
  """A convolution in front of the linear layer.

  Attributes:
    path: its path.
    site: where it meets its input.
    kernel: the shape of its kernel, (side, side, inputs, outputs).
    pooled: whether a pool halves its output.
  """

  path: str
  site: moments.Site
  kernel: tuple[int, ...]
  pooled: bool


class _Channels(NamedTuple):
  """The pixels that channels hold: `origin + pitch * position`."""

  origin: np.ndarray  # [n, 3], row, column and colour of a channel
  sign: np.ndarray  # [n]
  pitch: int
  side: int


def pixel_relay(net: models.Net, who: str) -> PixelRelay:
  """Returns the weights that hand images on to the first linear layer.

  Args:
    net: a network of convolutions and max-pools, or nothing, in front of that
      layer, with activations that leave [0, 1] alone.
    who: the name of the attack, for the message.

  Raises:
    ValueError: another network, or one with too few channels.
  """
  layer, convolutions = _stack(net, who)
  size = inspect.sites(net)[layer].input.shape[-1]
  pools = sum(convolution.pooled for convolution in convolutions)
  # As many of the last pools as possible see shifted images, too.
  for shifted in range(pools, -1, -1):
    built = _build(net.spec, convolutions, pools, shifted)
    if built is not None:
      break
  else:
    raise _unfit(net, who, 'its convolutions have too few channels')
  leaves, channels, grid = built
  if math.prod(grid) != size:
    raise _unfit(net, who, 'it pools in front of its first linear layer')
  relay = _layout(net.spec, layer, leaves, channels, grid)
  _require_relay(net, who, relay)
  return relay


def _stack(net, who) -> tuple[str, list[_Convolution]]:
  """Returns the path of the first linear layer, and what is in front of it."""
  sites = inspect.sites(net)
  kinds = [site.kind for site in sites.values()]
  first = kinds.index('linear') if 'linear' in kinds else len(kinds)
  if first == len(kinds) or set(kinds[:first]) - {'conv'}:
    raise _unfit(net, who, 'it has other layers in front')
  paths = [*sites][: first + 1]
  needed = {f'{p}.{leaf}' for p in paths for leaf in ('kernel', 'bias')}
  if not needed <= inspect.leaf_names(net):
    raise _unfit(net, who, 'a layer in front has no trained kernel and bias')
  if len(sites[paths[-1]].input.shape) != 2:
    raise _unfit(net, who, 'its first linear layer reads tokens')
  named = trees.named_leaves(inspect.abstract_variables(net).params)
  convolutions = []
  for path, following in itertools.pairwise(paths):
    kernel, reads = named[f'{path}.kernel'].shape, sites[following].input.shape
    pooled = _is_pooled(sites[path], kernel, reads)
    convolutions.append(_Convolution(path, sites[path], kernel, pooled))
  return paths[-1], convolutions


def _is_pooled(site, kernel, reads) -> bool:
  """Returns whether the next layer reads half of what a convolution gives."""
  stride = site.geometry.strides[0]
  rows, columns = (-(-v // stride) for v in site.input.shape[1:3])
  if len(reads) == 4:
    return reads[1] == rows // 2
  return reads[1] * 4 <= rows * columns * kernel[3]


def _build(spec, convolutions, pools, shifted):
  """Returns leaves, channels and grid (h, w, n); None with too few channels.

  Args:
    spec: the spec of the network.
    convolutions: the convolutions in front of the linear layer.
    pools: the number of convolutions that are pooled.
    shifted: the number of the last pools that see shifted images, too.
  """
  colours = spec.image_shape[2]
  signs = (1, -1) if pools else (1,)
  channels = _Channels(
    np.array([(0, 0, c) for _ in signs for c in range(colours)]),
    np.repeat(signs, colours),
    pitch=1,
    side=1,
  )
  leaves, grid, pools_behind = {}, spec.image_shape, 0
  for i, convolution in enumerate(convolutions):
    pools_behind += convolution.pooled
    stride = convolution.site.geometry.strides[0]
    # The padding of the first convolution is not black, but the mean.
    shift = convolution.pooled and i > 0 and pools_behind > pools - shifted
    step = 2 if shift else stride
    if not _fits(convolution, channels, step, shift):
      return None
    own, channels = _copy(convolution, channels, step, spec if i == 0 else None)
    leaves |= own
    channels = channels._replace(pitch=channels.pitch * stride)
    outputs = convolution.kernel[-1]
    grid = (*(-(-v // stride) for v in grid[:2]), outputs)
    if convolution.pooled:
      channels = channels._replace(
        pitch=2 * channels.pitch, side=channels.side + channels.pitch
      )
      grid = (grid[0] // 2, grid[1] // 2, outputs)
  return leaves, channels, grid


def _fits(convolution, channels, step, shift) -> bool:
  """Returns whether a convolution can copy `step`^2 phases of each channel."""
  geometry, (side, *_, outputs) = convolution.site.geometry, convolution.kernel
  return (
    geometry.groups == 1
    and not (shift and geometry.strides[0] != 1)
    and geometry.padding[0][0] + step <= side
    and len(channels.sign) * step**2 <= outputs
  )


def _copy(convolution, channels, step, spec):
  """Returns a convolution's leaves by (1), and what its outputs hold.

  Args:
    convolution: the convolution.
    channels: the pixels that its inputs hold.
    step: the number of phases that it copies along each side.
    spec: the spec of the network for its first convolution, which undoes the
      normalisation and makes -x + 1 of x; None for others.
  """
  pad = convolution.site.geometry.padding[0][0]
  side, _, inputs, outputs = convolution.kernel
  sources = min(len(channels.sign), inputs)
  kernel = np.zeros((side, side, inputs, outputs), np.float32)
  bias, origin = np.zeros(outputs, np.float32), []
  for y in range(step):
    for x in range(step):
      for c, (place, sign) in enumerate(zip(channels.origin, channels.sign)):
        value, k = 1.0, len(origin)
        if spec is not None:
          mean, std = spec.mean[place[2]], spec.std[place[2]]
          value = sign * std
          bias[k] = mean if sign > 0 else 1 - mean
        kernel[pad + y, pad + x, c % sources, k] = value
        origin.append(place + channels.pitch * np.array([y, x, 0]))
  leaves = {
    f'{convolution.path}.kernel': kernel,
    f'{convolution.path}.bias': bias,
  }
  copies = channels._replace(
    origin=np.array(origin), sign=np.tile(channels.sign, step**2)
  )
  return leaves, copies


def _layout(spec, layer, leaves, channels, grid) -> PixelRelay:
  """Returns where the features of a grid (h, w, n) of channels come from."""
  shape = spec.image_shape
  rows, columns = np.indices(grid[:2]) * channels.pitch
  start, sign = np.zeros((2, *grid), int)
  for c, (y, x, colour) in enumerate(channels.origin):
    place = (rows + y, columns + x)
    inside = (place[0] < shape[0]) & (place[1] < shape[1])
    start[..., c] = np.ravel_multi_index((*place, colour), shape, mode='clip')
    sign[..., c] = np.where(inside, channels.sign[c], 0)
  # As `layers.flatten` does, channels first.
  start, sign = (np.moveaxis(a, -1, 0).reshape(-1) for a in (start, sign))
  mean, std = np.zeros(len(start)), np.ones(len(start))
  if not leaves:  # the normalisation has not been undone
    mean, std = (np.array(v)[start % shape[2]] for v in (spec.mean, spec.std))
  return PixelRelay(
    layer,
    leaves,
    start,
    sign.astype(np.int8),
    channels.side,
    mean.astype(np.float32),
    std.astype(np.float32),
    shape,
  )


def _require_relay(net, who, relay: PixelRelay) -> None:
  """Checks that the network does what is expected with a random image."""
  variables = net.init(jax.random.key(0))
  params = trees.replaced(variables.params, relay.leaves)
  x = jax.random.uniform(jax.random.key(1), (1, *net.spec.image_shape))
  tap = f'{relay.layer}.input'
  output = net.apply(variables._replace(params=params), x, taps=(tap,))
  wrong = jnp.where(relay.sign, output.taps[tap] - relay.features(x), 0)
  if jnp.abs(wrong).max() > 1e-4:
    raise _unfit(net, who, 'its activations or pools change what they read')


def _extremes(
  x: types.Array,
  extreme: Callable[[types.Array, types.Array], types.Array],
  fill: float,
  side: int,
) -> types.Array:
  """The extreme of the window that starts, or if side < 0 ends, at a pixel."""
  if abs(side) == 1:
    return x
  pad = (0, side - 1) if side > 0 else (-side - 1, 0)
  window = (1, abs(side), abs(side), 1)
  padding = ((0, 0), pad, pad, (0, 0))
  return jax.lax.reduce_window(x, fill, extreme, window, (1,) * 4, padding)


def _unfit(net, who, why):
  return ValueError(
    f'Expected a network that can hand images on to its first linear layer for '
    f'{who}; got {net.spec.name}: {why}; use mlp, or more channels'
  )
