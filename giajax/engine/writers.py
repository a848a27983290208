"""Hooks that write the curve of a run for other programs.

Each writes, at every piece of a run, the attacker's lowest objective, the
restarts that are still finite, and the restart-steps per second. The parts that
a process runs follow each other on the axis of steps. They need a package each,
which giajax does not install by itself.
"""

from collections.abc import Callable, Mapping
import importlib
import pathlib
import time
from typing import Any, Protocol

from giajax import registry
from giajax.engine import hooks

FOLDER = 'events'  # of the workdir
Scalars = Callable[[int, Mapping[str, float]], None]


class Writer(Protocol):
  """What a row of `WRITERS` is."""

  def __call__(self, folder: pathlib.Path, name: str) -> Scalars:
    """Returns a function of a step and its values by their names."""
    ...


def tensorboard(folder: pathlib.Path, name: str) -> Scalars:
  """TensorBoard's event files, by tensorboardX: `pip install tensorboardX`."""
  parts = ('event_file_writer', 'proto.event_pb2', 'summary')
  files, events, summary = (
    _imported(f'tensorboardX.{part}', 'tensorboard') for part in parts
  )
  (folder / name).mkdir(parents=True, exist_ok=True)
  # Its SummaryWriter writes in a thread, which a killed process loses.
  writer = files.EventsWriter(str(folder / name / 'events'))

  def write(step: int, values: Mapping[str, float]) -> None:
    for key, value in values.items():
      own = summary.scalar(key, value)
      event = events.Event(wall_time=time.time(), step=step, summary=own)
      writer.write_event(event)
    writer.flush()

  return write


def wandb(folder: pathlib.Path, name: str) -> Scalars:
  """A run of Weights & Biases that stays on this machine: `pip install wandb`.

  `wandb sync` sends it later.
  """
  library = _imported('wandb', 'wandb')
  folder.mkdir(parents=True, exist_ok=True)
  run = library.init(mode='offline', dir=str(folder), name=name)
  return lambda step, values: run.log(dict(values), step=step)


WRITERS: dict[str, Writer] = {'tensorboard': tensorboard, 'wandb': wandb}


def writer(
  name: str, workdir: pathlib.Path, shard: tuple[int, int]
) -> hooks.Hook:
  """Returns a hook that writes to a folder of the workdir.

  Args:
    name: a name in `WRITERS`.
    workdir: the workdir, in which `FOLDER` is made at the first piece.
    shard: (i, n), which names the curve.

  Raises:
    ValueError: an unknown name, or a package that is missing.
  """
  make = registry.lookup(WRITERS, name, 'log')
  _imported(_PACKAGES[name], name)
  return _Curve(lambda: make(workdir / FOLDER, '{}-of-{}'.format(*shard)))


_PACKAGES = {'tensorboard': 'tensorboardX', 'wandb': 'wandb'}


class _Curve:
  """A hook that puts parts one after the other."""

  def __init__(self, make: Callable[[], Scalars]):
    self._make = make
    self._write: Scalars | None = None
    self._before, self._last = 0, hooks.Status(0, 0, 0, 0, 0.0, 0.0)

  def __call__(self, status: hooks.Status) -> None:
    write = self._write = self._write or self._make()
    last = self._last
    ended = last.step == last.steps
    if ended or status.step <= last.step or status.steps != last.steps:
      self._before += last.steps  # another part began
      last = hooks.Status(0, 0, 0, 0, 0.0, 0.0)
    seconds = status.seconds - last.seconds
    values = {'best': status.best, 'alive': status.alive / status.restarts}
    if seconds > 0:
      steps = (status.step - last.step) * status.restarts
      values['restart_steps_per_second'] = steps / seconds
    write(self._before + status.step, values)
    self._last = status


def _imported(package: str, extra: str) -> Any:
  try:
    return importlib.import_module(package)
  except ImportError as error:
    raise ValueError(
      f'Expected the package {package} for --log={extra}; got none; install '
      f"it by pip install 'giajax[{extra}]'"
    ) from error
