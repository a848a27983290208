"""Learner: training as pure functions of its state.

A learner is made by a factory, and run by anyone who feeds it batches; the
engine's runner saves its state and continues to the same bits. Attacks use what
was learned, and never learn.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from giajax import types


class Learner(NamedTuple):
  """Training, one batch after another.

  Attributes:
    init: `(key) -> State`; the key is consumed.
    step: `(key, state, batch) -> (State, losses)`; the state is a fixed point
      in structure, shape, dtype and weak type, and the losses are [] float32 by
      name. The key is consumed.
    read: `(key, state) -> Variables`, the weights that are kept. The key is
      consumed.
    batch_size: the number of images that a step takes.
  """

  init: Callable[[types.Array], Any]
  step: Callable[
    [types.Array, Any, types.Batch], tuple[Any, Mapping[str, types.Array]]
  ]
  read: Callable[[types.Array, Any], types.Variables]
  batch_size: int
