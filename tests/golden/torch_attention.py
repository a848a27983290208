"""Torchvision's vision transformers and ConvNeXt, as small as a case asks.

Nothing of giajax is imported. What torchvision does not have (CIFAR stems,
adapters, other norms) replaces parts of what it builds.
"""

import functools

import torch
from torch import nn
import torchvision
from torchvision.models import convnext
from torchvision.models import swin_transformer

# torch's modules by the option's names.
ACTIVATIONS = {'gelu': nn.GELU, 'silu': nn.SiLU}


class Adapted(nn.MultiheadAttention):
  """Self-attention with a low-rank adapter on the fused projection."""

  def __init__(self, dim, heads, rank):
    super().__init__(dim, heads, batch_first=True)
    self.in_proj = nn.Module()
    self.in_proj.lora_a = nn.Linear(dim, rank, bias=False)
    self.in_proj.lora_b = nn.Linear(rank, 3 * dim, bias=False)

  def forward(self, x, *_, **__):
    """Maps [B, T, D] to the same shape, and no weights."""
    change = self.in_proj.lora_b.weight @ self.in_proj.lora_a.weight
    y, _ = nn.functional.multi_head_attention_forward(
      *[x.transpose(0, 1)] * 3,
      self.embed_dim,
      self.num_heads,
      self.in_proj_weight + change,
      self.in_proj_bias,
      None,
      None,
      False,
      0.0,
      self.out_proj.weight,
      self.out_proj.bias,
      need_weights=False,
    )
    return y.transpose(0, 1), None


class AnyShape(torchvision.models.VisionTransformer):
  """Images that need not be square."""

  def _process_input(self, x):
    return self.conv_proj(x).flatten(2).transpose(1, 2)


def vit(
  case,
  width,
  heads,
  depth=12,
  hidden=4,
  patch=None,
  activation='gelu',
  lora_rank=0,
):
  """Torchvision's VisionTransformer."""
  h, w, _ = case.image_shape
  patch = patch or {'cifar': 4, 'imagenet': 16}[case.form(None)]
  net = AnyShape(
    image_size=patch,
    patch_size=patch,
    num_layers=depth,
    num_heads=heads,
    hidden_dim=width,
    mlp_dim=int(hidden * width),
    num_classes=case.num_classes,
  )
  tokens = 1 + (h // patch) * (w // patch)
  net.encoder.pos_embedding = nn.Parameter(torch.zeros(1, tokens, width))
  for block in net.encoder.layers:
    block.mlp[1] = ACTIVATIONS[activation]()
    if lora_rank:
      block.self_attention = Adapted(width, heads, lora_rank)
  return net


class LastBatchNorm(nn.BatchNorm2d):
  """BatchNorm of channels that stand last."""

  def forward(self, x):
    """Maps [B, H, W, C] to the same shape."""
    return super().forward(x.movedim(-1, 1)).movedim(1, -1)


class NoSkip(convnext.CNBlock):
  """A block of ConvNeXt without its skip connection."""

  def forward(self, x):
    """Maps [B, C, H, W] to the same shape."""
    return self.layer_scale * self.block(x)


def convnext_net(
  case,
  width,
  depths,
  stem=None,
  norm='layer',
  placement='before',
  skip=True,
  activation='gelu',
  stochastic_depth=0.0,
):
  """Torchvision's ConvNeXt, with the ablations of the feasibility study."""
  widths = [width * 2**i for i in range(len(depths))]
  net = convnext.ConvNeXt(
    [
      convnext.CNBlockConfig(i, o, n)
      for i, o, n in zip(widths, [*widths[1:], None], depths)
    ],
    stochastic_depth,
    num_classes=case.num_classes,
    block=convnext.CNBlock if skip else NoSkip,
  )
  if case.form(stem) == 'cifar':
    net.features[0][0] = nn.Conv2d(3, width, 3, 1, 1)
  if norm == 'batch':
    net.features[0][1] = nn.BatchNorm2d(width)
    for shrink in net.features[2::2]:
      shrink[0] = nn.BatchNorm2d(shrink[1].in_channels)
  for module in list(net.modules()):
    if isinstance(module, convnext.CNBlock):
      first, to_last, kind, *pointwise, to_first = module.block
      pointwise[1] = ACTIVATIONS[activation]()
      if norm == 'batch':
        kind = LastBatchNorm(*kind.normalized_shape)
      before = placement == 'before'
      parts = [kind, *pointwise] if before else [*pointwise, kind]
      module.block = nn.Sequential(first, to_last, *parts, to_first)
  return net


def swin(
  case,
  version,
  width=96,
  depths=(2, 2, 6, 2),
  head_dim=32,
  patch=4,
  window=None,
  stochastic_depth=0.0,
):
  """Torchvision's Swin transformer of either version."""
  window = window or {'cifar': 4, 'imagenet': 6 + version}[case.form(None)]
  kwargs = {}
  if version == 2:
    kwargs['block'] = swin_transformer.SwinTransformerBlockV2
    kwargs['downsample_layer'] = swin_transformer.PatchMergingV2
  return swin_transformer.SwinTransformer(
    [patch] * 2,
    width,
    depths,
    [width * 2**i // head_dim for i in range(len(depths))],
    [window] * 2,
    stochastic_depth_prob=stochastic_depth,
    num_classes=case.num_classes,
    **kwargs,
  )


def maxvit(
  case,
  width=64,
  depths=(2, 2, 5, 2),
  head_dim=32,
  stem=None,
  partition=None,
  stochastic_depth=0.0,
):
  """Torchvision's MaxViT; for small images, without its first two strides."""
  small = case.form(stem) == 'cifar'
  partition = partition or (4 if small else 7)
  net = torchvision.models.MaxVit(
    [n * 4 if small else n for n in case.image_shape[:2]],
    width,
    partition,
    [width * 2**i for i in range(len(depths))],
    depths,
    head_dim,
    stochastic_depth,
    num_classes=case.num_classes,
  )
  if small:
    first = net.blocks[0].layers[0].layers.MBconv
    first.proj = nn.Identity()
    for conv in (net.stem[0][0], first.layers.conv_b[0]):
      conv.stride = (1, 1)
  return net


NETS = {
  'convnext_tiny': functools.partial(
    convnext_net, width=96, depths=(3, 3, 9, 3)
  ),
  'convnext_small': functools.partial(
    convnext_net, width=96, depths=(3, 3, 27, 3)
  ),
  'convnext_base': functools.partial(
    convnext_net, width=128, depths=(3, 3, 27, 3)
  ),
  'maxvit_tiny': maxvit,
  'swin_tiny': functools.partial(swin, version=1),
  'swin_v2_tiny': functools.partial(swin, version=2),
  'vit_tiny': functools.partial(vit, width=192, heads=3),
  'vit_small': functools.partial(vit, width=384, heads=6),
  'vit_base': functools.partial(vit, width=768, heads=12),
  'vit_large': functools.partial(vit, width=1024, heads=16, depth=24),
}
