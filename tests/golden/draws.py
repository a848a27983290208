"""What the torch generator and the parity test must agree on, numpy only.

Weights and images are drawn by name from a seed, so goldens need not hold
them. Gradients and statistics are held as norms and seeded projections.
"""

from collections.abc import Mapping
import pathlib
from typing import Any
import zlib

from golden import detection_cases
from golden.case import Case
from golden.case import MODES
import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent / 'models'
BATCH_SIZE = 2
_PROJECTIONS = 8


CASES = {
  'lenet': Case('lenet', (16, 21, 3), 7, quick=MODES),
  'lenet_relu': Case('lenet_relu', (17, 12, 3), 7),
  'cnn6': Case('cnn6', (17, 12, 3), 7),
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
  'resnet101': Case('resnet101', (16, 16, 3), double=True),
  'resnet152': Case('resnet152', (16, 16, 3), double=True),
  'resnext50': Case('resnext50', (16, 16, 3), double=True),
  'wide_resnet50': Case('wide_resnet50', (16, 16, 3), double=True),
  'preact_resnet18': Case('preact_resnet18', (16, 16, 3)),
  'resnet_grouped': Case(
    'resnet50',
    (8, 8, 3),
    10,
    {'blocks': (1, 1), 'width': 1 / 8, 'groups': 2, 'group_width': 64},
    MODES,
  ),
  'resnet_before': Case(
    'preact_resnet18',
    (16, 16, 3),
    10,
    {
      'blocks': (1, 2),
      'width': 1 / 8,
      'stem': 'imagenet',
      'activation': 'silu',
    },
    ('train',),
  ),
  'resnet_no_skip': Case(
    'resnet18',
    (8, 8, 3),
    10,
    {
      'blocks': (1, 1),
      'width': 1 / 4,
      'skip': False,
      'norm': 'group',
      'activation': 'gelu',
    },
    ('eval',),
  ),
  'resnet_before_a': Case(
    'resnet20',
    (8, 8, 3),
    10,
    {'blocks': (1, 1), 'norm': 'layer', 'placement': 'before'},
  ),
  'alexnet': Case('alexnet', (32, 32, 3)),
  'alexnet_imagenet': Case(
    'alexnet',
    (63, 96, 3),
    7,
    {'width': 1 / 32, 'form': 'imagenet', 'dropout': 0.0},
    ('eval',),
  ),
  'densenet121': Case('densenet121', (16, 16, 3), double=True),
  'densenet_shrunk': Case(
    'densenet121',
    (32, 39, 3),
    7,
    {'blocks': (2, 1), 'growth': 4, 'stem': 'imagenet'},
    ('train',),
    double=True,  # the norm behind it undoes most of what norm0 scales
  ),
  'densenet_group': Case(
    'densenet121',
    (8, 11, 3),
    7,
    {'blocks': (1, 1), 'growth': 4, 'norm': 'group', 'activation': 'silu'},
  ),
  'googlenet': Case(
    'googlenet', (16, 16, 3), 10, {'dropout': 0.0}, double=True
  ),
  'googlenet_shrunk': Case(
    'googlenet',
    (35, 45, 3),
    7,
    {'blocks': (1, 1, 1), 'width': 1 / 8, 'stem': 'imagenet', 'dropout': 0.0},
    ('train',),
    double=True,  # statistics of 4 values
  ),
  'googlenet_group': Case(
    'googlenet',
    (24, 29, 3),
    7,
    {'blocks': (1, 2, 1), 'width': 1 / 8, 'norm': 'group', 'dropout': 0.0},
  ),
  'vgg11': Case('vgg11', (32, 32, 3)),
  'vgg11_bn': Case('vgg11_bn', (32, 32, 3)),
  'vgg13': Case('vgg13', (32, 32, 3), double=True),
  'vgg13_bn': Case('vgg13_bn', (32, 32, 3), double=True),
  'vgg16': Case('vgg16', (32, 32, 3)),
  'vgg16_bn': Case('vgg16_bn', (32, 32, 3), double=True),
  'vgg19': Case('vgg19', (32, 32, 3), double=True),
  'vgg19_bn': Case('vgg19_bn', (32, 32, 3), double=True),
  'vgg_shrunk': Case('vgg11_bn', (32, 35, 3), 7, {'width': 1 / 16}, ('train',)),
  'vgg_imagenet': Case(
    'vgg11',
    (32, 64, 3),
    7,
    {
      'width': 1 / 16,
      'norm': 'layer',
      'activation': 'tanh',
      'form': 'imagenet',
      'dropout': 0.0,
    },
  ),
  'mobilenet_v2': Case(
    'mobilenet_v2', (16, 16, 3), 10, {'dropout': 0.0}, double=True
  ),
  'mobilenet_v2_tiny': Case(
    'mobilenet_v2',
    (16, 21, 3),
    7,
    {'width': 0.1, 'depth': 3, 'dropout': 0.0},
    MODES,
  ),
  'mobilenet_v2_group': Case(
    'mobilenet_v2',
    (32, 35, 3),
    7,
    {
      'width': 0.1,
      'depth': 4,
      'dropout': 0.0,
      'stem': 'imagenet',
      'norm': 'group',
      'activation': 'tanh',
    },
  ),
  'mobilenet_v3_small': Case(
    'mobilenet_v3_small', (32, 32, 3), 10, {'dropout': 0.0}
  ),
  'mobilenet_v3_large': Case(
    'mobilenet_v3_large', (32, 32, 3), 10, {'dropout': 0.0}, double=True
  ),
  'mobilenet_v3_tiny': Case(
    'mobilenet_v3_small',
    (17, 16, 3),
    7,
    {'width': 0.2, 'depth': 3, 'dropout': 0.0},
    ('train',),
  ),
  'mobilenet_v3_gelu': Case(
    'mobilenet_v3_large',
    (16, 16, 3),
    7,
    {'width': 0.1, 'depth': 4, 'dropout': 0.0, 'activation': 'gelu'},
  ),
  'efficientnet_b0': Case(
    'efficientnet_b0',
    (32, 32, 3),
    10,
    {'dropout': 0.0, 'stochastic_depth': 0.0},
    double=True,
  ),
  'efficientnet_b0_tiny': Case(
    'efficientnet_b0',
    (17, 16, 3),
    7,
    {'width': 0.2, 'depth': 3, 'dropout': 0.0, 'stochastic_depth': 0.0},
    ('train',),
  ),
  'efficientnet_v2_s': Case(
    'efficientnet_v2_s',
    (32, 32, 3),
    10,
    {'dropout': 0.0, 'stochastic_depth': 0.0},
    double=True,
    gain=0.75,
  ),
  'efficientnet_v2_s_tiny': Case(
    'efficientnet_v2_s',
    (17, 16, 3),
    7,
    {
      'width': 0.2,
      'depth': 4,
      'dropout': 0.0,
      'stochastic_depth': 0.0,
      'activation': 'gelu',
    },
    ('train',),
  ),
  'convnext_shrunk': Case(
    'convnext_tiny',
    (12, 9, 3),
    7,
    {
      'stem': 'patch',
      'width': 8,
      'depths': (1, 1),
      'stochastic_depth': 0.0,
    },
    MODES,
  ),
  'convnext_ablated': Case(
    'convnext_tiny',
    (10, 9, 3),
    10,
    {
      'width': 8,
      'depths': (1, 1),
      'norm': 'batch',
      'placement': 'after',
      'activation': 'silu',
      'stochastic_depth': 0.0,
    },
    ('train',),
  ),
  'convnext_no_skip': Case(
    'convnext_tiny',
    (8, 8, 3),
    10,
    {'width': 8, 'depths': (2,), 'skip': False, 'stochastic_depth': 0.0},
  ),
  'convnext_tiny': Case(
    'convnext_tiny', (32, 32, 3), 10, {'stochastic_depth': 0.0}
  ),
  'convnext_small': Case(
    'convnext_small', (32, 32, 3), 10, {'stochastic_depth': 0.0}
  ),
  'convnext_base': Case(
    'convnext_base', (32, 32, 3), 10, {'stochastic_depth': 0.0}
  ),
  'maxvit_shrunk': Case(
    'maxvit_tiny',
    (16, 16, 3),
    7,
    {
      'stem': 'imagenet',
      'width': 8,
      'head_dim': 4,
      'depths': (1,),
      'partition': 2,
      'stochastic_depth': 0.0,
    },
    ('train',),
  ),
  'maxvit_stages': Case(
    'maxvit_tiny',
    (8, 8, 3),
    7,
    {
      'width': 8,
      'head_dim': 4,
      'depths': (2, 1),
      'partition': 2,
      'stochastic_depth': 0.0,
    },
  ),
  'maxvit_tiny': Case(
    'maxvit_tiny', (32, 32, 3), 10, {'stochastic_depth': 0.0}, double=True
  ),
  'swin_shrunk': Case(
    'swin_tiny',
    (14, 6, 3),
    7,
    {
      'patch': 2,
      'window': 3,
      'width': 8,
      'head_dim': 4,
      'depths': (2, 1),
      'stochastic_depth': 0.0,
    },
    MODES,
  ),
  'swin_tiny': Case('swin_tiny', (32, 32, 3), 10, {'stochastic_depth': 0.0}),
  'swin_v2_shrunk': Case(
    'swin_v2_tiny',
    (8, 14, 3),
    10,
    {
      'patch': 2,
      'window': 3,
      'width': 8,
      'head_dim': 4,
      'depths': (2, 1),
      'stochastic_depth': 0.0,
    },
    ('train',),
  ),
  'swin_v2_tiny': Case(
    'swin_v2_tiny', (32, 32, 3), 10, {'stochastic_depth': 0.0}, seeds=3
  ),
  'vit_shrunk': Case(
    'vit_tiny',
    (16, 8, 3),
    7,
    {'width': 12, 'depth': 2, 'heads': 3, 'hidden': 2},
    MODES,
  ),
  'vit_lora': Case(
    'vit_tiny',
    (8, 8, 3),
    10,
    {'width': 16, 'depth': 2, 'heads': 2, 'lora_rank': 2, 'activation': 'silu'},
    ('train',),
  ),
  'vit_tiny': Case('vit_tiny', (32, 32, 3)),
  'vit_small': Case('vit_small', (32, 32, 3)),
  'vit_base': Case('vit_base', (32, 32, 3)),
  'vit_large': Case('vit_large', (32, 32, 3)),
  **detection_cases.CASES,
}


