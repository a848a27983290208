"""Pictures of a training: its losses, and samples of what was trained."""

import math

import matplotlib
import matplotlib.figure
import numpy as np
import PIL.Image

from giajax import files
from giajax import images
from giajax.engine import train
from giajax.report import plots

_GAP, _SCALE, _SIDE = 2, 64, 3.0  # pixels, pixels, inches


def draw(outcome: train.Outcome) -> None:
  """Writes FILE-losses.png, and FILE.png if there are samples.

  Args:
    outcome: what was trained, into FILE.npz.
  """
  path = outcome.path
  with matplotlib.rc_context(plots.RC):
    figure = _curves(outcome.losses)
    with files.written(path.with_name(f'{path.stem}-losses.png')) as made:
      figure.savefig(made, format='png', dpi=150)
  if outcome.sheet is not None:
    with files.written(path.with_suffix('.png')) as made:
      PIL.Image.fromarray(sheet(outcome.sheet)).save(made, format='png')


def sheet(samples: np.ndarray) -> np.ndarray:
  """Returns samples side by side, [H', W', 3] uint8.

  Args:
    samples: [rows, columns, H, W, C] in [0, 1].
  """
  rows, columns, height, width, channels = samples.shape
  times = max(1, math.ceil(_SCALE / max(height, width)))
  padded = np.pad(
    images.to_uint8(samples).repeat(times, axis=2).repeat(times, axis=3),
    ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)),
    constant_values=255,
  )
  height, width = padded.shape[2:4]
  whole = padded.swapaxes(1, 2).reshape(rows * height, columns * width, -1)
  return whole if channels == 3 else whole[..., :1].repeat(3, axis=-1)


def _curves(losses) -> matplotlib.figure.Figure:
  """Draws each loss in a panel of its own."""
  count = len(losses.values)
  figure = matplotlib.figure.Figure(
    (_SIDE * count, 0.7 * _SIDE), layout='constrained'
  )
  panels = figure.subplots(1, count, squeeze=False)[0]
  for panel, (name, values) in zip(panels, losses.values.items()):
    panel.plot(losses.steps, values, color=plots.ACCENT, lw=1.2)
    panel.set_title(name)
    panel.set_xlabel('step')
  return figure
