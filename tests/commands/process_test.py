"""Tests of giajax.commands.process: cores, devices and what is printed."""

import os
import subprocess
import sys

import jax
import pytest

from giajax.commands import process

# Each part would write to standard error, or fail, in a process as it is.
_CODE = """
import logging, threading, warnings
from absl import logging as absl_logging
from giajax.commands import process
process.guard_output()
process.quiet_libraries()
warnings.warn('of Pillow')
logging.getLogger('PIL.TiffImagePlugin').error('of Pillow')
logging.getLogger('asyncio').error('Task exception of Orbax')
absl_logging.error('of Orbax')
class Unraisable(str):
  def __del__(self):
    raise RuntimeError(self)
Unraisable('Event loop is closed')
def full():
  raise OSError(28, 'No space left of a disk')
thread = threading.Thread(target=full)
thread.start()
thread.join()
Unraisable('a fault')
print('21 \u2013 \u221e')
"""


@pytest.mark.parametrize(
  ('variables', 'counted'),
  [
    ({}, True),
    ({'JAX_NUM_CPU_DEVICES': '3'}, False),
    ({'XLA_FLAGS': '--xla_force_host_platform_device_count=3'}, False),
    ({'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false'}, True),
  ],
)
def test_devices_are_counted_unless_the_user_does(
  monkeypatch, variables, counted
):
  for name in ('JAX_NUM_CPU_DEVICES', 'XLA_FLAGS'):
    monkeypatch.delenv(name, raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  changed = {}
  monkeypatch.setattr(jax.config, 'update', changed.__setitem__)
  process.use_machine()
  assert ('jax_num_cpu_devices' in changed) == counted


def test_devices_that_do_not_start_are_one_line():
  words = r'^Expected a device .* b c; correct'
  with pytest.raises(ValueError, match=words), process.devices():
    raise RuntimeError('Unable to initialize backend a\n b c')
  with pytest.raises(RuntimeError, match='another'), process.devices():
    raise RuntimeError('another')


def test_a_cache_in_the_home_of_nobody_is_refused(monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', '~nouser')
  with pytest.raises(ValueError, match=r'^Expected a path in XDG_CACHE_HOME'):
    process.cache_compilations()


def _run(text, **options):
  return subprocess.run(
    [sys.executable, '-c', text], stderr=subprocess.PIPE, text=True, **options
  )


def test_an_output_that_cannot_be_written():
  script = (
    'import sys\n'
    'from giajax import main\n'
    "sys.argv = ['giajax', '--version']\n"
    'main.run()\n'
  )
  with open('/dev/full', 'w') as full:
    done = _run(script, stdout=full)
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert line.startswith('giajax: Expected a standard output that can be ')
  ours, theirs = os.pipe()
  os.close(ours)
  done = _run(script, stdout=theirs)
  os.close(theirs)
  assert (done.returncode, done.stderr) == (141, '')


def test_libraries_are_quiet_and_any_encoding_does():
  done = subprocess.run(
    [sys.executable, '-c', _CODE],
    env={'PYTHONIOENCODING': 'ascii', 'PYTHONPATH': ':'.join(sys.path)},
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.stderr.count('Traceback') == 1
  assert done.stderr.endswith('\nRuntimeError: a fault\n')
  assert 'of ' not in done.stderr
  assert done.stdout == '21 \\u2013 \\u221e\n'
