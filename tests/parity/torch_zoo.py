"""Compares networks of torchvision and timm with what giajax makes of them.

  python -m tests.parity.torch_zoo
  python -m tests.parity.torch_zoo --only=resnet18,swin_t
  python -m tests.parity.torch_zoo --out=zoo.jsonl --before=/path/to/first.py

Everything is computed in float64 with random weights, for two images, in both
modes: logits, running statistics, the gradient of every weight, and that of the
cosine matching loss to the images. An error is relative to the norm of torch's
array. Dropout and stochastic depth are set to zero, since their random
numbers cannot agree.

The update that is matched is random. Where a network with random weights hardly
looks at its images, the gradients of any two point in one direction; that of
the matching loss would be what is left of them after a subtraction, and measure
their rounding.

A markdown row is printed for each network. With --out, results are added to a
file, and networks that it holds are not run again. The file of --before is run
first, for instance to declare what torchvision needs beside a torch that it was
not built for. Needs torch, and torchvision or timm.
"""

import argparse
from collections.abc import Callable
import json
import operator
import os
import pathlib
import runpy
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import giajax
from giajax import trees
from giajax.models import convert
from giajax.models import torch_names

_SIZE = 64  # at 32, a BatchNorm of many nets would see two numbers
_CLASSES = 7
_BATCH = 2
# Options of networks, by library and name there, and the size of their images
# if it is another.
_TORCHVISION: dict[str, dict[str, Any]] = {
  'alexnet': {},
  'convnext_tiny': {},
  'densenet121': {},
  'efficientnet_b0': {},
  'efficientnet_v2_s': {},
  'googlenet': {'aux_logits': False, 'init_weights': False},
  'inception_v3': {'size': 80, 'aux_logits': False, 'init_weights': False},
  'maxvit.MaxVit': {
    'input_size': (64, 64),
    'stem_channels': 16,
    'partition_size': 2,
    'block_channels': [16, 32],
    'block_layers': [1, 2],
    'head_dim': 8,
    'stochastic_depth_prob': 0.0,
  },
  'mnasnet0_5': {},
  'mnasnet1_0': {},
  'mobilenet_v2': {},
  'mobilenet_v3_large': {},
  'mobilenet_v3_small': {},
  'regnet_x_400mf': {},
  'regnet_y_400mf': {},
  'resnet18': {},
  'resnet34': {},
  'resnet50': {},
  'resnext50_32x4d': {},
  'shufflenet_v2_x0_5': {},
  'shufflenet_v2_x1_0': {},
  'squeezenet1_0': {},
  'squeezenet1_1': {},
  'swin_t': {},
  'swin_v2_t': {},
  'vgg11': {},
  'vgg11_bn': {},
  'vgg16': {},
  'vit_b_16': {'image_size': 64},
  'wide_resnet50_2': {},
}
_TIMM: dict[str, dict[str, Any]] = {
  'beit_base_patch16_224': {'img_size': 64, 'depth': 3},
  'coatnet_0_rw_224': {'img_size': 64},
  'convnext_atto': {},
  'deit3_small_patch16_224': {'img_size': 64, 'depth': 3},
  'deit_tiny_patch16_224': {'img_size': 64},
  'edgenext_xx_small': {},
  'efficientnet_lite0': {},
  'eva02_tiny_patch14_224': {'img_size': 28, 'size': 28, 'depth': 3},
  'ghostnet_050': {'drop_rate': 0.0},
  'mixer_s32_224': {'img_size': 64},
  'mobilenetv3_small_050': {},
  'poolformer_s12': {},
  'regnety_002': {},
  'resnet26d': {},
  'resnetv2_50': {},
  'swin_tiny_patch4_window7_224': {
    'img_size': 64,
    'window_size': 4,
  },
  'vit_tiny_patch16_224': {'img_size': 64},
  'xcit_nano_12_p16_224': {'img_size': 64},
}
_COLUMNS = ('logits', 'statistics', 'gradient', 'matching')


