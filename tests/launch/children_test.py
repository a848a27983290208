"""Tests of what becomes of the processes that a launch command starts."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from giajax import interrupts
from launch import children

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_CODE = """
import sys
from giajax import interrupts
from launch import children
interrupts.watch('launch', 'continues', children.end_all)
try:
  children.run(['sh', '-c', sys.argv[1]])
finally:
  print('what the child left was looked at', file=sys.stderr)
"""


def test_a_command_that_ends_is_kept():
  done = children.run(['sh', '-c', 'echo out; echo err >&2; exit 3'])
  assert (done.returncode, done.stdout, done.stderr) == (3, 'out\n', 'err\n')
  assert not children._running
  with pytest.raises(subprocess.CalledProcessError, match='status 3'):
    done.check_returncode()


def test_a_signal_finds_what_is_being_killed(monkeypatch):
  """Or what it ended in the very moment would be left running."""
  process, listed = children.start(['sleep', '99']), []
  send = children._send

  def watched(*args):
    listed.append((process in children._running, interrupts._lock.locked()))
    send(*args)

  monkeypatch.setattr(children, '_send', watched)
  children.kill(process)
  assert listed == [(True, True)]
  assert not children._running and process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
  ('script', 'saved'),
  [
    ("trap 'touch saved; exit 85' TERM", True),
    ("trap '' TERM", False),
    (':', False),
  ],
)
def test_children_save_and_end_with_the_command(tmp_path, script, saved):
  script = f'{script}; cd {tmp_path}; echo $$ >id; mv id ids; sleep 99 & wait'
  process = subprocess.Popen(
    [sys.executable, '-c', _CODE, f'{script}; wait'],
    cwd=_ROOT,
    env={**os.environ, 'PYTHONPATH': str(_ROOT)},
    stderr=subprocess.PIPE,
    text=True,
  )
  while not (tmp_path / 'ids').exists():
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=30)
  assert process.returncode == 85
  assert errors == 'launch: asked to stop; the same command continues\n'
  assert (tmp_path / 'saved').exists() == saved
  group = int((tmp_path / 'ids').read_text())
  end = time.monotonic() + 10
  while time.monotonic() < end:
    try:
      os.killpg(group, 0)
    except ProcessLookupError:
      return
    time.sleep(0.02)
  pytest.fail('something that it started is running')
