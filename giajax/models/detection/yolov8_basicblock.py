"""YOLOv8's head and pyramid on the backbone of a ResNet.

The network of the feasibility study of gradient inversion on detectors in
LeakPro (2025): of YOLOv8-n only the head, and the wiring and the convolutions
of the neck, remain. A stem of a ResNet is in the place of the first layers, and
residual blocks (see `resnet`) in the place of all stages that split; there is
no pyramid of pools. It is shallower than YOLOv8-n and twice as large, and lets
more of an image through to the gradient where the weights are fresh.

Attribute names are those of its state dict: `net.layer1.0.conv1`,
`fpn.h3.conv`, `head.cls.0.2`. As there, norms of the blocks and the stem are
BatchNorms of epsilon 1e-5 and momentum 0.1, behind which there is a ReLU, and
all others have 1e-3, 0.03 and SiLU. Fresh weights have torch's default.
"""

from collections.abc import Callable, Sequence
import functools

from flax import nnx

from giajax import registry
from giajax import types
from giajax.models import base
from giajax.models import dimensions
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models.classification import resnet
from giajax.models.parts import norms
from giajax.models.parts import pools
from giajax.models.parts import yolo
from giajax.ops import fusion_barrier

_CHANNELS = (64, 128, 256, 512, 1024)  # of the stem, and of the stages
# Whether the norm is in front of the convolution.
_PLACEMENTS = {'after': False, 'before': True}
# The side of the stem's kernel, and the strides of its pool and of the stage
# behind it.
_STEMS = {'imagenet': (7, 2, 1), 'yolov8': (3, 1, 2)}

# `(inputs, outputs, count, stride, *, rngs) -> modules`
Stage = Callable[..., Sequence[nnx.Module]]


class Backbone(nnx.Module):
  """A stem and four stages, the last three of which are levels."""

  def __init__(self, channels, widths, blocks, stem, first, stage, *, rngs):
    size, self.pool, stride = stem
    self.p1 = first(channels, widths[0], size, 2, rngs=rngs)
    for i, count in enumerate(blocks):
      sizes = (*widths[i : i + 2], count, 2 if i else stride)
      setattr(self, f'layer{i + 1}', nnx.List(stage(*sizes, rngs=rngs)))

  def __call__(self, x: types.Array) -> list[types.Array]:
    """Maps [B, H, W, C] to maps at 1/8, 1/16 and 1/32 of the sides."""
    x = self.p1(x)
    x = pools.max_pool(x, 3, 2, 1) if self.pool == 2 else x
    maps = []
    for i in range(4):
      x = _passed(getattr(self, f'layer{i + 1}'), x)
      maps.append(x)
    return maps[1:]


class Neck(nnx.Module):
  """The levels once down and once up again, joined with what they were."""

  def __init__(self, levels, count, conv, stage, *, rngs):
    a, b, c = levels
    merge = functools.partial(stage, count=count, stride=1, rngs=rngs)
    self.h1 = nnx.List(merge(c + b, b))
    self.h2 = nnx.List(merge(b + a, a))
    self.h3 = conv(a, a, 3, 2, rngs=rngs)
    self.h4 = nnx.List(merge(a + b, b))
    self.h5 = conv(b, b, 3, 2, rngs=rngs)
    self.h6 = nnx.List(merge(b + c, c))

  def __call__(self, a, b, c) -> list[types.Array]:
    """Maps three levels to levels of the same shapes."""
    middle = _passed(self.h1, yolo.joined(yolo.upsample(c), b))
    first = _passed(self.h2, yolo.joined(yolo.upsample(middle), a))
    second = _passed(self.h4, yolo.joined(self.h3(first), middle))
    third = _passed(self.h6, yolo.joined(self.h5(second), c))
    return [first, second, third]


class Detector(nnx.Module):
  """Backbone, neck and head."""

  def __init__(self, make_net, make_neck, make_head, *, rngs):
    self.net = make_net(rngs=rngs)
    self.fpn = make_neck(rngs=rngs)
    self.head = make_head(rngs=rngs)

  def __call__(self, x: types.Array) -> dict[str, types.Array]:
    """Maps normalised images [B, H, W, C] to logits, see `yolo.Head`."""
    return self.head(*self.fpn(*self.net(x)))


