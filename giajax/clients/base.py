"""Client: the function from a batch to an update.

The same function makes the truth and is what an attack differentiates. A
server that does not know the client's protocol attacks through a different
Client, and the report names it.
"""

from collections.abc import Callable
from typing import NamedTuple

from giajax import types
from giajax.ops import moments


class Client(NamedTuple):
  """What a client computes.

  Attributes:
    update: `(key, query, batch) -> (Update, Output)`; the Output is that of
      the last forward pass, for priors that read statistics.
    moments: `(key, query, batch, target) -> (Moments, Output)`, the moments of
      `update`'s delta against a target delta without forming the former, or
      None where this client or its network cannot.
    train_mode: BatchNorm uses the batch's statistics.
    local_steps: optimiser steps behind one update.
  """

  update: Callable[
    [types.Array, types.Query, types.Batch], tuple[types.Update, types.Output]
  ]
  moments: Callable[..., tuple[moments.Moments, types.Output]] | None
  train_mode: bool
  local_steps: int = 1
