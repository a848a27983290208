"""A value as a key of what is remembered about it."""

from typing import Any


class Same:
  """Any value, as a key that equals only itself."""

  def __init__(self, value: Any):
    self.value = value

  def __hash__(self) -> int:
    return id(self.value)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Same) and self.value is other.value
