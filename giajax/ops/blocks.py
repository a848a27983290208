"""The lowering of narrow kernels: patches of several neighbouring outputs."""

import jax.numpy as jnp

from giajax.ops import geometries


def faces(shapes: geometries.Shapes) -> geometries.Faces:
  """Patches of several neighbouring outputs, for narrow kernels.

  Args:
    shapes: the shapes of the convolution.

  Raises:
    ValueError: a convolution of several groups, or dilated.
  """
  geometry, (kh, kw, channels, features) = shapes.geometry, shapes.kernel
  undilated = geometry.groups == 1 and geometry.dilation == (1, 1)
  geometries.require(undilated, 'blocks', 'one group and no dilation', geometry)
  _, h, w, _ = shapes.output
  width = _best_width(w, features)
  (sh, sw), count = geometry.strides, -(-w // width)
  span = (width - 1) * sw + kw
  (top, bottom), (left, right) = geometry.padding
  extra = (count * width - 1) * sw + kw - shapes.x[2] - left - right

  def widen(kernel):
    """[kh * span * C, width * P]: the kernel at each place in a block."""
    places = [
      jnp.pad(kernel, ((0, 0), (q * sw, span - kw - q * sw), (0, 0), (0, 0)))
      for q in range(width)
    ]
    wide = jnp.stack(places, axis=3)
    return wide.reshape(kh * span * channels, width * features)

  def output(x, kernel):
    right_most = right + max(extra, 0)
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right_most), (0, 0)))
    starts = range(0, count * width * sw, width * sw)
    columns = [
      x[:, :, q : q + span].reshape(*x.shape[:2], span * channels)
      for q in starts
    ]
    x = jnp.stack(columns, axis=2)  # [B, H, count, span * C]
    rows = [x[:, i : i + sh * (h - 1) + 1 : sh] for i in range(kh)]
    y = jnp.concatenate(rows, axis=-1) @ widen(kernel)
    return y.reshape(*y.shape[:2], count * width, features)[:, :, :w]

  return geometries.by_transposition(output, shapes)


def _best_width(outputs, features):
  """The block of at least 48 output columns that wastes the least of a row."""
  least = min(outputs, max(1, -(-48 // features)))
  return min(
    range(least, min(outputs, 2 * least) + 1),
    key=lambda m: (-(-outputs // m) * m, m),
  )