def main() -> int:
  """Runs the networks of a command line and returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--only', default='', help='names, joined by commas')
  parser.add_argument('--out', help='a file that results are added to')
  parser.add_argument('--before', help='a Python file that is run first')
  parser.add_argument('--lowering', default='lax', help='compiles soonest')
  flags = parser.parse_args()
  before = runpy.run_path(flags.before) if flags.before else {}
  jax.config.update('jax_enable_x64', True)
  networks = {
    **_networks('torchvision', _TORCHVISION),
    **_networks('timm', _TIMM),
  }
  only = [name for name in flags.only.split(',') if name]
  known = _results(flags.out)
  print(_header())
  failed = 0
  for name in only or networks:
    if name not in known:
      known[name] = _result(networks[name], flags.lowering)
      if flags.out:
        with open(flags.out, 'a', encoding='utf-8') as file:
          file.write(json.dumps({'network': name, **known[name]}) + '\n')
    print(_row(name, known[name]), flush=True)
    failed += 'error' in known[name]
    jax.clear_caches()
  before.clear()  # what it declared is kept until here
  return 1 if failed else 0


def _results(path: str | None) -> dict[str, dict[str, Any]]:
  if not path or not pathlib.Path(path).exists():
    return {}
  lines = pathlib.Path(path).read_text(encoding='utf-8').splitlines()
  rows = [json.loads(line) for line in lines]
  return {row.pop('network'): row for row in rows}


def _networks(
  library: str, table: dict[str, dict[str, Any]]
) -> dict[str, Callable[[], tuple[torch.nn.Module, int]]]:
  """Returns functions that make the networks and say the size of images."""

  def make(name, options):
    options = dict(options)
    size = options.pop('size', _SIZE)
    torch.manual_seed(0)
    if library == 'timm':
      import timm

      return timm.create_model(name, num_classes=_CLASSES, **options), size
    import torchvision

    build = operator.attrgetter(name)(torchvision.models)
    return build(num_classes=_CLASSES, **options), size

  prefix = 'timm/' if library == 'timm' else ''
  return {
    f'{prefix}{name}': lambda name=name, options=options: make(name, options)
    for name, options in table.items()
  }


def _header() -> str:
  names = [f'{c}, {m}' for m in ('eval', 'train') for c in _COLUMNS]
  head = ['network', 'probe', *names, 'export s', 'trace s']
  return f'| {" | ".join(head)} |\n|{"---|" * len(head)}'


def _row(name: str, result: dict[str, Any]) -> str:
  if 'error' in result:
    return f'| {name} | {result["error"]} |'
  cells = [
    f'{result[f"{mode}/{column}"]:.0e}'
    for mode in ('eval', 'train')
    for column in _COLUMNS
  ]
  times = [f'{result[part]:.1f}' for part in ('export', 'trace')]
  probe = 'yes' if result['probe'] else 'no'
  return f'| {" | ".join([name, probe, *cells, *times])} |'


def _result(make: Any, lowering: str) -> dict[str, Any]:
  """Returns the errors of a network, or the message that refused it."""
  module, size = make()
  _randomised(module)
  begin = time.perf_counter()
  try:
    net = giajax.from_torch(module, (3, size, size), lowering=lowering)
  except ValueError as error:
    return {'error': str(error)}
  export = time.perf_counter() - begin
  variables = trees.widened(net.init(jax.random.key(0)))
  _differentiable(module.double())
  result: dict[str, Any] = {'probe': net.probe is not None, 'export': export}
  seconds = 0.0
  observed = _observed(module)
  for train in (False, True):
    expected = _of_torch(module, observed, size, train)
    found, spent = _of_giajax(net, variables, observed, size, train)
    seconds += spent
    mode = 'train' if train else 'eval'
    for column in _COLUMNS:
      result[f'{mode}/{column}'] = _error(found[column], expected[column])
  return {**result, 'trace': seconds}


def _randomised(module: torch.nn.Module) -> None:
  """Draws all that constructors leave constant, and forbids random passes."""
  for layer in module.modules():
    for name in ('p', 'drop_prob', 'dropout', 'attn_drop_rate'):
      if isinstance(getattr(layer, name, None), float):
        setattr(layer, name, 0.0)
    if isinstance(getattr(layer, 'attention_dropout', None), float):
      layer.attention_dropout = 0.0
  with torch.no_grad():
    for parameter in module.parameters():
      spread = 0.1 if parameter.ndim < 2 or not parameter.std() else 0.0
      parameter.add_(spread * torch.randn_like(parameter))
    for name, buffer in module.named_buffers():
      if name.endswith('running_mean'):
        buffer.normal_(0, 0.1)
      elif name.endswith('running_var'):
        buffer.uniform_(0.5, 1.5)


class _Hardsigmoid(torch.nn.Module):
  """torch.nn.Hardsigmoid, which has no second derivative in torch."""

  def forward(self, x):
    return torch.nn.functional.relu6(x + 3) / 6


def _differentiable(module: torch.nn.Module) -> None:
  """Replaces the layers of which torch has no second derivative."""
  for layer in list(module.modules()):
    for name, part in layer.named_children():
      if isinstance(part, torch.nn.Hardsigmoid):
        setattr(layer, name, _Hardsigmoid())


def _images(size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the candidate images, NHWC, and labels."""
  x = np.random.default_rng(0).random((_BATCH, size, size, 3))
  return x, np.arange(_BATCH) % _CLASSES


