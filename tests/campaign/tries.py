"""What one try of a campaign came to."""

from collections.abc import Sequence
import pathlib
from typing import NamedTuple

from tests.campaign import experiments
from tests.campaign import processes

GOOD = ('same bits', 'accepted', 'refused', 'stopped')
BAD = ('other bits', 'lost', 'traceback', 'hang', 'killed')


class Try(NamedTuple):
  """One try.

  Attributes:
    what: what was done, in words.
    verdict: one of `GOOD` and `BAD`.
    count: how many faults it holds, such as kills.
    endings: how its processes ended.
  """

  what: str
  verdict: str
  count: int
  endings: Sequence[processes.Ending]

  @property
  def memory(self) -> int:
    """The most memory that one of its processes held, in bytes."""
    return max((ending.memory for ending in self.endings), default=0)

  @property
  def seconds(self) -> float:
    """How long its longest process ran."""
    return max((ending.seconds for ending in self.endings), default=0.0)


def compared(ending: processes.Ending, workdir: pathlib.Path, bits: str) -> str:
  """Returns the verdict on a run that has to come to known results.

  Args:
    ending: how its last process ended.
    workdir: its workdir.
    bits: the hash of its results.
  """
  if ending.verdict != 'accepted':
    return expected(ending, 'accepted')
  if not (workdir / 'recon.npz').is_file():
    return 'lost'
  return 'same bits' if experiments.bits(workdir) == bits else 'other bits'


def expected(ending: processes.Ending, *verdicts: str) -> str:
  """Returns the verdict of a process, 'lost' if it is good but not of these."""
  verdict = ending.verdict
  return verdict if verdict in (*verdicts, *BAD) else 'lost'
