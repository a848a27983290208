"""The minimal filtering lowering of 3x3 convolutions.

F(4x4, 3x3): 36 products of tiles for 16 outputs of 9 taps each (Lavin and
Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016,
arXiv 1509.09308). Tiles are transformed axis by axis, 6 parts stacked in
front, so that one batched product serves all 36.
"""

import functools
import math

from jax import lax
import jax.numpy as jnp
import numpy as np

from giajax.ops import geometries


def faces(shapes: geometries.Shapes) -> geometries.Faces:
  """Minimal filtering F(4x4, 3x3), for 3x3 kernels of stride 1.

  Args:
    shapes: the shapes of the convolution.

  Raises:
    ValueError: another kernel, a stride, several groups or dilation.
  """
  geometry = shapes.geometry
  fits = shapes.kernel[:2] == (3, 3) and geometries.simple(geometry)
  expected = 'a 3x3 kernel of stride 1, one group and no dilation'
  geometries.require(fits, 'winograd', expected, geometry)
  _, height, width, _ = shapes.x
  _, h, w, _ = shapes.output
  (top, bottom), (left, right) = geometry.padding
  rest = ((0, 0), (0, -h % 4), (0, -w % 4), (0, 0))

  def tiles(x):  # [6, 6, B, H' / 4, W' / 4, C], column of the tile first
    config = ((0, 0), (top, bottom + -h % 4), (left, right + -w % 4), (0, 0))
    return _split(_split(jnp.pad(x, config), 1), 3)

  def spread(y):  # [6, 6, B, H' / 4, W' / 4, P]
    y = jnp.pad(y, rest)
    for axis in (1, 3):
      parts = [lax.slice_in_dim(y, i, None, 4, axis) for i in range(4)]
      y = jnp.stack(_fan_out(_A, parts))
    return y

  def output(x, kernel):
    product = jnp.einsum(
      'jibhwc,jicp->jibhwp', tiles(x), _transform(kernel, _fan_out, _G)
    )
    for axis in (3, 1):
      product = _interleave(_fan_in(_A.T, list(product)), axis)
    return product[:, :h, :w]

  def to_input(y, kernel):
    # A transposition fused into the transform would be many times slower.
    swapped = lax.map(lambda k: k.swapaxes(1, 2), kernel)
    flat = _transform(swapped, _fan_out, _G)
    product = jnp.einsum('jibhwp,jipc->jibhwc', spread(y), flat)
    x = _join(_join(product, 3), 1)
    return x[:, top : top + height, left : left + width]

  def to_kernel(x, y):
    product = lax.map(  # for the same reason, this is not one batched product
      lambda vm: jnp.einsum('ibhwc,ibhwp->icp', *vm), (tiles(x), spread(y))
    )
    return _transform(product, _fan_in, _G.T)

  return geometries.Faces(output, to_input, to_kernel)


def _split(x, axis):
  """Overlapping 6-wide tiles of an axis of 4n + 2, transformed, in front."""
  stop = x.shape[axis]
  parts = [lax.slice_in_dim(x, i, stop - 5 + i, 4, axis) for i in range(6)]
  return jnp.stack(_fan_out(_B, parts))


def _join(tiles, axis):
  """The transpose of `_split`: adds tiles up where they overlap."""
  parts = _fan_in(_B.T, list(tiles))
  config = [[(0, 0)] * parts[0].ndim for _ in range(2)]
  config[0][axis], config[1][axis] = (0, 1), (1, 0)
  early = [jnp.pad(p, config[0]) for p in parts[:4]]
  late = [jnp.pad(p, config[1]) for p in parts[4:]]
  return _interleave([early[0] + late[0], early[1] + late[1], *early[2:]], axis)


def _interleave(phases, axis):
  """Makes corresponding entries of arrays neighbours along an axis."""
  shape = list(phases[0].shape)
  shape[axis] *= len(phases)
  return jnp.stack(phases, axis + 1).reshape(shape)


def _transform(kernel, fan, matrix):
  """Maps both axes in front by a matrix and exchanges them."""
  for axis in (0, 1):
    n = kernel.shape[axis]
    parts = [lax.index_in_dim(kernel, i, axis, False) for i in range(n)]
    kernel = jnp.stack(fan(matrix, parts))
  return kernel


def _fan_out(matrix, parts):
  """Applies a [6, n] matrix whose rows 1, 2 and 3, 4 are mirror points."""
  return _mirror(_combine(_HALVES @ _MIRROR @ matrix, parts))


def _fan_in(matrix, parts):
  """Applies an [n, 6] matrix whose columns 1, 2 and 3, 4 are such points."""
  return _combine(matrix @ _MIRROR @ _HALVES, _mirror(parts))


def _mirror(p):
  """Sums and differences at mirror points: half of a transform's work."""
  return [p[0], p[1] + p[2], p[1] - p[2], p[3] + p[4], p[3] - p[4], p[5]]


def _combine(matrix, parts):
  """Linear combinations of equally shaped arrays, a row of `matrix` each."""
  return [
    functools.reduce(
      jnp.add,
      [p if m == 1 else float(m) * p for m, p in zip(row, parts) if m],
    )
    for row in np.where(np.abs(matrix) < 1e-9, 0, matrix)
  ]


def _toom_cook(outputs, taps):
  """Returns A [n, m], G [n, r] and B [n, n] of F(m, r), n = m + r - 1 = 6.

  The points 0, +-sqrt(1/2), +-sqrt(2) and infinity gave a third of the error
  of the customary 0, +-1, +-2 and infinity in float32.
  """
  points = np.array([0, 1, -1, 2, -2]) / math.sqrt(2)
  others = [np.delete(points, i) for i in range(5)]
  scale = [np.prod(p - o) for p, o in zip(points, others)]
  a = np.vander(points, outputs, increasing=True)
  g = np.vander(points, taps, increasing=True) / np.array(scale)[:, None]
  b = [np.append(np.poly(o)[::-1], 0) for o in others]
  return (
    np.r_[a, np.eye(outputs)[-1:]],
    np.r_[g, np.eye(taps)[-1:]],
    np.array([*b, np.poly(points)[::-1]]),
  )


_A, _G, _B = _toom_cook(4, 3)
_MIRROR = np.array(_mirror(np.eye(6)))
_HALVES = np.diag([1, 0.5, 0.5, 0.5, 0.5, 1])
