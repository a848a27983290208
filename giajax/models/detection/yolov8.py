"""YOLOv8: an anchor-free detector of one stage, for objects of three sizes.

Its makers (Ultralytics, 2023) published no paper, and none of their code is
here. This is written from a table of its layers, of the shapes in a trained
state dict, and from the papers that it rests on: stages that split (CSPNet,
arXiv 1911.11929), a pyramid of pools (He et al., Spatial Pyramid Pooling, TPAMI
2015, arXiv 1406.4729), features that go down and up again (Lin et al., Feature
Pyramid Networks, CVPR 2017, arXiv 1612.03144; Liu et al., Path Aggregation
Network, CVPR 2018, arXiv 1803.01534), a head with towers apart (Ge et al.,
YOLOX, 2021, arXiv 2107.08430), and sides of boxes as distributions (arXiv
2006.04388).

Attribute names are those of their state dicts (`model.22.cv2.0.0.conv`), which
`convert` reads. `model.22.dfl.conv.weight` there is a constant, 0 to 15.

Fresh weights have torch's default; all norms have epsilon 1e-3 and momentum
0.03. In inference mode a fresh network makes the signal three to four times
smaller at each layer, so that the gradient holds next to nothing of the image.
"""

from collections.abc import Callable
import functools

from flax import nnx
import jax.numpy as jnp

from giajax import types
from giajax.models import base
from giajax.models import dimensions
from giajax.models import from_nnx
from giajax.models.parts import pools
from giajax.models.parts import yolo

_CHANNELS = (64, 128, 256, 512, 1024)  # at 1/2, 1/4, ... of the sides
_DEPTHS = (3, 6, 6, 3)  # bottlenecks of a stage, from 1/4 on; 3 in the neck
# What a part reads, where that is not what the part before it gives.
_READS = {
  11: (10, 6),
  14: (13, 4),
  17: (16, 12),
  20: (19, 9),
  22: (15, 18, 21),
}


class SPPF(nnx.Module):
  """Maxima over ever larger windows, beside what they are of."""

  def __init__(self, channels, conv, *, rngs):
    hidden = channels // 2
    self.cv1 = conv(channels, hidden, 1, rngs=rngs)
    self.cv2 = conv(4 * hidden, channels, 1, rngs=rngs)

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, H, W, C] to the same shape."""
    maps = [self.cv1(x)]
    for _ in range(3):
      maps.append(pools.max_pool(maps[-1], 5, 1, 2))
    return self.cv2(jnp.concatenate(maps, axis=-1))


class YOLOv8(nnx.Module):
  """A backbone, a neck that goes down and up again, and a head.

  Args:
    channels: the number of channels of an image.
    classes: the number of classes K.
    widths: the channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the sides.
    depths: the bottlenecks of the four stages of the backbone, and of those of
      the neck.
    conv: the factory of the convolutions.
    side: the `side` of the head.
    rngs: the source of the initial weights.
  """

  def __init__(
    self,
    channels: int,
    classes: int,
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    conv: Callable[..., nnx.Module],
    side: float,
    *,
    rngs: nnx.Rngs,
  ):
    *stages, neck = depths
    down = functools.partial(conv, size=3, stride=2, rngs=rngs)
    stage = functools.partial(yolo.C2f, conv=conv, rngs=rngs)
    parts, inputs = [down(channels, widths[0])], widths[0]
    for width, depth in zip(widths[1:], stages, strict=True):
      parts += [down(inputs, width), stage(width, width, depth, True)]
      inputs = width
    a, b, c = levels = widths[2:]
    merge = functools.partial(stage, depth=neck, skip=False)
    parts += [SPPF(c, conv, rngs=rngs)]
    parts += [yolo.upsample, yolo.joined, merge(c + b, b)]
    parts += [yolo.upsample, yolo.joined, merge(b + a, a)]
    parts += [down(a, a), yolo.joined, merge(a + b, b)]
    parts += [down(b, b), yolo.joined, merge(b + c, c)]
    names = 'cv2', 'cv3'
    parts += [yolo.Head(levels, classes, conv, names, side, rngs=rngs)]
    self.model = nnx.List(parts)

  def __call__(self, x: types.Array) -> dict[str, types.Array]:
    """Maps normalised images [B, H, W, C] to logits of A cells, see `Head`."""
    made: list = [self.model[0](x)]
    for i, part in enumerate(self.model[1:], 1):
      made.append(part(*(made[j] for j in _READS.get(i, (i - 1,)))))
    return made[-1]


def yolov8(
  image_shape: tuple[int, int, int] = (256, 256, 3),
  num_classes: int = 80,
  *,
  width: float = 0.25,
  depth: float = 1 / 3,
  norm: str = 'batch',
  activation: str = 'silu',
  prior_side: float = 640,
  normalisation: str = 'none',
  lowering: str = 'auto',
) -> base.Net:
  """YOLOv8-n; its width and depth may be others.

  It maps images to `{'boxes': [B, A, 4, 16], 'scores': [B, A, K]}`, float32
  logits of A = 21 H W / 1024 cells at 1/8, 1/16 and 1/32 of the sides, in this
  order, row by row. Boxes are distributions over distances of 0 to 15 strides
  from the centre of the cell to the left, the top, the right and the bottom.

  Args:
    image_shape: (H, W, C); sides are multiples of 32.
    num_classes: the number of classes K.
    width: the factor of the channels 64 to 1024; 0.25 is YOLOv8-n and 0.5 is
      YOLOv8-s. Those of the head follow from it and from K.
    depth: the factor of the bottlenecks of a stage, 3 or 6, of which one stays.
    norm: a name in `norms.NORMS`; convolutions have no bias with any of them.
    activation: a name in `layers.ACTIVATIONS`.
    prior_side: the side of the square image of whose cells fresh weights take
      five for objects, at each level.
    normalisation: a name in `base.NORMALISATIONS`.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown norm, activation or normalisation; a factor or side
      that is not above 0, or more blocks than can be made; image sides that are
      no multiples of 32.
  """
  spec = base.make_spec('yolov8n', image_shape, num_classes, normalisation)
  yolo.check(image_shape, prior_side, width=width, depth=depth)
  depths = tuple(max(round(d * depth), 1) for d in (*_DEPTHS, _DEPTHS[-1]))
  dimensions.require_blocks(depths, 'depths')
  widths = tuple(dimensions.scaled(c, width) for c in _CHANNELS)
  conv = yolo.conv_norm(activation, norm)
  sizes = image_shape[2], num_classes, widths, depths
  make = functools.partial(YOLOv8, *sizes, conv, prior_side)
  return from_nnx.from_nnx(
    lambda rngs: make(rngs=rngs),
    spec,
    lowering,
    constants=yolo.constants('model.22'),
  )
