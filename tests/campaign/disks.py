"""Runs on disks that refuse to write, and continues on one that does not.

The run has to be refused in one line, or to end; the next one has to end with
the bits of a run that nobody disturbs. The disks are file systems in memory,
and mounting them needs root.
"""

import contextlib
import resource
import subprocess

from tests.campaign import experiments
from tests.campaign import processes
from tests.campaign import tries

_FEW = ('one device', 'two devices', 'malicious rounds')
_WHOLE = 64 << 20  # bytes
_SMALL = 1 << 20  # bytes; more than one of these runs writes
_FILES = 60  # fewer than one of these runs makes


def attempt(number: int, lab: processes.Lab) -> tries.Try:
  """Runs on one disk that refuses; see `kills.attempt`."""
  name = _FEW[number % len(_FEW)]
  fault = FAULTS[number // len(_FEW) % len(FAULTS)]
  experiment = experiments.experiment(name, lab)
  disk = lab.own / 'disk'
  disk.mkdir()
  _mount('-t', 'tmpfs', '-o', f'size={_WHOLE}', 'none', disk)
  arguments = f'--config={experiment.config}', f'--workdir={disk / "run"}'
  what = f'{name}, {fault.__name__}'
  try:
    first = fault(lab, disk, arguments, experiment)
    if first.verdict != 'refused':
      verdict = tries.compared(first, disk / 'run', experiment.bits)
      return tries.Try(what, verdict, 1, [first])
    _mount('-o', f'remount,rw,size={_WHOLE},nr_inodes=100000', disk)
    (disk / 'balloon').unlink(missing_ok=True)
    last = lab.start(*arguments, devices=experiment.devices).finished(120)
    verdict = tries.compared(last, disk / 'run', experiment.bits)
  finally:
    subprocess.run(['umount', '-l', disk], check=True)
  return tries.Try(what, verdict, 1, [first, last])


def _mount(*arguments: object) -> None:
  """Mounts a file system.

  Raises:
    ValueError: this user may not.
  """
  done = subprocess.run(
    ['mount', *map(str, arguments)], capture_output=True, text=True
  )
  if done.returncode:
    raise ValueError(
      'Expected a user who may mount file systems for the campaign disks; got '
      f'{done.stderr.strip()}; run it as root, or leave it out'
    )


def _too_small(lab, disk, arguments, experiment):
  size = lab.random.integers(4096, _SMALL)
  _mount('-o', f'remount,size={size}', disk)
  return _run(lab, arguments, experiment)


def _few_inodes(lab, disk, arguments, experiment):
  _mount('-o', f'remount,nr_inodes={lab.random.integers(3, _FILES)}', disk)
  return _run(lab, arguments, experiment)


def _full_while_running(lab, disk, arguments, experiment):
  process = lab.start(*arguments, devices=experiment.devices)
  process.ending(lab.random.uniform(0, experiment.seconds))
  with (
    contextlib.suppress(OSError),  # what is written leaves less and less
    open(disk / 'balloon', 'wb', 0) as file,
  ):
    while True:
      file.write(bytes(1 << 16))
  return process.finished(120)


def _read_only(lab, disk, arguments, experiment):
  """The run has begun; everything that it makes is there."""
  process = lab.start(*arguments, devices=experiment.devices)
  process.ending(lab.random.uniform(0, experiment.seconds))
  process.killed()
  _mount('-o', 'remount,ro', disk)
  return _run(lab, arguments, experiment)


def _small_files(lab, disk, arguments, experiment):
  del disk
  most = int(lab.random.integers(100, 100_000))
  limits = most, resource.RLIM_INFINITY
  return _run(
    lab,
    arguments,
    experiment,
    lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
  )


def _run(lab, arguments, experiment, prepare=lambda: None):
  devices = experiment.devices
  process = lab.start(*arguments, devices=devices, prepare=prepare)
  return process.finished(120)


FAULTS = (
  _too_small,
  _full_while_running,
  _few_inodes,
  _full_while_running,
  _read_only,
  _small_files,
)