def yolov8_basicblock(
  image_shape: tuple[int, int, int] = (256, 256, 3),
  num_classes: int = 80,
  *,
  width: float = 0.25,
  blocks: Sequence[int] = (2, 2, 2, 2),
  neck_blocks: int = 1,
  block: str = 'basic',
  placement: str = 'after',
  stem: str = 'imagenet',
  norm: str = 'batch',
  activation: str = 'relu',
  prior_side: float = 256,
  normalisation: str = 'none',
  lowering: str = 'auto',
) -> base.Net:
  """YOLOv8-n's head and neck on residual blocks; what it returns is the same.

  Args:
    image_shape: (H, W, C); sides are multiples of 32.
    num_classes: the number of classes K.
    width: the factor of the channels 64 to 1024, as of YOLOv8-n.
    blocks: the number of blocks of each of the four stages.
    neck_blocks: the number of blocks of each of the four stages of the neck.
    block: 'basic' for residual blocks, 'c2f' for YOLOv8's stages of that many
      bottlenecks, each behind a 3x3 convolution in the backbone.
    placement: whether norm and activation of residual blocks stand 'after' the
      convolutions or 'before' them, with nothing after the sum.
    stem: 'imagenet' (7x7 of stride 2 and a max-pool) or 'yolov8' (3x3 of stride
      2, and another in the first stage).
    norm: a name in `norms.NORMS`, for all parts.
    activation: a name in `layers.ACTIVATIONS`, of the stem and of residual
      blocks; the other parts have SiLU.
    prior_side: as of `yolov8`.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown or impossible value of an option; image sides that
      are no multiples of 32.
  """
  name = 'yolov8n_basicblock'
  spec = base.make_spec(name, image_shape, num_classes, normalisation)
  yolo.check(image_shape, prior_side, width=width)
  _check_blocks(blocks, neck_blocks)
  style = resnet.Style(
    registry.lookup(norms.NORMS, norm, 'norm'),
    registry.lookup(layers.ACTIVATIONS, activation, 'activation'),
    before=registry.lookup(_PLACEMENTS, placement, 'placement'),
    skip=True,
    option_a=False,
    bottleneck=False,
    groups=1,
    group_width=64,
    init=None,
  )
  conv = yolo.conv_norm('silu', norm, 'norm')
  stages = registry.lookup(_stages(style, conv), block, 'block')
  widths = tuple(dimensions.scaled(c, width) for c in _CHANNELS)
  first = functools.partial(
    yolo.ConvNorm, norm=style.norm, activation=style.activation
  )
  where = registry.lookup(_STEMS, stem, 'stem')
  sizes = image_shape[2], widths, tuple(blocks), where
  make = functools.partial(
    Detector,
    functools.partial(Backbone, *sizes, first, stages[0]),
    functools.partial(Neck, widths[2:], neck_blocks, conv, stages[1]),
    functools.partial(
      yolo.Head, widths[2:], num_classes, conv, ('box', 'cls'), prior_side
    ),
  )
  return from_nnx.from_nnx(
    lambda rngs: make(rngs=rngs),
    spec,
    lowering,
    constants=yolo.constants('head'),
  )


def _stages(style, conv) -> dict[str, tuple[Stage, Stage]]:
  """Returns the stages of the backbone and of the neck, by kind of block."""

  def residual(inputs, outputs, count, stride, *, rngs):
    block = functools.partial(resnet.Block, style=style, rngs=rngs)
    rest = [block(outputs, outputs, 1) for _ in range(count - 1)]
    return [block(inputs, outputs, stride), *rest]

  def split(inputs, outputs, count, stride, *, rngs):
    down = conv(inputs, outputs, 3, stride, rngs=rngs)
    return [down, yolo.C2f(outputs, outputs, count, True, conv, rngs=rngs)]

  def merge(inputs, outputs, count, stride, *, rngs):
    del stride
    return [yolo.C2f(inputs, outputs, count, False, conv, rngs=rngs)]

  return {'basic': (residual, residual), 'c2f': (split, merge)}


def _passed(stage, x: types.Array) -> types.Array:
  """Returns what the modules of a stage make of a map."""
  for block in stage:
    x = fusion_barrier.fusion_barrier(block(x))
  return x


def _check_blocks(blocks, neck_blocks) -> None:
  """Raises a ValueError for numbers of blocks that cannot be made."""
  counts = (*blocks, neck_blocks)
  if len(blocks) != 4 or min(counts) < 1:
    raise ValueError(
      'Expected at least one block in each of four stages, and in each of the '
      f'neck; got blocks={blocks}, neck_blocks={neck_blocks}; omit them for '
      "the study's"
    )
  dimensions.require_blocks(counts, 'blocks')
