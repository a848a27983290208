"""Torch's definitions of the detectors of the goldens, written with its layers.

They return the logits of all cells, `{'boxes': [B, A, 4, 16], 'scores': [B, A,
K]}`. Their state dicts have the names of the weights that others trained.
"""

import functools

from golden import torch_convolutional
from golden import torch_residual
import torch
from torch import nn

STOCK = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)


class Conv(nn.Module):
  """A convolution, a norm and an activation."""

  def __init__(self, c, p, k, s=1, act='silu', norm=STOCK, called='bn'):
    super().__init__()
    self.conv = nn.Conv2d(c, p, k, s, k // 2, bias=False)
    self.add_module(called, norm(p))
    self.act = torch_convolutional.Activation(act)

  def forward(self, x):
    """Maps [B, C, H, W] to [B, P, H', W']."""
    conv, norm, act = self.children()
    return act(norm(conv(x)))


class Split(nn.Module):
  """C2f: one half goes on, block by block, and all pieces are joined."""

  def __init__(self, c, p, n, add, conv):
    super().__init__()
    self.half, self.add = p // 2, add
    self.cv1 = conv(c, 2 * self.half, 1)
    self.cv2 = conv((2 + n) * self.half, p, 1)
    self.m = nn.ModuleList()
    for _ in range(n):
      block = nn.Module()
      block.cv1 = conv(self.half, self.half, 3)
      block.cv2 = conv(self.half, self.half, 3)
      self.m.append(block)

  def forward(self, x):
    """Maps [B, C, H, W] to [B, P, H, W]."""
    y = self.cv1(x)
    last, all_pieces = y[:, self.half :], [y]
    for block in self.m:
      made = block.cv2(block.cv1(last))
      last = last + made if self.add else made
      all_pieces.append(last)
    return self.cv2(torch.cat(all_pieces, 1))


class Pools(nn.Module):
  """SPPF, by the windows of 5, 9 and 13 that its three pools amount to."""

  def __init__(self, c, conv):
    super().__init__()
    self.cv1 = conv(c, c // 2, 1)
    self.cv2 = conv(c // 2 * 4, c, 1)

  def forward(self, x):
    """Maps [B, C, H, W] to the same shape."""
    x = self.cv1(x)
    wide = [nn.functional.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13)]
    return self.cv2(torch.cat([x, *wide], 1))


class Head(nn.Module):
  """Two towers for each level."""

  def __init__(self, channels, classes, conv, names):
    super().__init__()
    first = channels[0]
    boxes = max(16, first // 4, 64), 64
    scores = max(first, min(classes, 100)), classes
    self.names = names
    for name, (hidden, outputs) in zip(names, (boxes, scores)):
      towers = [
        nn.Sequential(
          conv(c, hidden, 3),
          conv(hidden, hidden, 3),
          nn.Conv2d(hidden, outputs, 1),
        )
        for c in channels
      ]
      self.add_module(name, nn.ModuleList(towers))

  def forward(self, levels):
    """Maps levels [B, C, H, W] to logits."""
    boxes, scores = (
      torch.cat(
        [t(x).flatten(2) for t, x in zip(getattr(self, name), levels)], 2
      ).mT
      for name in self.names
    )
    return {'boxes': boxes.unflatten(2, (4, 16)), 'scores': scores}


def double(x):
  """Doubles the sides of [B, C, H, W]."""
  return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


class YOLOv8(nn.Module):
  """The 23 parts, of which 10 to 21 are the neck and 22 is the head."""

  def __init__(
    self,
    case,
    width=0.25,
    depth=1 / 3,
    norm='batch',
    activation='silu',
    prior_side=640,
  ):
    super().__init__()
    del prior_side  # of fresh weights
    norms = {**torch_convolutional.NORMS, 'batch': STOCK}
    conv = functools.partial(Conv, act=activation, norm=norms[norm])
    c1, c2, c3, c4, c5 = (round(c * width) for c in (64, 128, 256, 512, 1024))
    n3, n6 = (max(round(n * depth), 1) for n in (3, 6))
    none = nn.Identity
    self.model = nn.ModuleList(
      [
        conv(case.image_shape[2], c1, 3, 2),
        conv(c1, c2, 3, 2),
        Split(c2, c2, n3, True, conv),
        conv(c2, c3, 3, 2),
        Split(c3, c3, n6, True, conv),
        conv(c3, c4, 3, 2),
        Split(c4, c4, n6, True, conv),
        conv(c4, c5, 3, 2),
        Split(c5, c5, n3, True, conv),
        Pools(c5, conv),
        none(),
        none(),
        Split(c5 + c4, c4, n3, False, conv),
        none(),
        none(),
        Split(c4 + c3, c3, n3, False, conv),
        conv(c3, c3, 3, 2),
        none(),
        Split(c3 + c4, c4, n3, False, conv),
        conv(c4, c4, 3, 2),
        none(),
        Split(c4 + c5, c5, n3, False, conv),
        Head((c3, c4, c5), case.num_classes, conv, ('cv2', 'cv3')),
      ]
    )

  def forward(self, x):
    """Maps [B, C, H, W] to logits."""
    m = self.model
    p3 = nn.Sequential(*m[:5])(x)
    p4 = m[6](m[5](p3))
    p5 = m[9](m[8](m[7](p4)))
    mid = m[12](torch.cat([double(p5), p4], 1))
    small = m[15](torch.cat([double(mid), p3], 1))
    medium = m[18](torch.cat([m[16](small), mid], 1))
    large = m[21](torch.cat([m[19](medium), p5], 1))
    return m[22]([small, medium, large])


class OnBlocks(nn.Module):
  """The same head, with a backbone and a neck of a ResNet's blocks."""

  def __init__(
    self,
    case,
    width=0.25,
    blocks=(2, 2, 2, 2),
    neck_blocks=1,
    block='basic',
    placement='after',
    stem='imagenet',
    activation='relu',
  ):
    super().__init__()
    conv = functools.partial(Conv, called='norm')
    c = [round(n * width) for n in (64, 128, 256, 512, 1024)]
    style = {
      'shortcut': 'B',
      'skip': True,
      'norm': 'batch',
      'placement': placement,
      'activation': activation,
      'bottleneck': False,
    }

    def stage(i, p, n, s):
      if block == 'c2f':
        return nn.Sequential(conv(i, p, 3, s), Split(p, p, n, True, conv))
      rest = [torch_residual.Block(p, p, 1, style) for _ in range(n - 1)]
      return nn.Sequential(torch_residual.Block(i, p, s, style), *rest)

    def merge(i, p):
      if block == 'c2f':
        return nn.Sequential(Split(i, p, neck_blocks, False, conv))
      return stage(i, p, neck_blocks, 1)

    size = 7 if stem == 'imagenet' else 3
    self.pool = stem == 'imagenet'
    self.net = nn.Module()
    self.net.p1 = Conv(
      case.image_shape[2],
      c[0],
      size,
      2,
      act=activation,
      norm=nn.BatchNorm2d,
    )
    for i, n in enumerate(blocks):
      made = stage(c[i], c[i + 1], n, 1 if i == 0 and self.pool else 2)
      self.net.add_module(f'layer{i + 1}', made)
    self.fpn = nn.Module()
    self.fpn.h1 = merge(c[4] + c[3], c[3])
    self.fpn.h2 = merge(c[3] + c[2], c[2])
    self.fpn.h3 = conv(c[2], c[2], 3, 2)
    self.fpn.h4 = merge(c[2] + c[3], c[3])
    self.fpn.h5 = conv(c[3], c[3], 3, 2)
    self.fpn.h6 = merge(c[3] + c[4], c[4])
    self.head = Head(c[2:], case.num_classes, conv, ('box', 'cls'))

  def forward(self, x):
    """Maps [B, C, H, W] to logits."""
    net, fpn = self.net, self.fpn
    x = net.p1(x)
    if self.pool:
      x = nn.functional.max_pool2d(x, 3, 2, 1)
    p3 = net.layer2(net.layer1(x))
    p4 = net.layer3(p3)
    p5 = net.layer4(p4)
    mid = fpn.h1(torch.cat([double(p5), p4], 1))
    small = fpn.h2(torch.cat([double(mid), p3], 1))
    medium = fpn.h4(torch.cat([fpn.h3(small), mid], 1))
    large = fpn.h6(torch.cat([fpn.h5(medium), p5], 1))
    return self.head([small, medium, large])


NETS = {'yolov8n': YOLOv8, 'yolov8n_basicblock': OnBlocks}
