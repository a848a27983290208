"""Tries what can go wrong, again and again, and counts what came of it.

  python -m tests.campaign [--only=kills,damages,inputs] [--minutes=0]
    [--tries=0] [--first=0] [--seed=0] [--short] [--out=DIR]

Each campaign makes tries that follow from --seed and from their number alone,
so that `--only=NAME --first=N --tries=1` repeats one. --minutes is the most
time that each campaign may take; 0 sets no limit. The table counts faults that
were made. Its first columns are good: runs that ended with the bits of an
undisturbed one, inputs that were accepted, those refused in one line, and
commands that stopped when they were asked to. The other columns have to be
empty: other bits, what should have ended otherwise, tracebacks and whatever
else is not one plain line, processes that did not end, and those that somebody
else killed. Such tries are listed, what they wrote is kept in --out, and the
exit code is 1. It runs in a checkout. The test suite runs the short form only.
"""

from collections.abc import Iterator, Sequence
import contextlib
import importlib.util
import pathlib
import shutil
import sys
import tempfile
import time
from typing import Any, NamedTuple

import numpy as np

from giajax import paths
from giajax import printable
from giajax import registry
from giajax.commands import flags
from tests.campaign import processes
from tests.campaign import tries

COMMAND = 'python -m tests.campaign'


class Campaign(NamedTuple):
  """How many tries of one kind are made, each by a module's `attempt`.

  Attributes:
    faults: how many faults it makes.
    short: how many in the short form.
  """

  faults: int
  short: int


CAMPAIGNS = {
  'kills': Campaign(300, 1),
  'damages': Campaign(200, 1),
  'disks': Campaign(90, 0),
  'inputs': Campaign(5000, 22),
  'signals': Campaign(120, 1),
  'peers': Campaign(60, 0),
  'guided': Campaign(400_000, 0),
}
FLAGS = (
  flags.Flag('only', 'The campaigns; all if empty.', [], list),
  flags.Flag('minutes', 'The most time for each campaign.', 0.0, float, 0),
  flags.Flag(
    'tries', 'The number of tries; 0 for as many as a table has.', 0, int, 0
  ),
  flags.Flag('first', 'The number of the first try.', 0, int, 0),
  flags.Flag('seed', 'What the tries follow from.', 0, int, 0),
  flags.Flag('short', 'Makes a few tries of each kind.', False, bool),
  flags.Flag('out', 'A folder for what bad tries wrote.'),
)
_TITLES = ('campaign', 'tried', *tries.GOOD, *tries.BAD, 'peak GB', 'longest s')


def main(argv: Sequence[str]) -> int:
  """Runs the campaigns of a command line and returns the exit code."""
  try:
    return _run(flags.read(COMMAND, COMMAND, FLAGS, argv[1:]))
  except ValueError as error:
    if not str(error).startswith('Expected'):
      raise
    print(printable.line(f'campaign: {error}'), file=sys.stderr)
    return 2
  finally:
    processes.kill_all()


def _run(arguments: flags.Arguments) -> int:
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  values = arguments.values
  out = paths.expanded(values.out, '--out') if values.out else None
  names = _names(values)
  processes.ready()
  print(_line(_TITLES))
  print(_line(['-' * len(title) for title in _TITLES]))
  good = True
  with _folder() as folder:
    for name in names:
      made = []
      for number, one in _tries(name, values, folder):
        made.append(one)
        if one.verdict in tries.BAD:
          good = False
          _complain(f'{name}-{number}', one, out)
      print(_row(name, made), flush=True)
  return 0 if good else 1


def _names(values: Any) -> list[str]:
  """Returns the campaigns that the flags ask for.

  Raises:
    ValueError: an unknown one, or nothing that can be tried.
  """
  for name in values.only:
    registry.lookup(CAMPAIGNS, name, 'campaign')
  names = values.only or [*CAMPAIGNS]
  if values.short:
    names = [name for name in names if CAMPAIGNS[name].short]
  if 'guided' in names and not importlib.util.find_spec('atheris'):
    names = [name for name in names if name != 'guided']
    print('guided: not tried, because atheris is not installed')
  if not names:
    raise ValueError(
      f'Expected campaigns to try; got --only={",".join(values.only)}, none of '
      'which can be tried; install atheris, leave out --short, or name others'
    )
  return names


def _complain(name: str, one: tries.Try, out: pathlib.Path | None) -> None:
  """Says what a bad try was, and keeps what it wrote."""
  text = f'{name}: {one.verdict}: {one.what}'
  print(printable.line(text), file=sys.stderr, flush=True)
  if out:
    out.mkdir(parents=True, exist_ok=True)
    errors = '\n'.join(ending.errors for ending in one.endings)
    (out / f'{name}.txt').write_text(f'{text!a}\n{errors}')


@contextlib.contextmanager
def _folder() -> Iterator[pathlib.Path]:
  """Makes a folder, which is removed again."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix='campaign-'))
  try:
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _tries(
  name: str, values: Any, folder: pathlib.Path
) -> Iterator[tuple[int, tries.Try]]:
  """Yields the tries of a campaign, with their numbers."""
  campaign = CAMPAIGNS[name]
  attempt = importlib.import_module(f'tests.campaign.{name}').attempt
  faults = campaign.short if values.short else campaign.faults
  end = time.monotonic() + 60 * (values.minutes or 1e6)
  number, made = values.first, 0
  while time.monotonic() < end:
    tried = number - values.first
    if tried == values.tries if values.tries else made >= faults:
      break
    own = folder / f'{name}-{number}'
    own.mkdir()
    random = np.random.default_rng([values.seed, *name.encode(), number])
    one = attempt(number, processes.Lab(random, own, folder))
    yield number, one
    shutil.rmtree(own)
    number, made = number + 1, made + one.count


def _row(name: str, made: Sequence[tries.Try]) -> str:
  """Returns a row of the table."""
  cells = [name, str(sum(one.count for one in made))]
  for verdict in (*tries.GOOD, *tries.BAD):
    # A bad try counts, even if nothing was done to it.
    counts = [
      max(one.count, verdict in tries.BAD)
      for one in made
      if one.verdict == verdict
    ]
    count = sum(counts)
    cells.append(str(count) if count else '–')
  cells.append(f'{max(one.memory for one in made) / 1e9:.2f}')
  cells.append(f'{max(one.seconds for one in made):.1f}')
  return _line(cells)


def _line(cells: Sequence[str]) -> str:
  widths = [len(title) for title in _TITLES]
  padded = [f'{cell:>{width}}' for cell, width in zip(cells, widths)]
  return f'| {" | ".join(padded)} |'


if __name__ == '__main__':
  sys.exit(main(sys.argv))
