"""The smallest experiment, and processes that run it."""

import contextlib
import hashlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

from giajax.engine import build
from giajax.results import collection

ROOT = pathlib.Path(__file__).resolve().parents[1]
_errors = {}  # where each process writes its stderr to


def config(**changes):
  """Returns two photographs against a tiny network; `a__b=1` sets a.b."""
  made = build.default_config()
  made.dataset = dict(name='photographs', size=12)
  made.cases.count = 2
  made.model = dict(name='mlp', widths=(8,))
  # Total variation's slope jumps where neighbours are equal: with it, a
  # rounding would show.
  made.attack = dict(
    name='inverting_gradients', num_steps=12, total_variation=0.0
  )
  made.restarts = 2
  made.records = 3
  for key, value in changes.items():
    node = made
    *path, last = key.split('__')
    for part in path:
      node = node[part]
    node[last] = value
  return made


def write(path, changes=''):
  """Writes a config file with `tiny.config`, and returns its path."""
  path.write_text(
    '"""A tiny experiment."""\n'
    f'import sys\nsys.path.insert(0, {str(ROOT / "tests")!r})\n'
    'import tiny\n\n\n'
    f'def get_config(arg=None):\n  return tiny.config({changes})\n'
  )
  return path


def port():
  """Returns a port at which nobody listens."""
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    return probe.getsockname()[1]


def start(*arguments, devices=1):
  """Starts giajax on the CPU, in a process of its own."""
  # A pipe that nobody reads yet would stop it when the pipe is full.
  with tempfile.NamedTemporaryFile(delete=False) as file:
    process = subprocess.Popen(
      [sys.executable, '-m', 'giajax.main', *map(str, arguments)],
      cwd=ROOT,
      env={
        **os.environ,
        'JAX_PLATFORMS': 'cpu',
        'JAX_NUM_CPU_DEVICES': str(devices),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'TF_CPP_MIN_LOG_LEVEL': '3',  # some versions of XLA warn of its cache
      },
      stdout=subprocess.DEVNULL,
      stderr=file,
    )
  _errors[process] = pathlib.Path(file.name)
  return process


def errors(process):
  """Returns what a process has written to stderr so far."""
  return _errors[process].read_text()


def finish(process, code=0):
  """Waits for a process, checks its exit code, and returns its stderr."""
  process.wait(timeout=300)
  text = errors(process)
  _errors.pop(process).unlink()
  assert process.returncode == code, text
  return text


def wait_for(process, condition):
  """Waits until a condition holds; False if the process ended before."""
  end = time.time() + 300
  while not condition():
    if process.poll() is not None:
      return False
    assert time.time() < end
    time.sleep(0.002)
  return True


def kill(process):
  """Kills a process as `kill -9` does."""
  with contextlib.suppress(ProcessLookupError):
    process.kill()
  process.wait()
  _errors.pop(process).unlink()


def arrays(workdir):
  """Returns the arrays of each row, such as '0000/x_hat'."""
  run = collection.read(workdir)
  with run.arrays:
    return {name: run.arrays[name] for name in run.arrays}


def digest(workdir):
  """Returns the hash of `recon.npz`."""
  return hashlib.sha256((workdir / 'recon.npz').read_bytes()).hexdigest()
