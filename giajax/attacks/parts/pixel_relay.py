"""Convolutions whose weights hand the image on to the first linear layer.

A convolution of stride s and padding p copies the phase (i, j) of a channel,
0 <= i, j < s, by a kernel that is 1 at (p + i, p + j) and 0 elsewhere: with s^2
times the channels nothing is lost (Boenisch et al., EuroS&P 2023, arXiv
2112.02918, for s = 1). ReLU leaves images alone. A 2x2 max-pool keeps the
largest of four pixels x; it is given -x + 1 too, which keeps the smallest, and,
where there are channels left, the same shifted by a pixel right, down and both
ways (Wang et al., WACV 2024, arXiv 2310.19222). Behind r x r of those windows a
pixel lies between

  max over the windows that hold it of min x,  min over these of max x

and the middle is taken. Without pools both are the pixel itself.
"""

from collections.abc import Mapping
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base as models
from giajax.models import inspect


class Passing(NamedTuple):
  """What the first linear layer reads of an image, behind such weights.

  Attributes:
    layer: path of that layer.
    leaves: the weights, by dotted name; none where it is the network's first.
    start: [D] int, the first pixel of a feature's window, of the H W C of an
      image.
    sign: [D] int8, 1 for the largest pixel of the window, -1 for one minus the
      smallest, 0 for a feature that holds nothing.
    side: r, the window's side; 1 where every feature is one pixel.
    mean, std: [D] float32; the feature is (pixel - mean) / std.
    shape: H, W, C.
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
    held = self.start[self.sign > 0]
    return self.side == 1 and len(np.unique(held)) == math.prod(self.shape)

  def images(self, features: types.Array) -> types.Array:
    """Maps features [..., D] in units of pixels to images [..., H, W, C]."""

    def spread(sign, values, fill):
      one = self.sign == sign
      flat = jnp.full((*values.shape[:-1], math.prod(self.shape)), fill)
      flat = flat.at[..., self.start[one]].set(values[..., one])
      return flat.reshape(-1, *self.shape)

    upper = _windows(spread(1, features, 1.0), jnp.minimum, 1.0, -self.side)
    if not (self.sign < 0).any():
      return upper.reshape(*features.shape[:-1], *self.shape)
    lower = spread(-1, 1 - features, 0.0)
    lower = _windows(lower, jnp.maximum, 0.0, -self.side)
    return ((upper + lower) / 2).reshape(*features.shape[:-1], *self.shape)

  def features(self, x: types.Array) -> types.Array:
    """Maps images [B, H, W, C] to what the layer reads of them, [B, D]."""
    flat = {
      sign: _windows(v, jnp.maximum, 0.0, self.side).reshape(len(x), -1)
      for sign, v in ((1, x), (-1, 1 - x))
    }
    large, small = (flat[sign][:, self.start] for sign in (1, -1))
    pixels = jnp.where(self.sign > 0, large, small)
    return jnp.where(self.sign == 0, 0, (pixels - self.mean) / self.std)


class _Held(NamedTuple):
  """What the channels hold on the way: `origin + pitch * position`."""

  origin: np.ndarray  # [n, 3], row, column and colour of a channel
  sign: np.ndarray  # [n]
  pitch: int
  side: int


def passing(net: models.Net, who: str) -> Passing:
  """Returns what hands images on to a network's first linear layer.

  Args:
    net: a network of convolutions and max-pools, or nothing, in front of that
      layer, with activations that leave [0, 1] alone.
    who: the attack that asks, for the message.

  Raises:
    ValueError: another network, or one with too few channels.
  """
  sites = inspect.sites(net)
  kinds = [site.kind for site in sites.values()]
  first = kinds.index('linear') if 'linear' in kinds else len(kinds)
  if first == len(kinds) or set(kinds[:first]) - {'conv'}:
    raise _unfit(net, who, 'it has other layers in front')
  paths = [*sites][: first + 1]
  if not {f'{p}.{leaf}' for p in paths for leaf in ('kernel', 'bias')} <= (
    inspect.leaf_names(net)
  ):
    raise _unfit(net, who, 'a layer in front has no trained kernel and bias')
  shapes = _kernels(net)
  convolutions = [(p, sites[p], shapes[p]) for p in paths[:-1]]
  reached = [sites[p].input.shape for p in paths[1:]]
  size = sites[paths[-1]].input.shape[-1]
  if len(sites[paths[-1]].input.shape) != 2:
    raise _unfit(net, who, 'its first linear layer reads tokens')
  pools = sum(_pooled(c, after) for c, after in zip(convolutions, reached))
  for shifted in range(pools, -1, -1):
    made = _build(net, convolutions, reached, pools, shifted)
    if made is not None:
      break
  else:
    raise _unfit(net, who, 'its convolutions have too few channels')
  leaves, held, grid = made
  return _checked(net, who, _layout(net, paths[-1], leaves, held, grid, size))


def _build(net, convolutions, reached, pools, shifted):
  """Returns leaves, what is held, and its grid; None with too few channels."""
  spec = net.spec
  signs = (1, -1) if pools else (1,)
  origin = [(0, 0, c) for _ in signs for c in range(spec.image_shape[2])]
  sign = np.repeat(signs, spec.image_shape[2])
  held, leaves = _Held(np.array(origin), sign, 1, 1), {}
  grid, seen = (*spec.image_shape[:2], spec.image_shape[2]), 0
  for i, (one, after) in enumerate(zip(convolutions, reached)):
    path, site, (side, _, inputs, outputs) = one
    stride, pad = site.geometry.strides[0], site.geometry.padding[0][0]
    pool = _pooled(one, after)
    seen += pool
    # The padding of the first is no black, but the mean.
    shift = pool and i > 0 and seen > pools - shifted
    step = 2 if shift else stride
    n = len(held.sign) // (2 if i == 0 and len(signs) == 2 else 1)
    if (
      site.geometry.groups != 1
      or (shift and stride != 1)
      or pad + step > side
      or len(held.sign) * step**2 > outputs
    ):
      return None
    kernel = np.zeros((side, side, inputs, outputs), np.float32)
    bias, new = np.zeros(outputs, np.float32), []
    for y in range(step):
      for x in range(step):
        for c, (at, positive) in enumerate(zip(held.origin, held.sign)):
          source, value = c % n, 1.0
          if i == 0:
            mean, std = spec.mean[at[2]], spec.std[at[2]]
            value = positive * std
            bias[len(new)] = mean if positive > 0 else 1 - mean
          kernel[pad + y, pad + x, source, len(new)] = value
          new.append(at + held.pitch * np.array([y, x, 0]))
    leaves |= {f'{path}.kernel': kernel, f'{path}.bias': bias}
    pitch = held.pitch * stride
    held = _Held(np.array(new), np.tile(held.sign, step**2), pitch, held.side)
    grid = (*(-(-v // stride) for v in grid[:2]), outputs)
    if pool:
      held = held._replace(pitch=2 * pitch, side=held.side + pitch)
      grid = (grid[0] // 2, grid[1] // 2, outputs)
  return leaves, held, grid


def _layout(net, layer, leaves, held, grid, size):
  h, w, channels = grid
  image = net.spec.image_shape
  rows, columns = np.indices((h, w)) * held.pitch
  start, sign = np.zeros((2, *grid), int)
  inside = np.ones(grid, bool)
  for c, (y, x, colour) in enumerate(held.origin):
    place = (rows + y, columns + x)
    inside[..., c] = (place[0] < image[0]) & (place[1] < image[1])
    index = np.ravel_multi_index((*place, colour), image, mode='clip')
    start[..., c], sign[..., c] = index, held.sign[c]
  sign = np.where(inside, sign, 0)
  # As `layers.flatten` does, channels first.
  start, sign = (np.moveaxis(a, -1, 0).reshape(-1) for a in (start, sign))
  mean, std = np.zeros(len(start)), np.ones(len(start))
  if not leaves:
    mean, std = (np.array(v)[start % channels] for v in net.spec[3:])
  fits = len(start) == size
  mean, std = mean.astype(np.float32), std.astype(np.float32)
  made = (start, sign.astype(np.int8), held.side, mean, std, image)
  return Passing(layer, leaves, *made) if fits else None


def _checked(net, who, found: Passing | None) -> Passing:
  """Looks whether the network does what is thought of it."""
  if found is None:
    raise _unfit(net, who, 'it pools in front of its first linear layer')
  variables = net.init(jax.random.key(0))
  params = trees.replaced(variables.params, found.leaves)
  x = jax.random.uniform(jax.random.key(1), (1, *net.spec.image_shape))
  tap = f'{found.layer}.input'
  output = net.apply(variables._replace(params=params), x, taps=(tap,))
  wanted = found.features(x)
  if jnp.abs(jnp.where(found.sign, output.taps[tap] - wanted, 0)).max() > 1e-4:
    raise _unfit(
      net, who, 'its activations or pools change what they are given'
    )
  return found


def _kernels(net):
  named = trees.named_leaves(inspect.abstract_variables(net).params)
  return {
    name.rpartition('.')[0]: leaf.shape
    for name, leaf in named.items()
    if name.endswith('.kernel')
  }


def _pooled(convolution, after) -> bool:
  """Says whether something halves what a convolution gives."""
  _, site, _ = convolution
  rows, columns = (
    -(-v // site.geometry.strides[0]) for v in site.input.shape[1:3]
  )
  if len(after) == 4:
    return after[1] == rows // 2
  return after[1] * 4 <= rows * columns * convolution[2][3]


def _windows(x, larger, fill, side):
  """The extreme of the window that starts, or if side < 0 ends, at a pixel."""
  if abs(side) == 1:
    return x
  pad = (0, side - 1) if side > 0 else (-side - 1, 0)
  extreme = jax.lax.max if larger is jnp.maximum else jax.lax.min
  window = (1, abs(side), abs(side), 1)
  padding = ((0, 0), pad, pad, (0, 0))
  return jax.lax.reduce_window(x, fill, extreme, window, (1,) * 4, padding)


def _unfit(net, who, why):
  return ValueError(
    f'Expected a network that can hand images on to its first linear layer for '
    f'{who}; got {net.spec.name}: {why}; use mlp, or more channels'
  )
