"""Tasks of the user's own: a loss, or a factory of a Task."""

from collections.abc import Callable
import inspect
from typing import Any

from giajax.tasks import base

_PARTS = ('num_classes', 'image_shape')  # what the engine gives a factory


def factory_of(found: Any, name: str) -> Any:
  """Returns a factory of a Task, which a loss is made to.

  A function of two arguments is a loss `(out, y) -> [B]`, whatever they are
  called, unless one of them is what a row of `TASKS` takes.

  Args:
    found: what the name stands for.
    name: the name.
  """
  del name
  if not inspect.isfunction(found):
    return found
  parameters = inspect.signature(found).parameters.values()
  needed = [p.name for p in parameters if p.default is p.empty]
  if len(needed) != 2 or {*needed} & {*_PARTS}:
    return found
  return _of_loss(found)


def _of_loss(loss: Callable[[Any, Any], Any]) -> Callable[[], base.Task]:
  def factory():
    return base.from_loss(loss)

  # The file that defines it is a part of the run, see `identity`.
  factory.__wrapped__ = loss  # pyrefly: ignore
  factory.__signature__ = inspect.Signature()  # pyrefly: ignore
  factory.__doc__ = loss.__doc__
  return factory
