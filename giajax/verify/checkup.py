"""A checkup: what all checks of a client say of the weights that came."""

from collections.abc import Sequence
import json
import math
from typing import NamedTuple

import jax

from giajax import keys
from giajax import types
from giajax.verify import base
from giajax.verify import VERIFIERS


class Checkup(NamedTuple):
  """The verdict of each check, by name, and the seed of their draws."""

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
    view: what the client knows of the network.
    message: what it received.
    probe: labelled images of its own.
    only: names in `VERIFIERS`.
    seed: of the checks' draws.
  """
  root = jax.random.key(seed)
  verdicts = {}
  for name in only:
    judge = VERIFIERS[name](view)
    verdicts[name] = judge(keys.named(root, name), message, probe)
  return Checkup(verdicts, seed)


def words(found: Checkup, path: str) -> str:
  width = max(map(len, found.verdicts))
  lines = [
    f'{_state(v):7}  {name:{width}}  {v.evidence}'
    for name, v in found.verdicts.items()
  ]
  flagged, count = found.flagged, len(found.ran)
  last = (
    f'{path}: flagged by {len(flagged)} of the {count} checks that ran '
    f'({", ".join(flagged)}); do not train it'
    if flagged
    else f'{path}: none of the {count} checks that ran objects'
  )
  return '\n'.join([*lines, f'seed {found.seed}', last])


def _state(verdict: base.Verdict) -> str:
  if not verdict.ran:
    return 'not run'
  return 'FLAGGED' if verdict.flagged else 'ok'


def to_json(found: Checkup, path: str) -> str:
  return json.dumps(
    {
      'received': path,
      'verdict': 'flagged' if found.flagged else 'clean',
      'flagged': found.flagged,
      'seed': found.seed,
      'checks': {
        name: {**v._asdict(), 'score': _finite(v.score)}
        for name, v in found.verdicts.items()
      },
    },
    indent=2,
    allow_nan=False,
  )


def _finite(score: float) -> float | None:
  return score if math.isfinite(score) else None
