"""Task: a loss an example, and targets that an attack can optimise."""

from collections.abc import Callable
from typing import Any, NamedTuple

from giajax import types


class Task(NamedTuple):
  """What a network is trained to do.

  Attributes:
    loss: `(out [B, ...], y) -> [B]`, in nats; y hard or soft.
    random_target: `(key, b) -> y`; the key is consumed.
    relax: free parameters [B, K] -> soft targets that `loss` accepts.
    harden: soft targets -> the form in which data sets give them.
  """

  loss: Callable[[types.Array, Any], types.Array]
  random_target: Callable[[types.Array, int], Any]
  relax: Callable[[types.Array], types.Array]
  harden: Callable[[types.Array], types.Array]
