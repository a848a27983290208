"""Networks of other libraries, as large as giajax's own, for the benchmark.

A ResNet-18 with the stem for CIFAR in flax.linen and in torch, and ConvNet64 in
Equinox. Each has as many parameters as giajax's network of that name, and does
the same; only its library writes it down.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

import giajax
from giajax.models import base
from giajax.models import relaid

_STAGES = (64, 128, 256, 512)
# Width factors of ConvNet64; pools follow the sixth and the eighth layer.
_WIDTHS = (1, 2, 2, 4, 4, 4, 4, 4)
_POOL_AFTER = (5, 7)


def linen_resnet18(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  normalisation: str = 'imagenet',
) -> base.Net:
  """ResNet-18 of flax.linen."""
  from flax import linen

  norm = functools.partial(linen.BatchNorm, momentum=0.9)

  class Block(linen.Module):
    """Two convolutions and a shortcut."""

    width: int
    stride: int

    @linen.compact
    def __call__(self, x, train):
      conv = functools.partial(linen.Conv, self.width, use_bias=False)
      y = conv((3, 3), strides=self.stride, padding=1)(x)
      y = linen.relu(norm(use_running_average=not train)(y))
      y = conv((3, 3), padding=1)(y)
      y = norm(use_running_average=not train)(y)
      if x.shape != y.shape:
        x = conv((1, 1), strides=self.stride)(x)
        x = norm(use_running_average=not train)(x)
      return linen.relu(x + y)

  class ResNet(linen.Module):
    """The network."""

    @linen.compact
    def __call__(self, x, train: bool):
      x = linen.Conv(64, (3, 3), padding=1, use_bias=False)(x)
      x = linen.relu(norm(use_running_average=not train)(x))
      for i, width in enumerate(_STAGES):
        x = Block(width, 2 if i else 1)(x, train)
        x = Block(width, 1)(x, train)
      return linen.Dense(num_classes)(x.mean((1, 2)))

  spec = base.make_spec(
    'linen_resnet18', image_shape, num_classes, normalisation
  )
  return giajax.from_linen(ResNet(), spec)


def torch_resnet18(*, num_classes: int) -> Any:
  """ResNet-18 of torch."""
  from torch import nn

  class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inputs, width, stride):
      super().__init__()
      conv = functools.partial(nn.Conv2d, bias=False)
      self.conv1 = conv(inputs, width, 3, stride, 1)
      self.bn1 = nn.BatchNorm2d(width)
      self.conv2 = conv(width, width, 3, 1, 1)
      self.bn2 = nn.BatchNorm2d(width)
      self.down = nn.Sequential()
      if stride > 1:
        self.down.append(conv(inputs, width, 1, stride))
        self.down.append(nn.BatchNorm2d(width))

    def forward(self, x):
      y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
      return (y + self.down(x)).relu()

  inputs = (64, *_STAGES[:-1])
  blocks = [
    block
    for i, (before, width) in enumerate(zip(inputs, _STAGES))
    for block in (Block(before, width, 2 if i else 1), Block(width, width, 1))
  ]
  return nn.Sequential(
    *(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)),
    *(nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    nn.Linear(512, num_classes),
  )


def equinox_convnet64(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  normalisation: str = 'imagenet',
) -> base.Net:
  """ConvNet64 of Equinox."""
  import equinox as eqx

  class ConvNet(eqx.Module):
    """The network, on one image [C, H, W]."""

    convs: list
    norms: list
    head: eqx.nn.Linear

    def __init__(self, key):
      channels, self.convs, self.norms = image_shape[2], [], []
      *keys, last = jax.random.split(key, len(_WIDTHS) + 1)
      for own, factor in zip(keys, _WIDTHS):
        conv = eqx.nn.Conv2d(channels, 64 * factor, 3, padding=1, key=own)
        self.convs.append(conv)
        channels = 64 * factor
        self.norms.append(
          eqx.nn.BatchNorm(channels, axis_name='batch', mode='batch')
        )
      side = image_shape[0] // 9
      self.head = eqx.nn.Linear(side * side * channels, num_classes, key=last)

    def __call__(self, x, state):
      pool = eqx.nn.MaxPool2d(3, 3)
      for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
        x, state = norm(conv(x), state)
        x = jax.nn.relu(x)
        x = pool(x) if i in _POOL_AFTER else x
      return self.head(jnp.ravel(x)), state

  def parts(key):
    model, state = eqx.nn.make_with_state(ConvNet)(key)
    return (*eqx.partition(model, eqx.is_inexact_array), state)

  def init(key):
    params, _, state = parts(key)
    return params, state

  def apply(params, state, x, *, train, key):
    del key
    model = eqx.combine(params, static)
    model = model if train else eqx.nn.inference_mode(model)
    batched = jax.vmap(model, (0, None), (0, None), axis_name='batch')
    return batched(x.transpose(0, 3, 1, 2), state)

  static = eqx.filter_eval_shape(parts, jax.random.key(0))[1]
  spec = base.make_spec(
    'equinox_convnet64', image_shape, num_classes, normalisation
  )
  # The benchmark looks at its layers by flax's names.
  return relaid.relaid(giajax.from_stateful(init, apply, spec)).net
