"""Torch's definitions of the purely convolutional networks of the goldens.

Whole rows are torchvision's, with the stem or head of the CIFAR form; shrunken
ones and those with switches are written here with torch's own layers.
"""

import functools
import math

import torch
from torch import nn
from torchvision import models


class ChannelNorm(nn.LayerNorm):
  """LayerNorm over the channels of [B, C, H, W]."""

  def forward(self, x):
    """Maps [B, C, H, W] to the same shape."""
    return super().forward(x.movedim(1, -1)).movedim(-1, 1)


NORMS = {
  'batch': nn.BatchNorm2d,
  'group': lambda channels: nn.GroupNorm(math.gcd(32, channels), channels),
  'layer': ChannelNorm,
  'none': lambda channels: nn.Identity(),
}
ACTIVATIONS = {
  'gelu': nn.functional.gelu,
  'leaky_relu': nn.functional.leaky_relu,
  # By its name at the call, as the generator watches its inputs.
  'relu': lambda x: nn.functional.relu(x),
  'silu': nn.functional.silu,
  'tanh': torch.tanh,
}


class Activation(nn.Module):
  """An activation of the table as a module."""

  def __init__(self, name):
    super().__init__()
    self.function = ACTIVATIONS[name]

  def forward(self, x):
    """Maps any shape to itself."""
    return self.function(x)


def vgg(case, depth, norm='none', activation='relu', width=1, form=None, **_):
  """Torchvision's VGG without dropout, with other widths, norms, heads."""
  form = case.form(form)
  name = f'vgg{depth}' if norm == 'none' else f'vgg{depth}_bn'
  with torch.device('meta'):  # all that has weights is replaced
    published = getattr(models, name)()
  features, inputs = [], case.image_shape[2]
  for module in published.features:
    if isinstance(module, nn.Conv2d):
      outputs = round(width * module.out_channels)
      module, inputs = nn.Conv2d(inputs, outputs, 3, padding=1), outputs
    elif isinstance(module, nn.BatchNorm2d):
      module = NORMS[norm](inputs)
    elif isinstance(module, nn.ReLU):
      module = Activation(activation)
    features.append(module)
  published.features = nn.Sequential(*features)
  hidden = round(width * 4096)
  return with_head(published, case, inputs, hidden, form, (0, 3, 6), activation)


def alexnet(case, activation='relu', width=1, form=None, **_):
  """Torchvision's AlexNet without dropout, with other widths and head."""
  form = case.form(form)
  with torch.device('meta'):  # all that has weights is replaced
    net, inputs = models.alexnet(), case.image_shape[2]
  for i, module in enumerate(net.features):
    if isinstance(module, nn.Conv2d):
      outputs, size = round(width * module.out_channels), module.kernel_size[0]
      padding = module.padding if i or form == 'imagenet' else 5
      conv = nn.Conv2d(inputs, outputs, size, module.stride, padding)
      net.features[i], inputs = conv, outputs
    elif isinstance(module, nn.ReLU):
      net.features[i] = Activation(activation)
    elif form == 'cifar':
      net.features[i] = nn.MaxPool2d(2)
  hidden = round(width * 4096)
  return with_head(net, case, inputs, hidden, form, (1, 4, 6), activation)


class DenseNet(models.DenseNet):
  """Torchvision's DenseNet with any norm and activation."""

  def __init__(self, case, stem, norm, activation, **options):
    super().__init__(num_classes=case.num_classes, **options)
    conv = self.features.conv0
    if stem == 'cifar':
      conv = nn.Conv2d(3, conv.out_channels, 3, 1, 1, bias=False)
      self.features.conv0, self.features.pool0 = conv, nn.Identity()
    self.activation = Activation(activation)
    replace_switches(self, norm, activation)

  def forward(self, x):
    """Maps [B, C, H, W] to [B, K]."""
    return self.classifier(self.activation(self.features(x)).mean((2, 3)))


def densenet(
  case,
  blocks=(6, 12, 24, 16),
  growth=32,
  norm='batch',
  activation='relu',
  stem=None,
):
  """Torchvision's DenseNet of other sizes."""
  stem = case.form(stem)
  sizes = {'num_init_features': 2 * growth, 'growth_rate': growth}
  return DenseNet(case, stem, norm, activation, block_config=blocks, **sizes)


def googlenet(
  case, blocks=(2, 5, 2), width=1, norm='batch', stem=None, dropout=0.2
):
  """Torchvision's GoogLeNet of other sizes."""
  stem = case.form(stem)
  net = models.GoogLeNet(
    case.num_classes, aux_logits=False, init_weights=False, dropout=dropout
  )
  scaled = {}  # channels by name of those who give them
  for name, module in net.named_modules():
    if isinstance(module, nn.Conv2d):
      scaled[name] = round(width * module.out_channels)
  inputs = 3
  for name, child in list(net.named_children()):
    if name in ('conv1', 'conv2', 'conv3'):
      old, outputs = child.conv, scaled[f'{name}.conv']
      where = (old.kernel_size, old.stride, old.padding)
      if name == 'conv1' and stem == 'cifar':
        where = (3, 1, 1)
      child.conv = nn.Conv2d(inputs, outputs, *where, bias=False)
      child.bn = nn.BatchNorm2d(outputs, eps=child.bn.eps)
      inputs = outputs
    elif name.startswith('inception'):
      if 'abcde'.index(name[-1]) >= blocks[int(name[-2]) - 3]:
        setattr(net, name, nn.Identity())
        continue
      rows = [c for n, c in scaled.items() if n.startswith(f'{name}.')]
      setattr(net, name, type(child)(inputs, *rows))
      inputs = rows[0] + rows[2] + rows[4] + rows[5]
  if stem == 'cifar':
    net.maxpool1 = nn.Identity()
  net.fc = nn.Linear(inputs, case.num_classes)
  replace_switches(net, norm, 'relu')
  return net


def replace_switches(module, norm, activation):
  """Replaces the BatchNorms and ReLUs below a module, where they are others."""
  for name, child in module.named_children():
    if isinstance(child, nn.BatchNorm2d) and norm != 'batch':
      setattr(module, name, NORMS[norm](child.num_features))
    elif isinstance(child, nn.ReLU) and activation != 'relu':
      setattr(module, name, Activation(activation))
    else:
      replace_switches(child, norm, activation)


def with_head(net, case, inputs, hidden, form, places, activation):
  """Replaces the classifier, whose linear layers are at `places`."""
  if form == 'cifar':
    net.avgpool = nn.AdaptiveAvgPool2d(1)
    net.classifier = nn.Linear(inputs, case.num_classes)
    return net
  inputs *= net.avgpool.output_size[0] ** 2
  for i, module in enumerate(net.classifier):
    if i in places:
      outputs = case.num_classes if i == places[-1] else hidden
      net.classifier[i] = nn.Linear(inputs, outputs)
      inputs = outputs
    elif isinstance(module, nn.Dropout):
      module.p = 0.0
    else:
      net.classifier[i] = Activation(activation)
  return net


NETS = {
  'alexnet': alexnet,
  'densenet121': densenet,
  'googlenet': googlenet,
  **{
    f'vgg{d}{suffix}': functools.partial(vgg, depth=d, norm=norm)
    for d in (11, 13, 16, 19)
    for suffix, norm in (('', 'none'), ('_bn', 'batch'))
  },
}
