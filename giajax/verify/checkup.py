"""A check-up: what all checks of a client say about the weights it received."""

from collections.abc import Sequence
import json
import math
from typing import NamedTuple

import jax

from giajax import keys
from giajax import printable
from giajax import registry
from giajax import trees
from giajax import types
from giajax.data import base as data
from giajax.data import cases
from giajax.models import base as models
from giajax.tasks import base as tasks
from giajax.verify import base
from giajax.verify import VERIFIERS


class Checkup(NamedTuple):
  """What several checks say about one model.

  Attributes:
    verdicts: the verdicts, by the name of the check.
    seed: the seed of the checks' draws; the same seed repeats the check-up.
  """

  verdicts: dict[str, base.Verdict]
  seed: int

  @property
  def ran(self) -> list[str]:
    """The checks that had something to look at."""
    return [name for name, v in self.verdicts.items() if v.ran]

  @property
  def flagged(self) -> list[str]:
    """The checks that object."""
    return [name for name, v in self.verdicts.items() if v.flagged]


def check(
  view: base.View,
  message: types.ServerMessage,
  probe: types.Batch,
  *,
  only: Sequence[str] = tuple(VERIFIERS),
  seed: int = 0,
) -> Checkup:
  """Runs checks on received weights.

  Args:
    view: what the client knows about the network.
    message: the message that it received.
    probe: the client's own labelled images; see `base.check_probe`.
    only: names in `VERIFIERS`.
    seed: the seed of the checks' draws.

  Raises:
    ValueError: an unknown check.
  """
  root = jax.random.key(seed)
  verdicts = {}
  for name in only:
    verify = registry.lookup(VERIFIERS, name, 'check')(view)
    if name in base.OF_CLASSIFIERS and not view.task.exclusive:
      verdicts[name] = base.UNMEASURED
    else:
      verdicts[name] = verify(keys.named(root, name), message, probe)
  return Checkup(verdicts, seed)


def draw_probe(
  dataset: data.Dataset,
  net: models.Net,
  task: tasks.Task,
  *,
  size: int,
  case: int,
  seed: int,
) -> types.Batch:
  """Returns the client's own images to try a model on, drawn at random.

  Args:
    dataset: the data set of the client's images.
    net: the network that was agreed on.
    task: the task.
    size: the number of images.
    case: the number of the draw of images, at least 0.
    seed: the seed of all draws.

  Raises:
    ValueError: a data set of fewer images, or images or targets that do not
      fit, see `base.check_probe`.
  """
  indices = cases.indices(dataset.labels, seed=seed, case=case, batch_size=size)
  probe = trees.widened(dataset.take(indices))
  base.check_probe(probe, net, task)
  return probe


def words(checkup: Checkup, name: str) -> str:
  """Returns a line per check, the seed, and the result in one line.

  Args:
    checkup: the result.
    name: the name of the received weights, such as their path.
  """
  width = max(map(len, checkup.verdicts))
  lines = [
    f'{_state(v):7}  {check:{width}}  {v.evidence}'
    for check, v in checkup.verdicts.items()
  ]
  flagged, count = checkup.flagged, len(checkup.ran)
  last = (
    f'{name}: flagged by {len(flagged)} of the {count} checks that ran '
    f'({", ".join(flagged)}); do not train it'
    if flagged
    else f'{name}: none of the {count} checks that ran objects'
  )
  lines += [f'seed {checkup.seed}', last]
  return '\n'.join(map(printable.line, lines))


def to_json(checkup: Checkup, name: str) -> str:
  """Returns a check-up as JSON; a score that is not finite is null.

  Args:
    checkup: the result.
    name: the name of the received weights, such as their path.
  """
  return json.dumps(
    {
      'received': name,
      'verdict': 'flagged' if checkup.flagged else 'clean',
      'flagged': checkup.flagged,
      'seed': checkup.seed,
      'checks': {
        check: {**v._asdict(), 'score': _finite(v.score)}
        for check, v in checkup.verdicts.items()
      },
    },
    indent=2,
    allow_nan=False,
  )


def _state(verdict: base.Verdict) -> str:
  if not verdict.ran:
    return 'not run'
  return 'FLAGGED' if verdict.flagged else 'ok'


def _finite(score: float) -> float | None:
  return score if math.isfinite(score) else None
