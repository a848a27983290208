"""Complex-wavelet SSIM on [0, 1]: structure that a small shift leaves alone.

  CW-SSIM = mean over scales, positions and channels of
            (2 |sum_o a_o conj(b_o)| + K) / (sum_o |a_o|^2 + |b_o|^2 + K)

a_o, b_o are the coefficients of orientation o at one position and scale, K is
1e-6. Sampat, Wang, Gupta, Bovik and Markey, "Complex wavelet structural
similarity: A new image similarity index", IEEE TIP 2009; first in Wang and
Simoncelli, "Translation insensitive image similarity in complex wavelet
domain", ICASSP 2005.

Deviation: they sum over a window within one subband of a complex steerable
pyramid. Here the sum is over the six orientations of a dual-tree complex
wavelet transform of five scales, one position at a time, without windows:
`breaching` (Geiping et al.) does so, and so does the code of Guo et al., "Deep
Dive into Gradient Inversion Attacks", TPAMI 2025, arXiv:2503.11514, which
reports it under the name of SSIM. They take it of images normalised by the data
set, which makes K weigh less; here images are in [0, 1]. The package `pyssim`
has another metric of this name: a real Ricker wavelet on the rows of the grey
image, laid end to end.

The transform is Kingsbury's, "Complex wavelets for shift invariant analysis and
filtering of signals", ACHA 2001, with his near-symmetric 13 and 19 taps on the
first scale, his Q-shift filters of 14 taps after it, and half-sample mirrors at
the border. It sees no mean grey level. Scales that an image is too small for
see it mirrored many times over: compare images of one size only.
"""

from collections.abc import Iterator
import functools

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.metrics import base

SCALES = 5
_K = 1e-6

# Published taps; the near-symmetric ones are fractions, given up to the middle.
_LOW_13 = np.array([-9, 0, 114, -240, -247, 1520, 2844]) / 5120
_LOW_13 = np.concatenate([_LOW_13, _LOW_13[-2::-1]])
_HIGH_19 = np.array(
  [-81, 0, 1539, -2160, -8208, 27360, 63816, -59280, -343786, 641600]
)
_HIGH_19 = np.concatenate([_HIGH_19, _HIGH_19[-2::-1]]) / 1146880
# The filters of one tree; those of the other tree are the same, reversed.
_QSHIFT_LOW = np.array(
  [
    *(-0.004556895628475491, -0.005439475937274115, 0.01702522388155399),
    *(0.023825384794920298, -0.1067118046866654, 0.011866092033797),
    *(0.5688104207121227, 0.7561456438925225, 0.27529538466888204),
    *(-0.11720388769911527, -0.03887280126882779, 0.03466034684485349),
    *(-0.00388321199915849, 0.003253142763653182),
  ]
)
_QSHIFT_HIGH = -(_QSHIFT_LOW[::-1]) * (-1) ** np.arange(14)


def cw_ssim(a: jax.typing.ArrayLike, b: jax.typing.ArrayLike) -> types.Array:
  """Returns the complex-wavelet structural similarity, [...] float32 in [0, 1].

  Of a single pixel, which is a row of a table, it is NaN.

  Args:
    a: [..., H, W, C] in [0, 1].
    b: as `a`, or broadcastable to it.

  Raises:
    ValueError: images of integers, or shapes that do not fit.
  """
  a, b = base.pair(a, b)
  if a.shape[-3:-1] == (1, 1):
    return jnp.full(a.shape[:-3], jnp.nan, a.dtype)
  total = jnp.zeros(a.shape[:-3], jnp.float32)
  for re, im in _scales(jnp.stack([a, b])):  # [2, 3, 2, ..., h, w, C]
    re_a, re_b, im_a, im_b = re[:, :, 0], re[:, :, 1], im[:, :, 0], im[:, :, 1]
    product = jnp.hypot(
      jnp.sum(re_a * re_b + im_a * im_b, axis=(0, 1)),
      jnp.sum(im_a * re_b - re_a * im_b, axis=(0, 1)),
    )
    power = jnp.sum(re**2 + im**2, axis=(0, 1, 2))
    similarity = (2 * product + _K) / (power + _K)
    total += jnp.mean(similarity, axis=(-3, -2, -1))
  return total / SCALES


