"""Simulated clients: their batches are drawn here, and the truth is known."""

from collections.abc import Mapping

import jax
import numpy as np

from giajax import images
from giajax import threat
from giajax import trees
from giajax import types
from giajax.data import base as data
from giajax.data import cases as case_rules
from giajax.engine import experiment
from giajax.models import base as models
from giajax.tasks import base as tasks


def simulated() -> experiment.Source:
  """Plays the clients on images of the data set."""
  return experiment.Source(check, item, side)


def check(setup: experiment.Setup) -> None:
  """Raises a ValueError if the data set cannot fill the batch of a case."""
  for case in range(setup.cases.count):
    setup.cases.indices(setup.dataset, case)


def item(
  setup: experiment.Setup, case: int, control: bool = False
) -> experiment.Item:
  """Returns one update to be attacked.

  Args:
    setup: the experiment.
    case: the number of the case.
    control: whether the update is replaced by noise.

  Raises:
    ValueError: the same as for `draw`.
  """
  indices, batch = draw(
    setup.dataset, setup.net.spec, setup.world.task, setup.cases, case
  )
  return experiment.Item(case, control, indices, batch)


def draw(
  dataset: data.Dataset,
  spec: models.Spec,
  task: tasks.Task,
  cases: experiment.Cases,
  case: int,
) -> tuple[np.ndarray, types.Batch]:
  """Returns which images form the batch of a case, [B] int32, and the batch.

  Args:
    dataset: the data set that its images come from.
    spec: the spec of the network that reads them.
    task: what it learns.
    cases: how the images are drawn.
    case: the number of the case.

  Raises:
    ValueError: images of another shape or outside [0, 1], targets of another
      task, or a batch that the data set cannot fill.
  """
  indices = cases.indices(dataset, case)
  batch = jax.tree.map(np.asarray, trees.widened(dataset.take(indices)))
  shape = (len(indices), *spec.image_shape)
  if batch.x.shape != shape:
    raise ValueError(
      f'Expected images of shape {shape} for {spec.name}; got '
      f'{batch.x.shape} from {dataset.name}; resize them'
    )
  images.check_range(batch.x, f'the images of case {case}')
  task.check(batch.y, len(indices))
  return indices, batch


def side(
  setup: experiment.Setup, one: experiment.Item
) -> Mapping[str, types.Array]:
  """Returns what the server is granted to know about a case's data."""

  def proxy():
    others = case_rules.held_out(
      setup.dataset.size,
      one.indices,
      seed=setup.seed,
      case=one.case,
      count=setup.proxy_images,
    )
    return setup.dataset.take(others).x

  classes, facts = setup.net.spec.num_classes, setup.world.task.facts
  return threat.side(setup.granted, one.batch, classes, proxy, facts)
