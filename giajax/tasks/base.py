"""Task: a loss per image, and targets that an attack can optimise."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from giajax import types


class CheckFn(Protocol):
  """Refuses targets that a loss would read as something else."""

  def __call__(self, y: Any, count: int) -> None:
    """Checks the targets of `count` images.

    Shapes and types are always checked. Values are checked if they are
    concrete, which they are not while a program is traced.

    Args:
      y: the targets.
      count: B, the number of images.

    Raises:
      ValueError: the targets are not those of that many images.
    """
    ...


class Task(NamedTuple):
  """What a network is trained to do.

  Attributes:
    loss: `(out [B, ...], y) -> [B]`, in nats; y hard or soft. It checks `y`.
    check: `(y, count)`, see `CheckFn`.
    relax: a function from free parameters [B, K] to soft targets that `loss`
      accepts.
    harden: a function from soft targets to the form in which data sets give
      them.
  """

  loss: Callable[[types.Array, Any], types.Array]
  check: CheckFn
  relax: Callable[[types.Array], types.Array]
  harden: Callable[[types.Array], types.Array]
