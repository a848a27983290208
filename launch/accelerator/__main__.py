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

The exit code is 0 if all rows are there, 85 if some are left or if it was asked
to stop, 1 if the device computes something wrong or a row could not be
measured, and 2 for a mistake on the command line. In a checkout that is not
installed, the command is `python -m launch.accelerator`.
"""

from .. import errors

if __name__ == '__main__':
  errors.begin()

from collections.abc import Callable, Sequence
import math
import pathlib
import sys
import time
from typing import Any, NamedTuple

from giajax import interrupts
from giajax import paths
from giajax import printable
from giajax import registry
from giajax.commands import flags

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
_LOG = 'stderr.log'
_START_SECONDS = 120.0  # in which a device has to answer
# A row that is begun later than this before the end is hardly finished.
_LEAST_SECONDS = 2.0


class _Kit(NamedTuple):
  """What the rows of one command share."""

  rows: rows_library.Rows
  worker: processes.Worker
  places: audits.Places
  size: sizes.Size
  out: pathlib.Path
  tried: set[str]  # the keys of rows that this command has measured


@errors.reported
def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  began = time.monotonic()
  arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  values = arguments.values
  sections = _sections(values)
  out = paths.expanded(values.out, '--out')
  worker = processes.Worker(out / _LOG)
  with errors.writing(), worker:
    out.mkdir(parents=True, exist_ok=True)
    facts = _facts(worker)
    size, note = _size(values, facts['platform'])
    kit = _kit(values, out, worker, facts, size)
    print(note, flush=True)
    end = began + 60 * values.minutes
    return _measure(kit, sections, end, arguments.command)


def _sections(values: Any) -> list[str]:
  """Returns the sections that are asked for, in their order.

  Raises:
    ValueError: another name, or a peer that cannot be timed.
  """
  for name in values.only:
    registry.lookup(_PARTS, name, 'section')
  for name in ('peer', 'data_dir'):
    if path := getattr(values, name):
      setattr(values, name, str(paths.expanded(path, f'--{name}')))
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
    return worker.ask(['facts'], time.monotonic() + _START_SECONDS)
  except (processes.TimeUpError, processes.EndedError) as error:
    why = str(error) or f'no answer within {_START_SECONDS:.0f} s'
    raise ValueError(
      f'Expected a device that JAX can use; got {why}; try python -c "import '
      'jax; print(jax.devices())"'
    ) from error


def _size(values: Any, platform: str) -> tuple[sizes.Size, str]:
  """Returns how much is measured, and a sentence that says so.

  Raises:
    ValueError: an unknown size, or nothing but a figure that has no images.
  """
  name = values.size
  if name == 'auto':
    name = 'small' if platform == 'cpu' else 'full'
  size = registry.lookup(sizes.SIZES, name, 'size')
  note = f'{platform}: the {name} size'
  if platform == 'cpu' and values.size == 'auto':
    note = (
      'no accelerator is at hand: the small size, on the CPU (if there is one, '
      'JAX_PLATFORMS=cuda says why it is not used)'
    )
  if size.images and not values.data_dir:
    if values.only == ['figure']:
      raise ValueError(
        'Expected --data_dir, CIFAR-10 as prepared by tfds, for the figure at '
        'full size; got none; name the folder'
      )
    size = size._replace(figure=())
    note += '; the figure needs --data_dir'
  return size, note


def _kit(values, out, worker, facts, size) -> _Kit:
  """Returns what the rows share, with what is known of the device."""
  device = facts['name']
  rows = rows_library.Rows(out, device, facts['versions'])
  if rows.others:
    print(
      f'{printable.line(str(out))} has rows of {", ".join(rows.others)}, too: '
      f'they stay, and those of {device} are added',
      flush=True,
    )
  rows.add('device', facts)
  runs = out / 'runs' / tables.slug(device)
  runs.mkdir(parents=True, exist_ok=True)
  data_dir = values.data_dir if size.images else ''
  places = audits.Places(
    runs, out / _LOG, data_dir, values.peer, facts['platform']
  )
  return _Kit(rows, worker, places, size, out, set())


def _measure(kit, sections, end, command) -> int:
  """Measures the rows that are not there yet, and returns the exit code."""
  total = sum(_PARTS[name] for name in sections)
  for name in sections:
    # What a section does not use is left to the later ones.
    now = time.monotonic()
    until = now + (end - now) * _PARTS[name] / total
    total -= _PARTS[name]
    _section(kit, name, until, command)
  left = [key for name in sections for key in _section(kit, name, end, command)]
  wrong = [
    row['key']
    for row in kit.rows
    if row['verdict'] in (rows_library.DIFFERS, rows_library.FAILED)
    and row['key'].split('/')[0] in sections
  ]
  if wrong:
    print(f'launch: look at {", ".join(wrong)}', file=sys.stderr)
  if left:
    print(
      f'{len(left)} rows are left, the first is {left[0]}: the same command '
      'goes on'
    )
    return interrupts.STOPPED
  return 1 if wrong else 0


def _section(kit: _Kit, name: str, until: float, command: str) -> list[str]:
  """Measures the rows of a section, and returns those that are left."""
  tasks = sizes.tasks(kit.size, name, bool(kit.places.peer))
  todo = [task for task in tasks if not kit.rows.done(task.key)]
  # Rows that were tried before come last.
  todo.sort(key=lambda task: kit.rows.get(task.key) is not None)
  left = []
  for task in todo:
    if task.key in kit.tried:
      continue
    figures = _within(kit, task, until)
    if figures is None:
      left.append(task.key)
      continue
    kit.tried.add(task.key)
    row = kit.rows.add(task.key, figures)
    print(tables.line(row), flush=True)
    tables.write(kit.rows, kit.out, command)
  return left


def _within(kit: _Kit, task: sizes.Task, until: float) -> dict[str, Any] | None:
  """Measures a row; None if it cannot be measured before `until`."""
  now = time.monotonic()
  if until - now < _LEAST_SECONDS:
    return None
  # A point of the figure continues where it was, and may take any time.
  limit = math.inf if task.function == 'figure' else now + kit.size.limit
  try:
    return _figures(kit, task, min(until, limit))
  except processes.TimeUpError:
    if until <= limit:
      return None
    why = f'it took more than {kit.size.limit:.0f} s'
  except processes.EndedError as error:
    why = str(error)
  return {'verdict': rows_library.FAILED, 'why': why}


def _figures(kit: _Kit, task: sizes.Task, end: float) -> dict[str, Any]:
  """Measures a row until a moment, by `time.monotonic`.

  Raises:
    TimeUpError: time was up.
    EndedError: it could not be measured.
  """
  if task.function == 'peer':
    network, key, steps = task.arguments
    own = kit.rows.get(key)
    if own is None:
      raise processes.TimeUpError
    if own['verdict'] != rows_library.MEASURED:
      raise processes.EndedError(f'there is no speed of {key} to compare with')
    kit.worker.stop()
    return audits.peer(kit.places, end, network, steps, own)
  if task.function in AUDITS:
    kit.worker.stop()
    return AUDITS[task.function](kit.places, end, *task.arguments)
  figures = kit.worker.ask([task.function, *task.arguments], end)
  if figures['verdict'] == rows_library.NO_MEMORY:
    kit.worker.stop()  # it may still hold what did not suffice
  return figures


if __name__ == '__main__':
  sys.exit(main(sys.argv))
