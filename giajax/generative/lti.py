"""LTI: a multi-layer perceptron from the gradient of a batch to its images.

Wu, Chen, Guo and Weinberger, Learning to Invert: Simple Adaptive Attacks for
Gradient Inversion in Federated Learning, UAI 2023, arXiv 2210.10880.

The latent is the gradient g as one vector, and becomes the B images of the
batch, in no order that means anything. Of n entries, m numbers go into the
perceptron:

  (1)  u_i = clip((g_i - mean_i) / sqrt(var_i + e), -10, 10)
  (2)  v_j = sqrt(m / n) sum_{i: h(i) = j} s(i) u_i

(1) is a BatchNorm without scale and shift, because the entries of different
layers differ by orders of magnitude. The bound is for entries that are hardly
ever other than 0, behind a ReLU for instance, whose running variance is far too
small when they are. (2) has a hash h and signs s that never change, for
networks of more than `hashed` parameters (Weinberger, Dasgupta, Langford, Smola
and Attenberg, Feature Hashing for Large Scale Multitask Learning, ICML 2009,
arXiv 0902.2206). The weights fit the one network and the one message on whose
gradients they were trained.

Differs from the authors' code: (1) is ours; they hash without signs and to half
the entries, and have no sigmoid at the end for their larger networks.
"""

import functools
import itertools
import math

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax import require
from giajax import types
from giajax.generative import base
from giajax.models import layers
from giajax.models.parts import norms

_MOST_ENTRIES = 2**30
_MOST_IMAGES = 65_536
_MOST_LAYERS = 64
_BOUND = 10.0
_EPSILON = 1e-20  # a deviation below 1e-10 counts as none
# A file of weights belongs to this hash.
_SEED = 0


class LTI(nnx.Module):
  """A normalisation, hidden layers, and a linear layer."""

  def __init__(
    self, entries, hashed, width, depth, image_shape, images, *, rngs
  ):
    self.image_shape = tuple(image_shape)
    self.hashed = hashed if 0 < hashed < entries else 0
    self.norm = norms.BatchNorm(
      entries, affine=False, epsilon=_EPSILON, rngs=rngs
    )
    outputs = images * math.prod(image_shape)
    sizes = (self.hashed or entries, *[width] * depth, outputs)
    self.fc = nnx.List(
      layers.Linear(i, o, rngs=rngs) for i, o in itertools.pairwise(sizes)
    )

  def stages(self, y):
    """Returns the stages: what the perceptron reads, and its layers."""
    del y
    reads = [functools.partial(sketch, size=self.hashed)] if self.hashed else []

    def images(x):
      x = x.reshape(-1, math.prod(self.image_shape))
      return layers.unflatten(x, self.image_shape)

    *hidden, last = self.fc
    return {
      'norm': base.in_turn(self.norm, _bounded, *reads),
      **{
        f'fc.{i}': base.in_turn(layer, jax.nn.relu)
        for i, layer in enumerate(hidden)
      },
      f'fc.{len(hidden)}': base.in_turn(last, jax.nn.sigmoid, images),
    }


def lti(
  image_shape: tuple[int, int, int] = (32, 32, 3),
  *,
  entries: int,
  batch_size: int = 1,
  hashed: int = 4096,
  width: int = 1024,
  depth: int = 2,
  lowering: str = 'auto',
) -> base.Generator:
  """A multi-layer perceptron from the gradient of a batch to its images.

  Args:
    image_shape: (H, W, C).
    entries: the number n of entries of the gradient.
    batch_size: the number B of images that each gradient becomes.
    hashed: the number m of sums that the entries are added up to, if they are
      more; 0 to read all entries as they are, as the authors do for LeNet.
    width: the number of units of a hidden layer; the authors take 3,000 for
      one image and 10,000 for several.
    depth: the number of hidden layers. Without any, the images are a linear map
      of the gradient behind a sigmoid, a baseline for what more layers add.
    lowering: name of the convolution lowering; without effect here.

  Raises:
    ValueError: a size out of range.
  """
  base.check_image_shape(image_shape, 'lti')
  require.whole(entries, 'entries', most=_MOST_ENTRIES)
  require.whole(batch_size, 'batch_size', most=_MOST_IMAGES)
  require.whole(
    hashed,
    'hashed',
    least=0,
    most=_MOST_ENTRIES,
    advice='use 0 for all entries',
  )
  base.check_width(width, 'width')
  require.whole(depth, 'depth', least=0, most=_MOST_LAYERS, advice='use 2')
  size = entries, hashed, width, depth, image_shape, batch_size
  return base.from_module(
    lambda rngs: LTI(*size, rngs=rngs),
    base.Spec(
      'lti', (entries,), tuple(image_shape), images=batch_size, latents='update'
    ),
    lowering,
  )


def sketch(u: types.Array, size: int) -> types.Array:
  """Returns sums of entries with random signs, (2).

  A shuffle deals the entries to the sums, so that each sum has as many, up to
  one.

  Args:
    u: [M, n] of unit variance.
    size: the number m < n of sums.

  Returns:
    [M, m] of unit variance, if the entries are not correlated.
  """
  order, signs = _deal(u.shape[1])
  dealt = u[:, order] * signs
  dealt = jnp.pad(dealt, ((0, 0), (0, -u.shape[1] % size)))
  scale = math.sqrt(size / u.shape[1])
  return scale * dealt.reshape(len(u), -1, size).sum(axis=1)


def _bounded(u: types.Array) -> types.Array:
  return jnp.clip(u, -_BOUND, _BOUND)


@functools.lru_cache(maxsize=4)
def _deal(entries: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns an order of all entries, and a sign for each place in it."""
  # The draws of RandomState are the same in all versions of numpy.
  draws = np.random.RandomState(_SEED)
  order = draws.permutation(entries).astype(np.int32)
  return order, draws.choice(np.array([-1, 1], np.float32), entries)
