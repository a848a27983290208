"""Torch's MobileNets and EfficientNets: torchvision's, made smaller.

The CIFAR forms change strides, depth and width factors the settings, and other
activations replace modules; see giajax/models for what each option means.
"""

import functools
import math

from torch import nn
from torchvision.models import efficientnet
from torchvision.models import mobilenetv2
from torchvision.models import mobilenetv3


def mobilenet_v2(
  case,
  width=1.0,
  depth=None,
  stem=None,
  norm='batch',
  activation='relu6',
  **rest,
):
  """Torchvision's MobileNetV2."""
  small = case.form(stem) == 'cifar'
  stages = [
    (1, 16, 1, 1),
    (6, 24, 2, 1 if small else 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
  ]
  rows = [[t, c, 1, 1 if i else s] for t, c, n, s in stages for i in range(n)]
  net = mobilenetv2.MobileNetV2(
    case.num_classes,
    width,
    rows[:depth],
    norm_layer=NORMS[norm],
    **rest,
  )
  return changed(net, small, {nn.ReLU6: ACTIVATIONS[activation]})


def mobilenet_v3(
  case,
  size,
  width=1.0,
  depth=None,
  stem=None,
  activation=None,
  **rest,
):
  """Torchvision's MobileNetV3, of the first `depth` blocks."""
  rows, last = mobilenetv3._mobilenet_v3_conf(
    f'mobilenet_v3_{size}', width_mult=width
  )
  net = mobilenetv3.MobileNetV3(
    rows[:depth], last, num_classes=case.num_classes, **rest
  )
  other = ACTIVATIONS[activation] if activation else None
  table = {nn.ReLU: other, nn.Hardswish: other} if other else {}
  table[nn.Hardsigmoid] = Hardsigmoid
  return changed(net, case.form(stem) == 'cifar', table)


def efficientnet_b0(case, width=1.0, depth=None, **rest):
  """Torchvision's EfficientNet-B0, of the first `depth` blocks."""
  stages, last = efficientnet._efficientnet_conf(
    'efficientnet_b0', width_mult=width, depth_mult=1.0
  )
  return _efficientnet(case, kept(stages, depth), last, **rest)


def efficientnet_v2_s(case, width=1.0, depth=None, **rest):
  """Torchvision's EfficientNetV2-S, which has no factors of its own."""
  stages, last = efficientnet._efficientnet_conf('efficientnet_v2_s')
  for stage in stages:
    for name in ('input_channels', 'out_channels'):
      channels = mobilenetv2._make_divisible(getattr(stage, name) * width, 8)
      setattr(stage, name, channels)
  stages = kept(stages, depth)
  norm = functools.partial(nn.BatchNorm2d, eps=1e-3)
  return _efficientnet(case, stages, last, norm_layer=norm, **rest)


def kept(stages, depth):
  """Returns the stages that hold the first `depth` blocks, or all if None."""
  left = sum(s.num_layers for s in stages) if depth is None else depth
  out = []
  for stage in stages:
    stage.num_layers = min(stage.num_layers, left)
    left -= stage.num_layers
    out += [stage] if stage.num_layers else []
  return out


def _efficientnet(
  case,
  stages,
  last,
  stem=None,
  activation='silu',
  dropout=0.2,
  stochastic_depth=0.2,
  **rest,
):
  net = efficientnet.EfficientNet(
    stages,
    dropout,
    stochastic_depth_prob=stochastic_depth,
    num_classes=case.num_classes,
    last_channel=last,
    **rest,
  )
  table = {nn.SiLU: ACTIVATIONS[activation]}
  return changed(net, case.form(stem) == 'cifar', table)


class Hardsigmoid(nn.Module):
  """nn.Hardsigmoid, which has no second derivative in torch."""

  def forward(self, x):
    """Maps any shape to itself, in [0, 1]."""
    return nn.functional.hardtanh(x + 3, 0, 6) / 6


def changed(net, small, table):
  """Returns a network with the stem's stride and its activations changed."""
  if small:
    net.features[0][0].stride = (1, 1)
  replace(net, {old: new for old, new in table.items() if old is not new})
  return net


def replace(module, table):
  """Replaces the modules below one by their types."""
  for name, child in module.named_children():
    if type(child) in table:
      setattr(module, name, table[type(child)]())
    else:
      replace(child, table)


def group_norm(features):
  """Returns the GroupNorm of giajax's default number of groups."""
  return nn.GroupNorm(math.gcd(32, features), features)


NORMS = {'batch': nn.BatchNorm2d, 'group': group_norm}
ACTIVATIONS = {
  'gelu': nn.GELU,
  'relu6': nn.ReLU6,
  'silu': nn.SiLU,
  'tanh': nn.Tanh,
}
NETS = {
  'mobilenet_v2': mobilenet_v2,
  'mobilenet_v3_small': functools.partial(mobilenet_v3, size='small'),
  'mobilenet_v3_large': functools.partial(mobilenet_v3, size='large'),
  'efficientnet_b0': efficientnet_b0,
  'efficientnet_v2_s': efficientnet_v2_s,
}
