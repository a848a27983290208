"""The rows that are whole commands: audits by the engine, and the peer."""

from collections.abc import Sequence
import json
import os
import pathlib
import shutil
import statistics
import sys
from typing import Any, NamedTuple

import numpy as np

from .. import children
from .. import workload
from . import processes
from . import rows

_DECIBELS = 0.1  # by which the same attack may end apart on two devices
_GIAJAX = (sys.executable, '-m', 'giajax.main')
_PEER = pathlib.Path(workload.__file__).with_name('breaching_speed.py')
_RECON = 'recon.npz'


class Places(NamedTuple):
  """Where commands read and write.

  Attributes:
    runs: the folder of the workdirs.
    log: the file that stderr is added to.
    data_dir: CIFAR-10 as prepared by tfds, or an empty text.
    peer: the peer's Python interpreter, or an empty text.
    platform: JAX's name of the platform of the device.
  """

  runs: pathlib.Path
  log: pathlib.Path
  data_dir: str
  peer: str
  platform: str


def require_peer(python: str) -> None:
  """Raises ValueError unless an interpreter has the peer."""
  try:
    done = children.run([python, '-c', 'import breaching'])
  except OSError as error:
    raise ValueError(
      f'Expected a Python interpreter; got --peer={python} ({error.strerror}); '
      'correct the path'
    ) from error
  if done.returncode:
    last = (done.stderr.strip().splitlines() or ['no message'])[-1]
    raise ValueError(
      f'Expected a Python with breaching; got --peer={python}, which says '
      f'{last!r}; install breaching there, or leave --peer out'
    )


def require_data(folder: str) -> None:
  """Raises ValueError unless a folder holds CIFAR-10 as prepared by tfds."""
  if not (pathlib.Path(folder) / 'cifar10').is_dir():
    raise ValueError(
      'Expected a folder that holds cifar10 as prepared by tfds; got '
      f'--data_dir={folder}; correct the path'
    )


def resumed(
  places: Places, end: float, config: str, flags: str
) -> dict[str, Any]:
  """Compares a run that was killed and continued with one that was not.

  Args:
    places: where to read and write.
    end: when to stop, by `time.monotonic`.
    config: the audit.
    flags: further flags of XLA.

  Returns:
    The figures of a row: whether both reconstructions have the same bits, and
    the largest difference of a pixel.
  """
  folders = [_fresh(places, name) for name in ('undisturbed', 'killed')]
  straight, killed = folders
  extra = '--config.restarts=2', '--config.run.save_seconds=0'
  given = os.environ.get('XLA_FLAGS', '')
  environment = {'XLA_FLAGS': f'{given} {flags}'} if flags else {}
  _audit(places, end, config, straight, *extra, environment=environment)
  saved = killed / 'checkpoints'
  processes.run(
    _command(config, killed, *extra),
    places.log,
    end,
    environment=environment,
    until=lambda: any(saved.glob('*/[2-9]*/commit_success.txt')),
  )
  _audit(places, end, config, killed, *extra, environment=environment)
  one, other = ((folder / _RECON).read_bytes() for folder in folders)
  images = [_images(folder / _RECON) for folder in folders]
  return {
    'verdict': rows.OK if one == other else rows.DIFFERS,
    'difference': float(np.max(np.abs(images[0] - images[1]))),
  }


def alike(places: Places, end: float, config: str) -> dict[str, Any]:
  """Compares where an attack ends on this device and on the CPU.

  Args:
    places: where to read and write.
    end: when to stop, by `time.monotonic`.
    config: the audit.

  Returns:
    The figures of a row: the largest difference in dB, and both medians.
  """
  own = _psnr(_audit(places, end, config, _fresh(places, 'device')))
  cpu = {'JAX_PLATFORMS': 'cpu'}
  folder = _fresh(places, 'cpu')
  other = _psnr(_audit(places, end, config, folder, environment=cpu))
  difference = max(abs(a - b) for a, b in zip(own, other, strict=True))
  return {
    'verdict': rows.OK if difference <= _DECIBELS else rows.DIFFERS,
    'decibels': difference,
    'psnr': statistics.median(own),
    'psnr_cpu': statistics.median(other),
  }


