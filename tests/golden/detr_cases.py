"""What the torch generator and the test of DETR must agree on, numpy only."""

import pathlib
from typing import NamedTuple

from golden import detection_cases
from golden import draws
import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent / 'detection'
CASES = {
  'detr': draws.Case(
    'detr_resnet50',
    (64, 64, 3),
    5,
    {**detection_cases.TRAINED, 'stages': 3},
    gain=0.7,
  ),
  'detr_auxiliary': draws.Case(
    'detr_resnet50',
    (32, 48, 3),
    5,
    {
      **detection_cases.SMALL,
      'depth': 50,
      'stages': 1,
      'encoder_layers': 2,
      'decoder_layers': 2,
    },
    gain=0.7,
  ),
}


class Objects(NamedTuple):
  """The objects of a batch, as the loss takes them."""

  boxes: np.ndarray  # [B, G, 4] corners in [0, 1]
  classes: np.ndarray  # [B, G]
  valid: np.ndarray  # [B, G]


def modes(case: draws.Case) -> tuple[str, ...]:
  """Returns the modes that are not one program."""
  frozen = case.options.get('batch_norm') != 'trained'
  return ('eval',) if frozen else draws.MODES


def weight(
  name: str, shape: tuple[int, ...], case: draws.Case, seed: int
) -> np.ndarray:
  """Returns the tensor of a torch parameter or buffer name, float32."""
  drawn = draws.weight(name, shape, seed, case.gain)
  if name.endswith('in_proj_bias'):  # around zero, as other biases are
    return drawn - 1
  # Fresh queries have variance 1, and tell predictions apart.
  return 3 * drawn if name == 'query_embed.weight' else drawn


def objects(case: draws.Case, seed: int) -> Objects:
  """Returns three objects in the first image, and one and padding in others."""
  shape = (draws.BATCH_SIZE, 3)
  u = draws.uniform('objects.boxes', (*shape, 4), seed).astype(np.float32)
  centre, side = 0.5 + 0.2 * u[..., :2], 0.35 + 0.2 * u[..., 2:]
  counts = np.array([3] + [1] * (draws.BATCH_SIZE - 1))
  valid = np.arange(3) < counts[:, None]
  corners = np.concatenate([centre - side / 2, centre + side / 2], axis=-1)
  classes = draws.uniform('objects.classes', shape, seed)
  classes = ((classes + 1) / 2 * case.num_classes).astype(np.int32)
  return Objects(
    np.where(valid[..., None], corners, 0).astype(np.float32),
    np.where(valid, np.clip(classes, 0, case.num_classes - 1), 0),
    valid,
  )
