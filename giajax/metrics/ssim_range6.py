"""SSIM of images in [0, 1] as if their range were 6, which flatters a guess.

  SSIM as in `ssim`, with c1 = (.01 range)^2, c2 = (.03 range)^2, range = 6

The studies of detectors in LeakPro (2025), its examples of COCO, report
values of this form: 6 is about the range of images that are normalised by mean
and deviation, but those of its detector are not. The two constants then
outweigh what they stabilise, so that a flat grey image is similar to most. Of
24 photographs of COCO, letterboxed in black at 256 pixels, a flat grey image
scores .51, the mean colour .55, black .33, and a blur of 8 pixels .84; with
range 1 these are .26, .28, .26 and .51. Compare such a value with that of grey,
which stands beside it, and with nothing else.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.metrics import base
from giajax.metrics import ssim

RANGE = 6.0
_GREY = 0.5


def ssim_range6(
  a: jax.typing.ArrayLike, b: jax.typing.ArrayLike
) -> types.Array:
  """Returns the similarity, [...] float32 in [-1, 1].

  Args:
    a: [..., H, W, C] in [0, 1].
    b: as `a`, or broadcastable to it.

  Raises:
    ValueError: as `ssim.ssim`.
  """
  return ssim.ssim(a, b, span=RANGE)


def prepare(audited: base.Audited, asked: bool) -> Callable[..., types.Array]:
  """SSIM with the range of a study of detectors."""
  del audited, asked
  return jax.jit(ssim_range6)


def prepare_grey(
  audited: base.Audited, asked: bool
) -> Callable[[types.Batch], np.ndarray]:
  """The same of a flat grey image."""
  score = prepare(audited, asked)
  return lambda batch: np.asarray(score(batch.x, jnp.full_like(batch.x, _GREY)))


SSIM = base.Metric(
  name='ssim_range6',
  label='SSIM at range 6',
  unit='',
  form='.3f',
  meaning='SSIM with the constants of a range of 6, as a study of detectors '
  'reports it: look at that of grey first.',
  source='LeakPro (2025), its examples of COCO',
  needs=base.IMAGES,
  prepare=prepare,
)

GREY = SSIM._replace(
  name='ssim_range6_grey',
  label='SSIM at range 6 of grey',
  meaning='The same of a flat grey image, which knows nothing of the update.',
  needs=('batch',),
  prepare=prepare_grey,
  asked=('ssim_range6',),
  about='batch',
)