# Their passes wait for GIAJAX_SLOW=1: they are large, or their blocks are those
# of other cases.
LONG = (
  'convnext_base',
  'convnext_small',
  'efficientnet_b0',
  'efficientnet_v2_s',
  'resnet32',
  'resnet44',
  'resnet101',
  'resnet152',
  'wide_resnet50',
  'densenet121',
  'googlenet',
  'maxvit_tiny',
  'mobilenet_v3_large',
  'resnet34',
  'resnext50',
  'swin_tiny',
  'swin_v2_tiny',
  'vit_base',
  'vit_small',
  'vgg13',
  'vgg13_bn',
  'vgg16_bn',
  'vgg19',
  'vgg19_bn',
  'vit_large',
)


def weight(
  name: str, shape: tuple[int, ...], seed: int, gain: float = 1.0
) -> np.ndarray:
  """Returns the tensor of a torch parameter or buffer name, float32."""
  u = uniform(name, shape, seed)
  last = name.rpartition('.')[2]
  if last == 'running_var':
    out = 1 + 0.5 * u
  elif last in ('bias', 'running_mean'):
    out = 0.2 * u
  elif len(shape) == 1:
    out = 1 + 0.3 * u
  else:  # variance 2 gain^2 / fan_in
    out = u * gain * np.sqrt(6 / np.prod(shape[1:]))
  return out.astype(np.float32)


