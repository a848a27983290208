"""A Net of two plain functions that a user brings."""

from collections.abc import Callable

from giajax import types
from giajax.models import base
from giajax.ops import lowered


def from_callable(
  init: Callable[[types.Array], types.Tree],
  apply: Callable[[types.Tree, types.Array], types.Array],
  spec: base.Spec,
) -> base.Net:
  """Returns the Net of two plain functions.

  A training pass is the same as an inference pass: the functions keep no
  running statistics and draw no random numbers.

  Args:
    init: `(key) -> params`; the key is consumed.
    apply: `(params, x) -> logits` [B, K] of normalised images [B, H, W, C].
    spec: the static facts about the network; its `mean` and `std` normalise the
      images.
  """
  fast = lowered.lowered(apply)

  def pure(variables, x, *, train=False, taps=(), key=None):
    del train, key
    base.no_taps(taps, spec)
    out = fast(base.whole(variables), base.normalise(x, spec))
    return types.Output(out, variables.stats, {})

  return base.Net(lambda key: types.Variables(init(key), {}), pure, None, spec)