def exactness(
  places: Places, end: float, config: str, precision: str
) -> dict[str, Any]:
  """Measures where an attack ends that matches closely.

  Args:
    places: where to read and write.
    end: when to stop, by `time.monotonic`.
    config: the audit.
    precision: the precision of the attacker.

  Returns:
    The figures of a row: the median in dB, and the values of all updates.
  """
  flag = f'--config.precision={precision}'
  folder = _fresh(places, f'precision_{precision}')
  found = _psnr(_audit(places, end, config, folder, flag))
  return {
    'verdict': rows.MEASURED,
    'psnr': statistics.median(found),
    'each_psnr': found,
  }


def figure(
  places: Places,
  end: float,
  config: str,
  batch: int,
  count: int,
  precision: str,
) -> dict[str, Any]:
  """Measures a point of the figure; what is cut off continues.

  Args:
    places: where to read and write.
    end: when to stop, by `time.monotonic`.
    config: the audit.
    batch: the number of images behind an update.
    count: the number of updates.
    precision: the precision of the attacker.

  Returns:
    The figures of a row: medians over all updates.
  """
  flags = [
    f'--config.cases.batch_size={batch}',
    f'--config.cases.count={count}',
    f'--config.precision={precision}',
  ]
  if places.data_dir:
    flags.append(f'--config.dataset.data_dir={places.data_dir}')
  folder = places.runs / f'figure_{batch}_{precision}'
  found = _audit(places, end, config, folder, *flags, gently=True)
  return {
    'verdict': rows.MEASURED,
    'updates': len(found),
    'steps': found[0]['steps'],
    'dataset': found[0]['dataset'],
    'psnr': statistics.median(_psnr(found)),
    'ssim': statistics.median(row['ssim'] for row in found),
    'baseline_psnr': statistics.median(
      max(baseline['psnr'] for baseline in row['baselines'].values())
      for row in found
    ),
    'seconds_per_update': statistics.median(
      row['seconds_per_update'] for row in found
    ),
  }


def peer(
  places: Places,
  end: float,
  network: str,
  steps: int,
  own: dict[str, Any],
) -> dict[str, Any]:
  """Times the peer's restart-step.

  Args:
    places: where to read and write.
    end: when to stop, by `time.monotonic`.
    network: a workload such as 'resnet18:1:224'.
    steps: the number of its steps.
    own: our row for that workload.

  Returns:
    The figures of a row: its milliseconds per step, and the ratio.
  """
  name, batch, size = workload.parse(network)
  command = [
    places.peer,
    str(_PEER),
    f'--network={name}',
    f'--batch={batch}',
    f'--size={size}',
    f'--steps={steps}',
  ]
  out = processes.run(command, places.log, end)
  found = json.loads(out.strip().splitlines()[-1])
  for key in ('parameters', 'convolution_flops'):
    if found[key] != own[key]:
      raise processes.EndedError(
        f'the peer has another network: {key} of {found[key]:,}, not '
        f'{own[key]:,}'
      )
  if found['device'] == 'cpu' and places.platform != 'cpu':
    raise processes.EndedError(
      'the peer cannot use the device: it ran on a CPU'
    )
  return {
    'verdict': rows.MEASURED,
    'peer_device': found['device'],
    'peer_ms_per_step': found['ms_per_step'],
    'ratio': own['restarts_per_second'] * found['ms_per_step'] / 1e3,
    'other_load': found.get('other_load'),
  }


def _audit(
  places: Places,
  end: float,
  config: str,
  workdir: pathlib.Path,
  *flags: str,
  **arguments: Any,
) -> list[dict[str, Any]]:
  """Runs an audit, or what is left of it, and returns its rows."""
  command = _command(config, workdir, *flags)
  processes.run(command, places.log, end, **arguments)
  lines = (workdir / 'results.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def _command(config: str, workdir: pathlib.Path, *flags: str) -> list[str]:
  return [*_GIAJAX, f'--config={config}', f'--workdir={workdir}', *flags]


def _fresh(places: Places, name: str) -> pathlib.Path:
  """Returns a workdir that holds nothing."""
  folder = places.runs / name
  shutil.rmtree(folder, ignore_errors=True)
  return folder


def _images(path: pathlib.Path) -> np.ndarray:
  """Returns all reconstructions of a run, as one vector."""
  with np.load(path) as file:
    names = [name for name in file.files if name.endswith('/x_hat')]
    return np.concatenate([np.ravel(file[name]) for name in names])


def _psnr(found: Sequence[dict[str, Any]]) -> list[float]:
  return [row['psnr'] for row in found]
