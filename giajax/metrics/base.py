"""Metric: one number per image, and everything that describes it.

A metric's file holds its mathematics and its record; `METRICS` lists the
records, and scoring, tables, sentences and studies iterate that table.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.clients import base as clients
from giajax.models import base as models
from giajax.tasks import base as tasks

Score = Callable[..., Any]
History = tuple[types.Observation, ...]

# What a metric may need. A metric may also need another one by its name: that
# of the same guess, [B].
FACTS: dict[str, str] = {
  'x': 'the true images, [B, H, W, C] in [0, 1]',
  'x_hat': 'a guess at each of them, as `x`; grey where there is none',
  'features': 'what the classifier of the agreed network reads of x, [B, F]',
  'features_hat': 'the same of x_hat',
  'rivals': 'the same of other images of each class: B arrays [n, F]',
  'ssim_mean_image': 'the SSIM of the mean image of the data set, [B]',
  'content': 'where each image is in its letterbox, [B, 4] whole numbers: the '
  'rows from top to bottom and the columns from left to right, as (top, left, '
  'bottom, right)',
  'batch': 'the true images with their labels, a Batch',
  'variables': 'the weights of the agreed network',
  'received_stats': 'the BatchNorm buffers that the client received',
  'history': 'what the attacker saw in every round, a tuple of Observations',
  'noise': 'images of uniform noise in [0, 1], as `x`, one draw per case',
}
IMAGES = ('x', 'x_hat')


class Audited(NamedTuple):
  """What a metric may look at before the attack runs.

  Attributes:
    image_shape: (H, W, C) of every image.
    net: the network that the clients train.
    viewer: a function that makes the agreed network, compiled for looking at
      images once.
    task: what the network learns.
    merge: the `merge` of the attack, from several rounds to one observation.
    client: what the clients compute together of what they receive, without the
      defence.
    clients: the number of clients that share an update.
  """

  image_shape: tuple[int, int, int]
  net: models.Net
  viewer: Callable[[], models.Net]
  task: tasks.Task
  merge: Callable[[History], types.Observation]
  client: clients.Client
  clients: int = 1


class Metric(NamedTuple):
  """One number per image.

  Attributes:
    name: the name of its column and of its array.
    label: the name that readers see.
    unit: the unit, such as 'dB'; '' for none.
    form: the format specification of its values.
    meaning: one or two sentences for a reader of the report.
    source: the authors, venue, year and identifier.
    needs: names in `FACTS`, or of other metrics: the arguments of `score`.
    score: `(*needs) -> [B]`; None for a metric that `prepare` makes.
    prepare: `(audited, *options) -> score` for a metric that the config asks
      for; the options are the values of the keys `asked`. It raises ValueError,
      before the attack runs, where the metric cannot be computed.
    asked: the keys of the config that ask for it, all of them together, such as
      'regions.boxes'; the metric's name if there are none.
    about: 'guess' for a score of images that were guessed, which baselines
      have too; 'batch' for a property of the true batch.
    reduce: the function from the values of a batch to the value of its row.
    summary: how a table summarises many images: 'median', or 'mean' for shares.
    partial: whether NaN means that an image has no such value and is left out;
      otherwise NaN is a failure, and counts.
    higher_is_better: False for errors and distances.
  """

  name: str
  label: str
  unit: str
  form: str
  meaning: str
  source: str
  needs: tuple[str, ...]
  score: Score | None = None
  prepare: Callable[..., Score] | None = None
  asked: tuple[str, ...] = ()
  about: str = 'guess'
  reduce: Callable[[np.ndarray], Any] = np.mean
  summary: str = 'median'
  partial: bool = False
  higher_is_better: bool = True

  @property
  def title(self) -> str:
    """The label with its unit: 'PSNR (dB)'."""
    return f'{self.label} ({self.unit})' if self.unit else self.label

  @property
  def keys(self) -> tuple[str, ...]:
    """The keys of the config that ask for it; () if it needs no preparation."""
    return (self.asked or (self.name,)) if self.prepare else ()

  @property
  def of_images(self) -> bool:
    """Whether it looks at true and guessed images alone."""
    return self.needs == IMAGES

  def of_row(self, values: np.ndarray) -> float:
    """Returns the value of a row from the values [B] of its images."""
    if self.partial:
      values = values[~np.isnan(values)]
    return float(self.reduce(values)) if values.size else float('nan')


def require_additive(audited: Audited, name: str) -> None:
  """Requires a batch whose gradient is the mean of those of its images.

  Args:
    audited: the experiment.
    name: the metric that requires it.

  Raises:
    ValueError: another loss, such as that of a detector.
  """
  if not audited.task.additive:
    raise ValueError(
      f'Expected a loss that is the mean of its images for {name}; got a task '
      f'whose images share one; leave {name} out'
    )


def pair(
  a: jax.typing.ArrayLike, b: jax.typing.ArrayLike
) -> tuple[types.Array, types.Array]:
  """Returns two stacks of images [..., H, W, C] as float32 of one shape.

  Raises:
    ValueError: images of integers, whose range is not [0, 1], or shapes that
      cannot be broadcast. Raised while tracing.
  """
  a, b = jnp.asarray(a), jnp.asarray(b)
  for image in (a, b):
    if not jnp.issubdtype(image.dtype, jnp.floating):
      raise ValueError(
        f'Expected images in [0, 1] as floats; got dtype={image.dtype}; '
        'divide bytes by 255'
      )
  try:
    a, b = jnp.broadcast_arrays(a, b)
  except ValueError as error:
    raise ValueError(
      f'Expected images of one shape; got {a.shape} and {b.shape}; resize one '
      'of them'
    ) from error
  return a.astype(jnp.float32), b.astype(jnp.float32)
