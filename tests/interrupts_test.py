"""Tests of what a signal does to a command, at moments of all kinds."""

import os
import signal
import subprocess
import sys
import time

import pytest
import tiny

from giajax import interrupts

# Loops in C, without the lock of the interpreter and deaf to signals.
_DEAF = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
_START = """
import hashlib, os, pathlib, re, signal, sys, threading, time
from giajax import files, interrupts
interrupts.watch('giajax', 'continues')
def ready(): print('ready', flush=True)
"""
_LINE = 'giajax: asked to stop; the same command continues\n'
_COMPILING = """
import jax
def many(x):
  for i in range(600):
    x = jax.numpy.sin(x @ x.T) + jax.lax.sort(x, dimension=i % 2)
  return x
lowered = jax.jit(many).lower(jax.numpy.ones((8, 8)))
ready()
lowered.compile()
"""
_BLOCKS = {
  'sleeping': 'ready(); time.sleep(60)',
  'deaf': f'ready(); {_DEAF}',
  'holding the interpreter': "ready(); re.match('(a+)+b', 64 * 'a')",
  'compiling': _COMPILING,
  'importing': 'ready(); import giajax.engine.run',
}


def _start(code, **options):
  return subprocess.Popen(
    [sys.executable, '-c', _START + code],
    cwd=tiny.ROOT,
    env={**os.environ, 'PYTHONPATH': str(tiny.ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def _ready(code, **options):
  """Starts a program, and returns it when it is where it says so."""
  process = _start(code, **options)
  assert process.stdout
  assert process.stdout.readline() == 'ready\n', process.stderr
  time.sleep(0.1)
  return process


def _ended(process, line=_LINE):
  """Asserts that a signal that was just sent is answered, and by one line."""
  began = time.monotonic()
  _, errors = process.communicate(timeout=60)
  assert time.monotonic() - began < 5  # on a busy machine; alone, at once
  assert process.returncode == interrupts.STOPPED
  assert errors == line


@pytest.mark.parametrize('code', _BLOCKS.values(), ids=_BLOCKS.keys())
def test_a_signal_is_answered_whatever_the_main_thread_does(code):
  process = _ready(code)
  process.send_signal(signal.SIGINT)
  _ended(process)


@pytest.mark.parametrize(
  ('words', 'after'),
  [
    ('--config=smoke', 'continues'),
    ('--list', 'starts again'),
    ('--version', 'starts again'),
    ('report nosuch', 'starts again'),
    ('verify --config=smoke --received=nosuch.npz', 'starts again'),
    ('train --config=smoke', 'continues'),
  ],
)
def test_commands_watch_before_they_import_jax(words, after):
  command = [sys.executable, '-m', 'giajax.main', *words.split()]
  process = subprocess.Popen(
    command, cwd=tiny.ROOT, stderr=subprocess.PIPE, text=True
  )
  while not _catches(process.pid, signal.SIGHUP):
    time.sleep(0.001)
  process.send_signal(signal.SIGTERM)
  _ended(process, f'giajax: asked to stop; the same command {after}\n')


def _catches(pid, number):
  """Returns whether a process has a handler for a signal."""
  with open(f'/proc/{pid}/status') as file:
    (caught,) = [line for line in file if line.startswith('SigCgt')]
  return int(caught.split()[1], 16) >> (number - 1) & 1


def test_training_saves_and_keeps_its_epochs(tmp_path):
  config = tiny.write(tmp_path / 'config.py')
  process = tiny.start(
    *('train', f'--config={config}', f'--out={tmp_path}/w.npz', '--every=1'),
    *('--epochs=1000000', '--batch_size=2'),
  )
  kept = tmp_path / 'w-epoch1.json'
  assert tiny.wait_for(process, kept.exists)
  process.send_signal(signal.SIGHUP)
  errors = tiny.finish(process, code=interrupts.STOPPED)
  last = errors.splitlines()[-1]
  assert last.startswith('giajax: stopped and saved at step ')
  assert any((tmp_path / 'w.training/checkpoints/model').iterdir())
  assert kept.exists() and (tmp_path / 'w-epoch1.npz').exists()
  assert not [*tmp_path.glob('.*')], 'an unfinished file is left'


# A hook that never returns, so that the loop never looks.
_STUCK = f"""
from giajax.engine import hooks
def stuck(status):
  import hashlib, sys
  print('in the loop', file=sys.stderr, flush=True)
  {_DEAF}
hooks.progress = lambda: stuck
"""


def test_the_second_signal_does_not_wait_for_the_loop(tmp_path):
  config = tiny.write(tmp_path / 'config.py')
  config.write_text(config.read_text() + _STUCK)
  process = tiny.start(f'--config={config}', f'--workdir={tmp_path}/run')
  assert tiny.wait_for(process, lambda: 'in the' in tiny.errors(process))
  for _ in range(3):  # a launcher's, a scheduler's and a user's
    process.send_signal(signal.SIGTERM)
  time.sleep(2 * interrupts._SAME)
  assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  assert tiny.finish(process, code=interrupts.STOPPED).endswith(_LINE)


def test_what_the_parent_ignores_is_ignored():
  process = subprocess.Popen(
    ['nohup', sys.executable, '-c', f'{_START}ready(); time.sleep(60)'],
    cwd=tiny.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    stdin=subprocess.DEVNULL,
    text=True,
  )
  assert process.stdout and process.stdout.readline() == 'ready\n'
  process.send_signal(signal.SIGHUP)
  time.sleep(0.2)
  assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  _ended(process)


def test_a_library_may_take_a_signal_for_itself():
  """JAX does so, where several processes run together."""
  taken = 'ctypes.CDLL(None).signal(signal.SIGTERM, 1)'
  process = _ready(
    f'import ctypes; {taken}; interrupts.renew(); ready()\n{_DEAF}'
  )
  process.send_signal(signal.SIGTERM)
  _ended(process)


@pytest.mark.parametrize(
  ('end', 'code', 'line'),
  [
    ('os.kill(os.getpid(), signal.SIGTERM)', interrupts.STOPPED, _LINE),
    ("interrupts.end(2, 'Expected a')", 2, 'giajax: Expected a\n'),
  ],
)
def test_an_unfinished_file_is_removed(tmp_path, end, code, line):
  path = tmp_path / 'file'
  path.write_text('before')
  writes = f"""
with files.written(pathlib.Path({str(path)!r})) as made:
  made.write_text('half')
  assert made.exists()
  threading.Timer(0.1, lambda: {end}).start()
  {_DEAF}
"""
  process = _start(writes)
  _, errors = process.communicate(timeout=30)
  assert (process.returncode, errors) == (code, line)
  assert [*tmp_path.iterdir()] == [path] and path.read_text() == 'before'


def test_whoever_takes_nothing_leaves_it_to_the_one_outside():
  """Such as a run that saves, within processes that end together."""
  nested = """
def take(name, takes):
  print(name, flush=True)
  return takes
with interrupts.passed_to(lambda: take('outside', False)):
  with interrupts.passed_to(lambda: take('inside', len(sys.argv) == 1)):
    ready()
    time.sleep(0.1)
    interrupts.ask()
    sys.argv.append('')
    print('on', flush=True)
    interrupts.ask()
"""
  process = _start(nested)
  out, errors = process.communicate(timeout=30)
  assert out.split() == ['ready', 'inside', 'on', 'inside', 'outside']
  assert (process.returncode, errors) == (interrupts.STOPPED, _LINE)


def test_forked_children_have_handlers_of_their_own():
  forks = """
if not os.fork():
  ready()
  time.sleep(60)
print(os.wait()[1], flush=True)
time.sleep(60)
"""
  process = _ready(forks, start_new_session=True)
  (child,) = subprocess.run(
    ['ps', '-o', 'pid=', '--ppid', str(process.pid)],
    capture_output=True,
    check=True,
  ).stdout.split()
  os.kill(int(child), signal.SIGTERM)
  assert process.stdout.readline() == f'{int(signal.SIGTERM)}\n'
  assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  _ended(process)


def test_a_command_that_has_done_everything_keeps_its_code():
  frees = """
class Late:
  def __del__(self): os.kill(os.getpid(), signal.SIGTERM)
late = Late()
sys.exit(3)
"""
  process = _start(frees)
  assert process.communicate(timeout=30) == ('', '')
  assert process.returncode == 3


@pytest.mark.parametrize('errors', ['full', 'closed'])
def test_nobody_has_to_read_the_line(errors):
  fills = """
os.set_blocking(2, False)
try:
  while True: os.write(2, bytes(4096))
except BlockingIOError: os.set_blocking(2, True)
"""
  code = fills if errors == 'full' else 'os.close(2)\n'
  process = _ready(f'{code}ready()\n{_DEAF}')
  process.send_signal(signal.SIGTERM)
  process.wait(timeout=30)
  assert process.returncode == interrupts.STOPPED
  process.communicate()


def test_a_library_watches_nothing():
  assert not interrupts.watched()
  interrupts.renew()
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  with interrupts.passed_to(lambda: pytest.fail('nobody asks')):
    pass