def images(name: str, case: Case, seed: int) -> np.ndarray:
  """Returns the images [B, H, W, C] of a purpose, float32 in [0, 1]."""
  u = uniform(f'images.{name}', (BATCH_SIZE, *case.image_shape), seed)
  return (0.5 + 0.45 * u).astype(np.float32)


def labels(case: Case) -> np.ndarray:
  """Returns the labels [B] of the candidate and of the target images."""
  return np.arange(1, 1 + BATCH_SIZE) % case.num_classes


def weights(shape: tuple[int, ...]) -> np.ndarray:
  """Returns the weights of the outputs of a detector in its loss."""
  return uniform('loss', shape, 0)


def joined(out: Any) -> np.ndarray:
  """Returns logits [B, K], or all of a detector's cells, [B, A, -1]."""
  if not isinstance(out, Mapping):
    return np.asarray(out)
  cells = (np.asarray(value) for _, value in sorted(out.items()))
  flat = [value.reshape(*value.shape[:2], -1) for value in cells]
  return np.concatenate(flat, axis=-1)


def summaries(tensors: Mapping[str, np.ndarray]) -> np.ndarray:
  """Returns [len(tensors), 9]: a norm and projections of each, by name."""
  rows = [_summary(name, tensors[name]) for name in sorted(tensors)]
  return np.array(rows, np.float64)


def errors(
  tensors: Mapping[str, np.ndarray], golden: np.ndarray
) -> dict[str, float]:
  """Returns each tensor's error relative to the norm of its golden.

  Args:
    tensors: by torch's names.
    golden: `summaries` of the reference.

  Raises:
    ValueError: another number of tensors.
  """
  found = summaries(tensors)
  if found.shape != golden.shape:
    raise ValueError(
      f'Expected {golden.shape[0]} tensors of the golden; got {len(tensors)}; '
      'make the goldens anew'
    )
  wrong = np.linalg.norm(found - golden, axis=1)
  return dict(zip(sorted(tensors), wrong / np.maximum(golden[:, 0], 1e-300)))


def norms(
  tensors: Mapping[str, np.ndarray], golden: np.ndarray
) -> dict[str, float]:
  """Returns the norms of the reference's tensors, by name."""
  return dict(zip(sorted(tensors), golden[:, 0]))


def _summary(name, value):
  flat = np.asarray(value, np.float64).ravel()
  scale = np.sqrt(3 / _PROJECTIONS)
  draws = (
    uniform(f'{name}.projection{i}', flat.shape, 0) for i in range(_PROJECTIONS)
  )
  return [np.linalg.norm(flat), *(flat @ draw * scale for draw in draws)]


def uniform(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
  """Returns draws from U(-1, 1) that depend on (name, seed) only."""
  bits = np.random.PCG64([seed, zlib.crc32(name.encode())])
  return 2 * np.random.Generator(bits).random(shape) - 1
