"""What a golden is of: a network at a size that is quick to evaluate."""

from collections.abc import Mapping
from typing import Any, NamedTuple

MODES = ('eval', 'train')


class Case(NamedTuple):
  """A row of MODELS at a size that is quick to evaluate."""

  row: str
  image_shape: tuple[int, int, int]
  num_classes: int = 10
  options: Mapping[str, Any] = {}
  # Modes in which every test run takes derivatives; GIAJAX_SLOW=1 takes all.
  quick: tuple[str, ...] = ()
  # Evaluate in float64: of half a million ReLUs behind statistics of 8 values,
  # rounding to float32 switches some. In inference mode MaxViT-T turns it into
  # an error of 1e-4 of the logits, and more of their derivatives.
  double: bool = False
  # Tried when the golden is made; of large networks only a few can be.
  seeds: int = 40
  # Of the kernels: residuals that add up would saturate a deep network's loss
  # in inference mode.
  gain: float = 1.0

  def form(self, choice: str | None) -> str:
    """Returns the form of a network: chosen, or by image size."""
    small = min(self.image_shape[:2]) <= 64
    return choice or ('cifar' if small else 'imagenet')
