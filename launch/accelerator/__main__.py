"""Checks and measures giajax on an accelerator before anything else runs there.

  python -m giajax.launch.accelerator --minutes=9 --out=DIR
  python -m giajax.launch.accelerator --minutes=9 --out=DIR --only=speed
    --peer=/path/to/python
  python -m giajax.launch.accelerator --minutes=9 --out=DIR --only=figure
    --data_dir=CIFAR10

It has three sections. `check` compares the arithmetic of the device with
float64 on the host, a killed run with an undisturbed one, and an attack on the
device with the same on the CPU. `speed` measures restart-steps per second, and
with --peer those of breaching on the same device. `figure` attacks an untrained
ResNet-18 with 24,000 steps of Inverting Gradients.

Rows are measured in the order in which they decide, until the minutes are used
up. Each is written at once, as JSON, to rows.jsonl: the same command goes on
where the last one ended, however that was. Rows belong to the device that they
were measured on, and all rows of the present one are also written as a Markdown
table. On a CPU, the small size shows within three minutes on two cores that the
kit works.

The exit code is 0 if all rows are there, 85 if some are left, and 1 if the
device computes something wrong or a row could not be measured. In a checkout
that is not installed, the command is `python -m launch.accelerator`.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import math
import re
import signal
import sys
import time
from typing import Any, NamedTuple

from giajax import paths
from giajax import registry
from giajax.commands import flags
from giajax.commands import process

from . import audits
from . import processes
from . import rows as rows_library
from . import sizes
from . import tables

COMMAND = 'python -m giajax.launch.accelerator'
USAGE = f'{COMMAND} --out=DIR'
FLAGS = (
  flags.Flag('out', 'The folder that the rows are written to.'),
  flags.Flag('minutes', 'The minutes that it may take.', 9, int, 1),
  flags.Flag(
    'only', 'Sections: check, speed, figure.', list(sizes.SECTIONS), list
  ),
  flags.Flag(
    'size',
    'The size: full, small or tiny; auto is full on an accelerator and small '
    'on a CPU.',
    'auto',
  ),
  flags.Flag('peer', "The peer's Python interpreter, which has breaching."),
  flags.Flag(
    'data_dir',
    'CIFAR-10 as prepared by tfds, for the figure at full size.',
  ),
)
AUDITS: dict[str, Callable[..., dict[str, Any]]] = {
  'alike': audits.alike,
  'exactness': audits.exactness,
  'figure': audits.figure,
  'resumed': audits.resumed,
}
# How a section's part of the minutes compares with that of the others.
_PARTS = {'check': 3, 'speed': 4, 'figure': 3}
_START_SECONDS = 120.0  # in which a device has to answer
# A row that is begun later than this before the end is hardly finished.
_LEAST_SECONDS = 2.0


class _Kit(NamedTuple):
  """What the rows of one command share."""

  rows: rows_library.Rows
  worker: processes.Worker
  places: audits.Places
  size: sizes.Size


def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  began = time.monotonic()
  try:
    arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
    if arguments.help:
      print(flags.help_text(__doc__, FLAGS))
      return 0
    values = arguments.values
    sections = _sections(values)
    out = paths.expanded(values.out, '--out')
    out.mkdir(parents=True, exist_ok=True)
    log = out / 'stderr.log'
    with _stoppable(), processes.Worker(log) as worker:
      facts = _facts(worker)
      size, note = _size(values.size, facts['platform'], values.data_dir)
      kit = _kit(values, out, log, worker, facts, size)
      print(note, flush=True)
      end = began + 60 * values.minutes
      return _measure(kit, sections, end, arguments.command)
  except ValueError as error:
    if not str(error).startswith('Expected'):
      raise
    print(f'launch: {error}', file=sys.stderr)
    return 2
  except OSError as error:
    print(
      f'launch: Expected an --out that can be written; got {error}; choose '
      'another',
      file=sys.stderr,
    )
    return 2


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
  """Lets SIGTERM and SIGINT end the command, and what it has started."""

  def stop(number, frame):
    print('stopped: the same command goes on', flush=True)
    sys.exit(process.STOPPED)

  numbers = signal.SIGTERM, signal.SIGINT
  old = [signal.signal(number, stop) for number in numbers]
  try:
    yield
  finally:
    for number, handler in zip(numbers, old):
      signal.signal(number, handler)


def _sections(values: Any) -> list[str]:
  """Returns the sections that are asked for, in their order.

  Raises:
    ValueError: another name, or a peer that cannot be timed.
  """
  for name in values.only:
    registry.lookup(_PARTS, name, 'section')
  if values.peer:
    audits.require_peer(values.peer)
  if values.data_dir:
    audits.require_data(values.data_dir)
  return [name for name in sizes.SECTIONS if name in values.only]


def _facts(worker: processes.Worker) -> dict[str, Any]:
  """Returns what the device says of itself.

  Raises:
    ValueError: it does not answer.
  """
  try:
    return worker.ask(['facts'], _START_SECONDS)
  except (processes.TimeUpError, processes.EndedError) as error:
    why = str(error) or f'no answer within {_START_SECONDS:.0f} s'
    raise ValueError(
      f'Expected a device that JAX can use; got {why}; try python -c "import '
      'jax; print(jax.devices())"'
    ) from error


def _size(name: str, platform: str, data_dir: str) -> tuple[sizes.Size, str]:
  """Returns how much is measured, and a sentence that says so."""
  if name == 'auto':
    name = 'small' if platform == 'cpu' else 'full'
    note = f'{platform}: the {name} size'
    if platform == 'cpu':
      note = 'no accelerator is at hand: the small size, on the CPU'
  else:
    registry.lookup(sizes.SIZES, name, 'size')
    note = f'{platform}: the {name} size'
  size = sizes.SIZES[name]
  if size.images and not data_dir:
    size = size._replace(figure=())
    note += '; the figure needs --data_dir'
  return size, note


def _kit(values, out, log, worker, facts, size) -> _Kit:
  """Returns what the rows share, with what is known of the device."""
  device = facts['name']
  rows = rows_library.Rows(out, device)
  if rows.others:
    print(
      f'{out} has rows of {", ".join(rows.others)}, too: they stay, and those '
      f'of {device} are added',
      flush=True,
    )
  rows.add('device', facts)
  slug = re.sub(r'\W+', '_', device).strip('_').lower()
  runs = out / 'runs' / slug
  runs.mkdir(parents=True, exist_ok=True)
  data_dir = values.data_dir if size.images else ''
  places = audits.Places(runs, log, data_dir, values.peer)
  return _Kit(rows, worker, places, size)


def _measure(kit, sections, end, command) -> int:
  """Measures the rows that are not there yet, and returns the exit code."""
  folder = kit.places.runs.parents[1]
  total = sum(_PARTS[name] for name in sections)
  for name in sections:
    # What a section does not use is left to the later ones.
    now = time.monotonic()
    until = now + (end - now) * _PARTS[name] / total
    total -= _PARTS[name]
    _section(kit, name, until)
    tables.write(kit.rows, folder, command)
  left = [key for name in sections for key in _section(kit, name, end)]
  tables.write(kit.rows, folder, command)
  wrong = [
    row['key']
    for row in kit.rows
    if row['verdict'] in (rows_library.DIFFERS, rows_library.FAILED)
  ]
  if left:
    print(
      f'{len(left)} rows are left, the first is {left[0]}: the same command '
      'goes on'
    )
  if wrong:
    print(f'launch: look at {", ".join(wrong)}', file=sys.stderr)
    return 1
  return process.STOPPED if left else 0


def _section(kit: _Kit, name: str, until: float) -> list[str]:
  """Measures the rows of a section, and returns those that are left."""
  left = []
  for task in sizes.tasks(kit.size, name, bool(kit.places.peer)):
    if kit.rows.done(task.key):
      continue
    seconds = until - time.monotonic()
    if seconds < _LEAST_SECONDS:
      left.append(task.key)
      continue
    # A point of the figure continues where it was, and may take any time.
    limit = math.inf if name == 'figure' else kit.size.limit
    try:
      figures = _figures(kit, task, min(seconds, limit))
    except processes.TimeUpError:
      if seconds < limit:
        left.append(task.key)
        continue
      why = f'it took more than {limit:.0f} s'
      figures = {'verdict': rows_library.FAILED, 'why': why}
    except processes.EndedError as error:
      figures = {'verdict': rows_library.FAILED, 'why': str(error)}
    row = kit.rows.add(task.key, figures)
    print(tables.line(row), flush=True)
  return left


def _figures(kit: _Kit, task: sizes.Task, seconds: float) -> dict[str, Any]:
  """Measures a row.

  Raises:
    TimeUpError: time was up.
    EndedError: it could not be measured.
  """
  if task.function == 'peer':
    kit.worker.stop()
    network, key, steps = task.arguments
    own = kit.rows.get(key)
    if own is None or 'restarts_per_second' not in own:
      raise processes.EndedError(f'there is no speed of {key} to compare with')
    return audits.peer(kit.places, seconds, network, steps, own)
  if task.function in AUDITS:
    kit.worker.stop()
    return AUDITS[task.function](kit.places, seconds, *task.arguments)
  return kit.worker.ask([task.function, *task.arguments], seconds)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
