"""The Net of a pass that somebody else wrote."""

from collections.abc import Callable
from typing import Protocol

from giajax import types
from giajax.models import base
from giajax.models.parts import modes
from giajax.models.parts import traced
from giajax.ops import lowered


class Forward(Protocol):
  """`(params, stats, x, key, train) -> (logits, stats)`."""

  def __call__(
    self,
    params: types.Tree,
    stats: types.Tree,
    x: types.Array,
    key: types.Array | None,
    train: bool,
  ) -> tuple[types.Array, types.Tree]:
    """Maps normalised images to logits and running statistics.

    Args:
      params: the parameters.
      stats: the running statistics.
      x: [B, H, W, C] normalised images.
      key: the key of the pass, or None.
      train: whether it is one of training; static.
    """
    ...


def run(forward: Forward, spec: base.Spec) -> Callable[..., types.Output]:
  """Returns `(variables, x, train, key=None) -> Output`."""

  def passed(variables, x, train, key=None):
    def fn(params, stats, x, key):
      return forward(params, stats, x, key, train)

    out, stats = lowered.lowered(fn)(
      base.whole(variables), variables.stats, base.inputs(x, spec), key
    )
    return types.Output(out, stats, {})

  return passed


def net(
  init: Callable[[types.Array], types.Variables],
  forward: Forward,
  spec: base.Spec,
  *,
  draws: bool = False,
) -> base.Net:
  """Returns the Net of a pass.

  Args:
    init: `(key) -> Variables`; the key is consumed.
    forward: the pass.
    spec: the static facts about the network.
    draws: whether a training pass draws random numbers.
  """
  plain = run(forward, spec)

  def own(train, key):
    if train and draws:
      modes.require_key(key, spec)
    return key if train else None

  def apply(variables, x, *, train=False, taps=(), key=None):
    if taps:
      return probe(variables, x, None, train=train, taps=taps, key=key)[0]
    return plain(variables, x, train, own(train, key))

  def probe(variables, x, offsets, *, train=False, taps=(), key=None):
    def fn(params, x, rest):
      return forward(params, rest[0], x, rest[1], train)

    found = traced.follow(
      fn,
      base.whole(variables),
      base.inputs(x, spec),
      (variables.stats, own(train, key)),
      offsets,
    )
    out, stats = found.result
    tapped = traced.tapped(found.taps, taps, spec.name)
    return types.Output(out, stats, tapped), found.sites, found.outputs

  return base.Net(init, apply, probe, spec)
