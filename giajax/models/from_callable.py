"""A Net of two plain functions that a user brings."""

from collections.abc import Callable

from giajax import types
from giajax.models import base
from giajax.models.parts import brought


def from_callable(
  init: Callable[[types.Array], types.Tree],
  apply: Callable[[types.Tree, types.Array], types.Array],
  spec: base.Spec,
) -> base.Net:
  """Returns the Net of two plain functions.

  A training pass is the same as an inference pass: the functions keep no
  running statistics and draw no random numbers. Its layers are found in the
  trace of a pass, see `parts.recognition`, and `relaid` gives them giajax's
  names.

  Args:
    init: `(key) -> params`; the key is consumed.
    apply: `(params, x) -> logits` [B, K] of normalised images [B, H, W, C].
    spec: the static facts about the network; its `mean` and `std` normalise the
      images.
  """

  def forward(params, stats, x, key, train):
    del key, train
    return apply(params, x), stats

  def make(key):
    return types.Variables(init(key), {})

  return brought.net(make, forward, spec)
