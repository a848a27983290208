"""The process that uses the device: it measures one row after the other.

  python -m giajax.launch.accelerator.worker

It reads a JSON list per line, the name of a function in `FUNCTIONS` and its
arguments, and answers each with one line, the figures of a row. The kit itself
never touches the device, whose memory would be taken from the audits and peers
that it starts.
"""

import contextlib
import json
import os
import platform
import sys
from typing import Any, TextIO

import jax

from giajax.commands import process
from giajax.engine import provenance

from .. import workload
from . import checks
from . import rows


def facts() -> dict[str, Any]:
  """Returns what is known of the device, for the row 'device'."""
  device = jax.local_devices()[0]
  memory = (device.memory_stats() or {}).get('bytes_limit')
  return {
    'verdict': rows.MEASURED,
    'name': _name(device),
    'platform': device.platform,
    'memory_gib': memory and memory / 2**30,
    'versions': provenance.versions(),
  }


def _name(device: jax.Device) -> str:
  """Returns the kind of the devices and their number."""
  if device.platform != 'cpu':
    return provenance.device()
  kind = platform.processor() or platform.machine()
  with contextlib.suppress(OSError), open('/proc/cpuinfo') as file:
    models = [line for line in file if line.startswith('model name')]
    kind = models[0].partition(':')[2].strip() if models else kind
  return f'{kind} x{jax.device_count()}'


def matmul(precision: str) -> dict[str, Any]:
  """Returns the row of a device's rate, in TFLOP/s."""
  rate = workload.matmul_rate(precision, jax.device_count()) / 1e12
  return {'verdict': rows.MEASURED, 'tflops': rate}


def speed(
  network: str, restarts: int, lowering: str, precision: str, steps: int
) -> dict[str, Any]:
  """Returns the row of a workload's speed.

  Args:
    network: a workload such as 'resnet18:1:224'.
    restarts: the number of restarts.
    lowering: a name in `LOWERINGS`, or 'auto'.
    precision: a name in `PRECISIONS`.
    steps: the number of steps; 0 takes about two seconds.
  """
  options = workload.Options(restarts, steps, lowering, precision)
  figures = workload.measure(workload.parse(network), options)
  del figures['peak_gb']  # the host's, of all rows so far
  return {'verdict': rows.MEASURED, **figures}


# What XLA and its libraries say where memory does not suffice.
_NO_MEMORY = ('RESOURCE_EXHAUSTED', 'ALLOC_FAILED', 'out of memory')
FUNCTIONS = {
  'facts': facts,
  'layouts': checks.layouts,
  'lowering': checks.lowering,
  'matmul': matmul,
  'moments': checks.moments,
  'speed': speed,
}


def main() -> int:
  """Answers the lines of standard input until it ends."""
  # What anything else prints goes to stderr.
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  process.use_machine()
  for line in sys.stdin:
    name, *arguments = json.loads(line)
    _answer(answers, _figures(name, arguments))
  return 0


def _figures(name: str, arguments: list[Any]) -> dict[str, Any]:
  try:
    return FUNCTIONS[name](*arguments)
  except jax.errors.JaxRuntimeError as error:
    if not any(text in str(error) for text in _NO_MEMORY):
      raise
    return {'verdict': rows.NO_MEMORY, 'why': str(error).splitlines()[0]}


def _answer(answers: TextIO, figures: dict[str, Any]) -> None:
  answers.write(json.dumps(figures) + '\n')
  answers.flush()


if __name__ == '__main__':
  sys.exit(main())
