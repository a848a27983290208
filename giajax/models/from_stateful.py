"""A Net of two plain functions with a state, which libraries can be made to.

Running statistics are a state that a pass returns, as in Haiku's
`transform_with_state` and with Equinox's `State`.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax

from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models.parts import brought
from giajax.models.parts import modes


class Apply(Protocol):
  """`(params, state, x, *, train, key) -> (logits, state)`."""

  def __call__(
    self,
    params: types.Tree,
    state: types.Tree,
    x: types.Array,
    *,
    train: bool,
    key: types.Array | None,
  ) -> tuple[types.Array, types.Tree]:
    """Maps normalised images [B, H, W, C] to logits [B, K] and the new state.

    Args:
      params: the parameters.
      state: running statistics and the like.
      x: the images.
      train: whether it is a training pass; static.
      key: the key of a training pass, None in an inference pass.
    """
    ...


def from_stateful(
  init: Callable[[types.Array], tuple[types.Tree, types.Tree]],
  apply: Apply,
  spec: base.Spec,
) -> base.Net:
  """Returns the Net of two plain functions with a state.

  Its layers are found in the trace of a pass, see `parts.recognition`, and
  `relaid` gives them giajax's names.

  Args:
    init: `(key) -> (params, state)`; the key is consumed. Both are pytrees of
      arrays.
    apply: `(params, state, x, *, train, key) -> (logits, state)`, see `Apply`.
    spec: the static facts about the network; its `mean` and `std` normalise the
      images.

  Raises:
    ValueError: a state that an inference pass moves or a training pass leaves:
      the two modes of a client could not be told apart. The `apply` of the
      network raises it for a training pass that draws random numbers and was
      given no key.
  """
  _, state = jax.eval_shape(init, jax.random.key(0))

  def make(key):
    params, state = init(key)
    return types.Variables(params, trees.nested(trees.named_leaves(state)))

  def forward(params, stats, x, key, train):
    before = trees.like(state, trees.named_leaves(stats))
    out, after = apply(params, before, x, train=train, key=key)
    return out, trees.nested(trees.named_leaves(after))

  run = brought.run(forward, spec)
  variables: Any = jax.eval_shape(make, jax.random.key(0))
  draws = modes.draws(run, variables, spec)
  wrong = modes.fault(run, variables, spec)
  if wrong:
    raise ValueError(
      f'Expected passes that differ by train; got {spec.name}, which {wrong}; '
      'hand train to its BatchNorm'
    )
  return brought.net(make, forward, spec, draws=draws)
