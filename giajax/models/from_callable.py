"""A Net of two plain functions that a user brings."""

from collections.abc import Callable

from giajax import types
from giajax.models import base


def from_callable(
  init: Callable[[types.Array], types.Tree],
  apply: Callable[[types.Tree, types.Array], types.Array],
  spec: base.Spec,
) -> base.Net:
  """Returns the Net of two plain functions without running statistics.

  Args:
    init: `(key) -> params`.
    apply: `(params, x) -> logits` on normalised images.
    spec: static facts.
  """

  def pure(variables, x, *, train=False, taps=(), key=None):
    del train, key
    base.no_taps(taps, spec)
    out = apply(base.whole(variables), base.normalise(x, spec))
    return types.Output(out, variables.stats, {})

  return base.Net(lambda key: types.Variables(init(key), {}), pure, None, spec)
