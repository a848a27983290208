"""What there is to run: items, and the parts of them that this process takes.

An item is one update to be attacked: a case of a point, or a point's control,
whose update is noise. The items of a cohort are numbered in one order that the
config alone decides; a part is a range of them, and its file name holds the
range. Whatever split earlier runs or other shards used, their finished parts
count.
"""

from collections.abc import Iterable, Mapping, Sequence
import itertools
import logging
import pathlib
import re
from typing import NamedTuple

import jax

from giajax.attacks import base as attacks
from giajax.engine import experiment
from giajax.engine import program as programs
from giajax.engine import workdir
from giajax.results import stacks

# The bytes that the observed updates of one part may take, on the host and on
# each device. A CPU runs one update after the other, and gains nothing by more.
_PART_BYTES, _CPU_PART_BYTES = 1e9, 2.5e8
_NAME = re.compile(r'\d+-\d+-\d+')  # of a part
_log = logging.getLogger('giajax')


class Work(NamedTuple):
  """One item of a cohort."""

  point: experiment.Point
  case: int
  control: bool  # the update is replaced by noise of the same norms
  row: int  # the row of the results, -1 for a control


class CohortWork(NamedTuple):
  """What there is to run for one static setting."""

  number: int
  setup: experiment.Setup
  work: Sequence[Work]
  width: int  # items that run together


class Part(NamedTuple):
  """Items `start` to `stop` of a cohort, run together."""

  cohort: CohortWork
  start: int
  stop: int

  @property
  def name(self) -> str:
    """The name of its file and of its checkpoints."""
    return f'{self.cohort.number:03d}-{self.start:05d}-{self.stop:05d}'

  @property
  def work(self) -> Sequence[Work]:
    """Its items."""
    return self.cohort.work[self.start : self.stop]


def cohorts(whole: experiment.Experiment) -> list[CohortWork]:
  """Numbers everything that an experiment has to run.

  Raises:
    ValueError: a data set that cannot fill a batch, or more restarts than fit
      into the memory.
  """
  counts = dict.fromkeys((point.index for point in whole.points), 0)
  for cohort in whole.cohorts:
    counts |= {point.index: cohort.setup.cases.count for point in cohort.points}
  firsts = [0, *itertools.accumulate(counts.values())]
  numbered = []
  for number, (setup, points) in enumerate(whole.cohorts):
    programs.check_restarts(setup.world, setup.restarts)
    setup.source.check(setup)
    work = [item for point in points for item in _work(setup, point, firsts)]
    numbered.append(CohortWork(number, setup, work, _width(setup, len(work))))
  return numbered


def parts(
  cohorts: Sequence[CohortWork],
  done: Mapping[int, Iterable[tuple[int, int]]],
  shard: tuple[int, int] = (0, 1),
) -> list[Part]:
  """Returns what this shard has to run, in order.

  Args:
    cohorts: all of them.
    done: the finished ranges, by the number of the cohort.
    shard: (i, n): every shard takes one n-th of all items, in one piece.
  """
  index, count = shard
  total = sum(len(cohort.work) for cohort in cohorts)
  low, high = total * index // count, total * (index + 1) // count
  result, offset = [], 0
  for cohort in cohorts:
    size = len(cohort.work)
    start, stop = (min(max(v - offset, 0), size) for v in (low, high))
    for piece in split(start, stop, cohort.width):
      for left in subtract(piece, done.get(cohort.number, ())):
        result.append(Part(cohort, *left))
    offset += size
  return result


def widths(
  cohorts: Sequence[CohortWork], shard: tuple[int, int] = (0, 1)
) -> dict[int, int]:
  """Returns the items of the largest part of each cohort, by its number.

  It is that of the whole shard, whatever is finished of it: a run that was
  killed continues with the layout that it had, and so to the same bits.

  Args:
    cohorts: all of them.
    shard: see `parts`.
  """
  largest: dict[int, int] = {}
  for part in parts(cohorts, {}, shard):
    size = part.stop - part.start
    largest[part.cohort.number] = max(size, largest.get(part.cohort.number, 0))
  return largest


def finished(folder: pathlib.Path) -> dict[int, list[tuple[int, int]]]:
  """Returns the ranges whose results are in a workdir, by cohort."""
  done: dict[int, list[tuple[int, int]]] = {}
  for path in files(folder):
    number, start, stop = map(int, path.stem.split('-'))
    done.setdefault(number, []).append((start, stop))
  return done


def files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the files of the parts that are in a workdir, in order."""
  every = (folder / 'parts').glob('*.npz')
  named = [path for path in every if _NAME.fullmatch(path.stem)]
  return sorted(named, key=lambda path: [*map(int, path.stem.split('-'))])


def saved(folder: pathlib.Path) -> list[str]:
  """Returns the names of the parts that have checkpoints in a workdir."""
  every = sorted(path.name for path in (folder / 'checkpoints').glob('*'))
  return [name for name in every if _NAME.fullmatch(name)]


def owner(run: str, part: str) -> str:
  """Returns what the state and the results of a part belong to.

  Args:
    run: what `identity.owner` returned.
    part: the name of the part.
  """
  return f'{run} {part}'


def set_aside(folder: pathlib.Path, run: str) -> None:
  """Moves parts that are damaged or another run's; they run again.

  Args:
    folder: the workdir.
    run: what `identity.owner` returned.

  Raises:
    ValueError: the workdir cannot be written.
  """
  for path in files(folder):
    try:
      with workdir.part(path, owner(run, path.stem)) as (_, arrays):
        stacks.Stacks(arrays, str(path), 'it runs again')
        for name in arrays:
          arrays[name]  # which checks its bytes
    except ValueError as error:
      _log.warning('setting aside a part: %s', error)
      workdir.set_aside(path, path)


def path(folder: pathlib.Path, part: Part) -> pathlib.Path:
  """Returns where the results of a part are."""
  return folder / 'parts' / f'{part.name}.npz'


def split(start: int, stop: int, limit: int) -> list[tuple[int, int]]:
  """Returns ranges of at most `limit` that are as equal as possible."""
  count = -(-(stop - start) // limit)
  width = -(-(stop - start) // max(1, count))
  return [
    (low, min(low + width, stop)) for low in range(start, stop, max(1, width))
  ]


def subtract(
  piece: tuple[int, int], done: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
  """Returns what is left of a range without finished ones."""
  left = [piece]
  for low, high in done:
    left = [
      side
      for a, b in left
      for side in ((a, min(b, low)), (max(a, high), b))
      if side[0] < side[1]
    ]
  return left


def _work(setup, point, firsts) -> list[Work]:
  first = firsts[point.index]
  count, controls = setup.cases.count, setup.noise_controls
  return [
    *(Work(point, case, False, first + case) for case in range(count)),
    *(Work(point, case, True, -1) for case in range(min(count, controls))),
  ]


def _width(setup, count) -> int:
  copies = 1 if setup.attack.craft is attacks.honest else 2
  leaves = jax.tree.leaves(setup.message)
  size = 4 * copies * sum(leaf.size for leaf in leaves)
  if setup.run.cases_per_batch:
    return min(setup.run.cases_per_batch, count)
  together = programs.items_together(setup.world, setup.restarts)
  most = _CPU_PART_BYTES if together is None else _PART_BYTES
  return min(max(1, int(most / size)), together or count, count)