def _scales(x: types.Array) -> Iterator[tuple[types.Array, types.Array]]:
  """Yields the coefficients of each scale of images [..., H, W, C].

  Real and imaginary parts, [2, 3, ..., h, w, C]: two orientations of each of
  three bands.
  """
  for scale in range(SCALES):
    rows, columns = (_bank(side, scale > 0) for side in x.shape[-3:-1])
    y = jnp.einsum(
      'ih,...hwc,jw->...ijc',
      rows,
      x,
      columns,
      precision=jax.lax.Precision.HIGHEST,
    )
    h, w = len(rows) // 2, len(columns) // 2
    x, *bands = (
      y[..., i : i + h, j : j + w, :] for i in (0, h) for j in (0, w)
    )
    trees = jnp.stack(bands) / np.sqrt(2, dtype=np.float32)
    trees = trees.reshape(*trees.shape[:-3], h // 2, 2, w // 2, 2, -1)
    (aa, ab), (ba, bb) = (
      (trees[..., i, :, 0, :], trees[..., i, :, 1, :]) for i in (0, 1)
    )
    yield jnp.stack([aa - bb, aa + bb]), jnp.stack([ab + ba, ab - ba])


@functools.cache
def _bank(size: int, later: bool) -> np.ndarray:
  """The filters of one scale along one axis, as a matrix.

  Args:
    size: the size of the axis.
    later: whether this is not the first scale.

  Returns:
    [2 n, size] float32: n rows of the low-pass filter, with the two trees
    interleaved, then as many of the high-pass filter.
  """
  # The first scale needs an even size, later ones a multiple of four.
  start, end = (-1, size + 1) if later and size % 4 else (0, size + size % 2)
  padding = np.eye(size)[np.arange(start, end).clip(0, size - 1)]
  size = end - start
  if not later:
    halves = [
      _rows(taps, np.arange(size) + len(taps) // 2, 1, size)
      for taps in (_LOW_13, _HIGH_19)
    ]
  else:
    halves = []
    for taps, order in ((_QSHIFT_LOW, 1), (_QSHIFT_HIGH, -1)):
      firsts = len(taps) + np.arange(0, size, 4)
      trees = (
        _rows(taps, firsts, 2, size),
        _rows(taps[::-1], firsts + 1, 2, size),
      )
      halves.append(np.stack(trees[::order], axis=1).reshape(-1, size))
  return np.concatenate([half @ padding for half in halves]).astype(np.float32)


def _rows(
  taps: np.ndarray, firsts: np.ndarray, spacing: int, size: int
) -> np.ndarray:
  """Row k is sum_n taps[n] x[firsts[k] - spacing n], x mirrored at its ends."""
  at = (firsts[:, None] - spacing * np.arange(len(taps))) % (2 * size)
  matrix = np.zeros((len(firsts), size))
  np.add.at(
    matrix,
    (np.arange(len(firsts))[:, None], np.minimum(at, 2 * size - 1 - at)),
    taps,
  )
  return matrix


CW_SSIM = base.Metric(
  name='cw_ssim',
  label='CW-SSIM',
  unit='',
  form='.3f',
  meaning='Similarity of complex wavelets; 1 for equal images. Small shifts '
  'hardly change it, and even tones do not enter it. Some studies report it '
  'as SSIM: compare theirs with this column, computed on [0, 1].',
  source='Sampat, Wang, Gupta, Bovik and Markey, IEEE TIP 2009',
  needs=base.IMAGES,
  score=cw_ssim,
)
