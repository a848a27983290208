"""What the network after an imprint layer sees besides an image's level.

The layer passes on grey images whose level tells the images apart. A network
that normalises each image before anything else, as ConvNeXt's first LayerNorm
does after a convolution whose bias is zero, maps every positive multiple of an
image to the same logits: it is blind to a grey image's level, and the gradient
that reaches the layer is rounding. Stripes that do not depend on the level are
added in front of such a network, so that the level changes what it sees.
"""

import math

import numpy as np

from giajax import trees
from giajax.models import base as models
from giajax.models import inspect


def backdrop(net: models.Net) -> np.ndarray:
  """Returns what is added to the normalised images of the level, [C*H*W].

  Args:
    net: the network after the layer.

  Returns:
    Stripes of 1 and -1, neighbours along a row, in front of a network whose
    first normalisation treats each image by itself; zeros in front of others.
  """
  size = math.prod(net.spec.image_shape)
  first = next(iter(inspect.norms(net)), None)
  stats = trees.named_leaves(inspect.abstract_variables(net).stats)
  if first is None or f'{first}.mean' in stats:
    return np.zeros(size, np.float32)
  return np.where(np.arange(size) % 2, -1, 1).astype(np.float32)
