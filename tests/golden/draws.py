"""What the torch generator and the parity test must agree on, numpy only.

Weights and images are drawn by name from a seed, so goldens need not hold
them. Large results are held as a norm and seeded projections.
"""

from collections.abc import Mapping
import pathlib
from typing import Any, NamedTuple
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent / 'models'
BATCH_SIZE = 2
MODES = ('eval', 'train')
_FULL = 256  # larger tensors are summarised
_PROJECTIONS = 8


class Case(NamedTuple):
  """A row of MODELS at a size that is quick to evaluate."""

  row: str
  image_shape: tuple[int, int, int]
  num_classes: int = 10
  options: Mapping[str, Any] = {}
  # Modes in which every test run takes derivatives; GIAJAX_SLOW=1 takes all.
  quick: tuple[str, ...] = ()
  # Evaluate in float64: of half a million ReLUs behind statistics of 8 values,
  # rounding to float32 switches some.
  double: bool = False


CASES = {
  'lenet': Case('lenet', (16, 21, 3), 7, quick=MODES),
  'lenet_relu': Case('lenet_relu', (17, 12, 3), 7),
  'convnet': Case('convnet', (18, 21, 3), 7, {'width': 4}, MODES),
  'mlp': Case('mlp', (12, 10, 1), 5, {'widths': (16, 12)}, MODES),
  'resnet18': Case('resnet18', (16, 16, 3)),
  'resnet18_imagenet': Case('resnet18', (64, 48, 3), 10, {'stem': 'imagenet'}),
  'resnet20': Case('resnet20', (15, 17, 3), quick=('train',)),
  'resnet20_b': Case('resnet20', (16, 16, 3), 10, {'shortcut': 'B'}),
  'resnet32': Case('resnet32', (16, 16, 3)),
  'resnet34': Case('resnet34', (16, 16, 3), double=True),
  'resnet44': Case('resnet44', (16, 16, 3)),
  'resnet50': Case('resnet50', (16, 16, 3), double=True),
  'resnet56': Case('resnet56', (16, 16, 3)),
}


def weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
  """Returns the tensor of a torch parameter or buffer name, float32."""
  u = _uniform(name, shape, seed)
  last = name.rpartition('.')[2]
  if last == 'running_var':
    out = 1 + 0.5 * u
  elif last in ('bias', 'running_mean'):
    out = 0.2 * u
  elif len(shape) == 1:
    out = 1 + 0.3 * u
  else:  # variance 2 / fan_in
    out = u * np.sqrt(6 / np.prod(shape[1:]))
  return out.astype(np.float32)


def images(name: str, case: Case, seed: int) -> np.ndarray:
  """Returns the images [B, H, W, C] of a purpose, float32 in [0, 1]."""
  u = _uniform(f'images.{name}', (BATCH_SIZE, *case.image_shape), seed)
  return (0.5 + 0.45 * u).astype(np.float32)


def labels(case: Case) -> np.ndarray:
  """Returns the labels [B] of the candidate and of the target images."""
  return np.arange(1, 1 + BATCH_SIZE) % case.num_classes


def summary(name: str, value: np.ndarray) -> np.ndarray:
  """Returns a tensor in full, or (its norm, projections) if it is large."""
  value = np.asarray(value, np.float64)
  if value.size <= _FULL:
    return value
  flat, out = value.ravel(), [np.linalg.norm(value)]
  for i in range(_PROJECTIONS):
    draw = _uniform(f'{name}.projection{i}', flat.shape, 0)
    out.append(flat @ draw * np.sqrt(3 / _PROJECTIONS))
  return np.array(out)


def error(name: str, value: np.ndarray, golden: np.ndarray) -> float:
  """Returns the error of a tensor relative to its golden's norm.

  Args:
    name: what `summary` was told.
    value: the tensor in full.
    golden: the summary of the reference.

  Raises:
    ValueError: the two differ in shape.
  """
  found = summary(name, value)
  if found.shape != golden.shape:
    raise ValueError(
      f'Expected shape {golden.shape} of the golden; got {found.shape} of '
      f'{name}; make the goldens anew'
    )
  return float(np.linalg.norm(found - golden) / norm(value, golden))


def norm(value: np.ndarray, golden: np.ndarray) -> float:
  """Returns the reference's norm, of a tensor that `value` is shaped like."""
  return float(golden[0] if value.size > _FULL else np.linalg.norm(golden))


def _uniform(name, shape, seed):
  """Returns draws from U(-1, 1) that depend on (name, seed) only."""
  bits = np.random.PCG64([seed, zlib.crc32(name.encode())])
  return 2 * np.random.Generator(bits).random(shape) - 1
