"""Torch's own definitions of the networks that the goldens are made with.

Nothing of giajax is imported: they are torchvision's, or written with torch's
own layers. A row is `(case, **options) -> Module`.
"""

import functools
import itertools
import math

from golden import torch_attention
from golden import torch_convolutional
from golden import torch_detection
from golden import torch_detr
from golden import torch_mobile
from golden import torch_residual
from torch import nn


class LeNet(nn.Module):
  """Four 5x5 convolutions of 12 channels."""

  def __init__(self, case, activation):
    super().__init__()
    h, w, channels = case.image_shape
    body = []
    for stride in (2, 2, 1, 1):
      body += [nn.Conv2d(channels, 12, 5, stride, 2), activation()]
      channels = 12
    self.body = nn.Sequential(*body)
    features = 12 * math.ceil(h / 4) * math.ceil(w / 4)
    self.fc = nn.Linear(features, case.num_classes)

  def forward(self, x):
    """Maps [B, C, H, W] to [B, K]."""
    return self.fc(self.body(x).flatten(1))


class MLP(nn.Module):
  """Linear layers with ReLU between."""

  def __init__(self, case, widths=(256,)):
    super().__init__()
    sizes = (math.prod(case.image_shape), *widths, case.num_classes)
    self.layers = nn.ModuleList(
      nn.Linear(i, o) for i, o in itertools.pairwise(sizes)
    )

  def forward(self, x):
    """Maps [B, C, H, W] to [B, K]."""
    x = self.layers[0](x.flatten(1))
    for layer in self.layers[1:]:
      x = layer(nn.functional.relu(x))
    return x


class CNN6(nn.Module):
  """Six convolutions with LeakyReLU, none with a bias."""

  def __init__(self, case):
    super().__init__()
    h, w, inputs = case.image_shape
    self.body = nn.ModuleList()
    for outputs, size, stride, padding in (
      (12, 4, 2, 2),
      (36, 3, 2, 1),
      (36, 3, 1, 1),
      (36, 3, 1, 1),
      (64, 3, 2, 1),
      (128, 3, 1, 1),
    ):
      block = nn.Sequential()
      block.add_module(
        'layer',
        nn.Conv2d(inputs, outputs, size, stride, padding, bias=False),
      )
      block.add_module('act', nn.LeakyReLU(0.2))
      self.body.append(block)
      h, w = ((n + 2 * padding - size) // stride + 1 for n in (h, w))
      inputs = outputs
    last = nn.Sequential()
    last.add_module(
      'layer', nn.Linear(h * w * inputs, case.num_classes, bias=False)
    )
    self.body.append(last)

  def forward(self, x):
    """Maps [B, C, H, W] to [B, K]."""
    *convolutions, last = self.body
    for block in convolutions:
      x = block(x)
    return last(x.flatten(1))


class ConvNet(nn.Module):
  """Eight convolutions with BatchNorm and two 3x3 pools."""

  def __init__(self, case, width=64):
    super().__init__()
    h, w, inputs = case.image_shape
    model = nn.Sequential()
    for i, factor in enumerate((1, 2, 2, 4, 4, 4, 4, 4)):
      model.add_module(
        f'conv{i}', nn.Conv2d(inputs, factor * width, 3, padding=1)
      )
      model.add_module(f'bn{i}', nn.BatchNorm2d(factor * width))
      model.add_module(f'relu{i}', nn.ReLU())
      if i in (5, 7):
        model.add_module(f'pool{i}', nn.MaxPool2d(3))
      inputs = factor * width
    model.add_module('flatten', nn.Flatten())
    features = (h // 9) * (w // 9) * inputs
    model.add_module('linear', nn.Linear(features, case.num_classes))
    self.model = model

  def forward(self, x):
    """Maps [B, C, H, W] to [B, K]."""
    return self.model(x)


NETS = {
  **torch_mobile.NETS,
  'lenet': functools.partial(LeNet, activation=nn.Sigmoid),
  'lenet_relu': functools.partial(LeNet, activation=nn.ReLU),
  'mlp': MLP,
  'cnn6': CNN6,
  'convnet': ConvNet,
  **torch_convolutional.NETS,
  **torch_attention.NETS,
  **torch_detection.NETS,
  **torch_detr.NETS,
  **torch_residual.NETS,
}