def _observed(module: torch.nn.Module) -> dict[str, np.ndarray]:
  """Returns the update that is matched, by torch's names."""
  draws = np.random.default_rng(1)
  named = module.named_parameters()
  return {name: draws.standard_normal(p.shape) for name, p in named}


def _of_torch(module, observed, size, train) -> dict[str, Any]:
  x, y = _images(size)
  module.train(train)
  names = [name for name, _ in module.named_parameters()]
  parameters = [p.requires_grad_(True) for _, p in module.named_parameters()]
  buffers = {k: v.clone() for k, v in module.named_buffers()}

  def passed(images):
    with torch.no_grad():
      for name, buffer in module.named_buffers():
        buffer.copy_(buffers[name])
    logits = module(images)
    loss = torch.nn.functional.cross_entropy(logits, torch.as_tensor(y))
    gradient = torch.autograd.grad(
      loss, parameters, create_graph=True, allow_unused=True
    )
    return logits, [
      torch.zeros_like(p) if g is None else g
      for g, p in zip(gradient, parameters)
    ]

  def nchw(images):
    return torch.as_tensor(images).permute(0, 3, 1, 2).contiguous()

  with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
    matched = [torch.as_tensor(observed[name]) for name in names]
    images = nchw(x).requires_grad_(True)
    logits, gradient = passed(images)
    after = {k: v.numpy().copy() for k, v in module.named_buffers()}
    (slope,) = torch.autograd.grad(_distance(gradient, matched), images)
  with torch.no_grad():
    for name, buffer in module.named_buffers():
      buffer.copy_(buffers[name])
  statistics = {
    k: v
    for k, v in after.items()
    if k.endswith(('running_mean', 'running_var'))
  }
  return {
    'logits': {'': logits.detach().numpy()},
    'statistics': statistics,
    'gradient': {n: g.detach().numpy() for n, g in zip(names, gradient)},
    'matching': {'': slope.permute(0, 2, 3, 1).numpy()},
  }


def _distance(gradient, observed):
  """Returns 1 - cos of two lists of arrays, in torch or in JAX."""
  dot = sum((g * t).sum() for g, t in zip(gradient, observed))
  norms = [sum((g * g).sum() for g in part) for part in (gradient, observed)]
  return 1 - dot / (norms[0] * norms[1]) ** 0.5


def _of_giajax(net, variables, observed, size, train):
  x, y = _images(size)
  table = torch_names.of_net(net)
  leaves = {
    table[name].name: array.transpose(np.argsort(table[name].axes))
    for name, array in observed.items()
  }
  matched = trees.like(variables.params, leaves)
  key = jax.random.key(0)

  def loss(params, variables, images):
    own = variables._replace(params=params)
    output = net.apply(own, images, train=train, key=key)
    log_p = jax.nn.log_softmax(output.out)
    return -log_p[jnp.arange(len(y)), y].mean(), output

  def matching(images, matched, variables):
    gradient, output = jax.grad(loss, has_aux=True)(
      variables.params, variables, images
    )
    parts = jax.tree.leaves(gradient), jax.tree.leaves(matched)
    return _distance(*parts), (gradient, output)

  begin = time.perf_counter()
  program = jax.jit(jax.grad(matching, has_aux=True)).lower(
    x, matched, variables
  )
  seconds = time.perf_counter() - begin
  quick = program.compile({'xla_backend_optimization_level': '0'})
  slope, (gradient, output) = quick(x, matched, variables)
  state = convert.to_state_dict(variables._replace(stats=output.stats))
  found = {
    'logits': {'': np.asarray(output.out)},
    'statistics': {k: v for k, v in state.items() if '.running_' in k},
    'gradient': convert.to_state_dict(variables._replace(params=gradient)),
    'matching': {'': np.asarray(slope)},
  }
  return found, seconds


def _error(found, expected) -> float:
  """Returns the largest error relative to a norm that is not negligible."""
  norms = {name: np.linalg.norm(v) for name, v in expected.items()}
  least = 1e-6 * max(norms.values(), default=0)
  errors = [
    float(np.linalg.norm(found[name] - value) / max(norms[name], least, 1e-300))
    for name, value in expected.items()
  ]
  return max(errors, default=0.0)


if __name__ == '__main__':
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  sys.exit(main())
