"""Torch's definitions of the ResNets of the goldens.

Those without switches are torchvision's, with the stem of the CIFAR form;
shrunken ones, those with switches and the CIFAR nets are written here.
"""

import functools

from golden import torch_convolutional
from torch import nn
from torchvision import models

CIFAR_DEPTHS = (20, 32, 44, 56)
BOTTLENECKS = (50, 101, 152)


class Block(nn.Module):
  """A basic block or bottleneck whose every option may be another."""

  def __init__(self, inputs, width, stride, style):
    super().__init__()
    self.style = style
    norm, before = (
      torch_convolutional.NORMS[style['norm']],
      style['placement'] == 'before',
    )
    if style['bottleneck']:
      inner = width * style['group_width'] // 64 * style['groups']
      shapes = [
        (inputs, inner, 1, 1, 1),
        (inner, inner, 3, stride, style['groups']),
        (inner, 4 * width, 1, 1, 1),
      ]
    else:
      shapes = [(inputs, width, 3, stride, 1), (width, width, 3, 1, 1)]
    self.outputs = shapes[-1][1]
    for i, (c, p, size, step, groups) in enumerate(shapes, 1):
      conv = nn.Conv2d(c, p, size, step, size // 2, 1, groups, bias=False)
      self.add_module(f'conv{i}', conv)
      self.add_module(f'bn{i}', norm(c if before else p))
    self.names = [(f'conv{i}', f'bn{i}') for i in range(1, len(shapes) + 1)]
    if style['skip'] and (stride != 1 or inputs != self.outputs):
      conv = nn.Conv2d(inputs, self.outputs, 1, stride, bias=False)
      if style['shortcut'] == 'A':
        self.stride, self.extra = stride, self.outputs - inputs
      elif before:
        self.shortcut = nn.Sequential(conv)
      else:
        self.downsample = nn.Sequential(conv, norm(self.outputs))

  def forward(self, x):
    """Maps [B, C, H, W] to [B, outputs, H', W']."""
    act, y, skipped = (
      torch_convolutional.ACTIVATIONS[self.style['activation']],
      x,
      x,
    )
    before = self.style['placement'] == 'before'
    for conv, norm in self.names:
      conv, norm = getattr(self, conv), getattr(self, norm)
      if before:
        y = act(norm(y))
        if conv is self.conv1 and hasattr(self, 'shortcut'):
          skipped = self.shortcut(y)
        y = conv(y)
      else:
        y = norm(conv(x if conv is self.conv1 else act(y)))
    if hasattr(self, 'downsample'):
      skipped = self.downsample(x)
    if hasattr(self, 'extra'):
      half = self.extra // 2
      x = x[:, :, :: self.stride, :: self.stride]
      skipped = nn.functional.pad(x, (0, 0, 0, 0, half, self.extra - half))
    if self.style['skip']:
      y = y + skipped
    return y if before else act(y)


class ResNet(nn.Module):
  """A ResNet of `blocks` a stage, in any style."""

  def __init__(self, case, blocks, width, stem, head, style):
    super().__init__()
    kernel = (3, 1, 1) if stem == 'cifar' else (7, 2, 3)
    norm, self.style = torch_convolutional.NORMS[style['norm']], style
    self.conv1 = nn.Conv2d(case.image_shape[2], width, *kernel, bias=False)
    if style['placement'] == 'after':
      self.bn1 = norm(width)
    self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == 'imagenet' else None
    inputs, self.stages = width, len(blocks)
    for i, count in enumerate(blocks):
      stage = nn.Sequential()
      for j in range(count):
        stride = 2 if i > 0 and j == 0 else 1
        stage.append(Block(inputs, width << i, stride, style))
        inputs = stage[-1].outputs
      self.add_module(f'layer{i + 1}', stage)
    if style['placement'] == 'before':
      self.bn = norm(inputs)
    self.head = head
    self.add_module(head, nn.Linear(inputs, case.num_classes))

  def forward(self, x):
    """Maps [B, C, H, W] to [B, K]."""
    act = torch_convolutional.ACTIVATIONS[self.style['activation']]
    x = self.conv1(x)
    if hasattr(self, 'bn1'):
      x = act(self.bn1(x))
    if self.maxpool is not None:
      x = self.maxpool(x)
    for i in range(self.stages):
      x = getattr(self, f'layer{i + 1}')(x)
    if hasattr(self, 'bn'):
      x = act(self.bn(x))
    return getattr(self, self.head)(x.mean((2, 3)))


def resnet(case, depth, stem=None, **options):
  """Torchvision's ResNet, or one with options of ours."""
  stem = case.form(stem)
  cifar = depth in CIFAR_DEPTHS
  if not cifar and options.keys() <= {'groups', 'group_width'}:
    names = {'groups': 'groups', 'group_width': 'width_per_group'}
    net = getattr(models, f'resnet{depth}')(
      num_classes=case.num_classes,
      **{names[k]: v for k, v in options.items()},
    )
    if stem == 'cifar':
      net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
      net.maxpool = nn.Identity()
    return net
  blocks = [(depth - 2) // 6] * 3 if cifar else [2, 2, 2, 2]
  defaults = {
    'shortcut': 'A' if cifar else 'B',
    'groups': 1,
    'group_width': 64,
    'skip': True,
    'norm': 'batch',
    'placement': 'after',
    'activation': 'relu',
    'bottleneck': depth in BOTTLENECKS,
  }
  return ResNet(
    case,
    options.pop('blocks', blocks),
    round((16 if cifar else 64) * options.pop('width', 1)),
    stem,
    'linear' if cifar else 'fc',
    {**defaults, **options},
  )


_wide = functools.partial(resnet, depth=50, group_width=128)
_next = functools.partial(resnet, depth=50, groups=32, group_width=4)
NETS = {
  'preact_resnet18': functools.partial(resnet, depth=18, placement='before'),
  **{
    f'resnet{d}': functools.partial(resnet, depth=d)
    for d in (18, 34, *BOTTLENECKS, *CIFAR_DEPTHS)
  },
  'resnext50': _next,
  'wide_resnet50': _wide,
}
