"""Tests of the kit: killed and continued, cut off, and given nonsense."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import jax
import pytest
import tiny

from giajax import models
from launch import workload
from launch.accelerator import __main__ as kit
from launch.accelerator import audits
from launch.accelerator import processes
from launch.accelerator import rows
from launch.accelerator import sizes
from launch.accelerator import worker


def _keys(out):
  lines = (out / 'rows.jsonl').read_text().splitlines()
  return [json.loads(line)['key'] for line in lines]


def _stub(path, text):
  path.write_text(f'#!/bin/sh\n{text}\n')
  path.chmod(0o755)
  return path


@pytest.fixture
def peer(tmp_path):
  """Returns the flag of an interpreter whose peer takes 30 ms a step."""
  setup = workload.setup(workload.parse('mlp:1'), workload.Options())
  leaves = jax.tree.leaves(setup.variables.params)
  row = {
    'parameters': sum(leaf.size for leaf in leaves),
    'convolution_flops': 0,
    'device': 'cpu',
    'ms_per_step': 30.0,
  }
  text = f'[ "$1" = -c ] || echo \'{json.dumps(row)}\''
  return f'--peer={_stub(tmp_path / "python", text)}'


def test_the_whole_kit_killed_midway(tmp_path, peer, capsys):
  out = tmp_path / 'out'
  flags = ['--size=tiny', '--minutes=9', f'--out={out}', peer]
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.accelerator', *flags],
    cwd=tiny.ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout
  for line in process.stdout:
    if line.startswith('check/'):
      break
  process.kill()
  process.communicate()
  first = _keys(out)
  assert kit.main(['', *flags]) == 0
  printed = capsys.readouterr().out
  last = json.loads(_last(out))
  found = rows.Rows(out, last['device'], last['versions'])
  every = {row['key']: row['verdict'] for row in found}
  wanted = [t.key for s in sizes.SECTIONS for t in _tasks(s, peer=True)]
  assert [*every] == ['device', *wanted]
  assert rows.DIFFERS not in every.values()
  assert all(f'\n{key}: ' not in printed for key in first), 'measured again'
  speed = found.get('speed/mlp:1/2/auto/full')['restarts_per_second']
  assert found.get('speed/peer/mlp:1')['ratio'] == pytest.approx(0.03 * speed)
  (table,) = out.glob('accelerator_*.md')
  assert '## A killed run compared with an undisturbed one' in table.read_text()
  # Nothing is left to do: the same command only asks for the device.
  assert kit.main(['', *flags]) == 0
  assert _keys(out)[-1] == 'device'


def test_a_peer_with_another_network_is_no_peer(tmp_path):
  row = {'parameters': 7, 'convolution_flops': 0}
  python = _stub(tmp_path / 'python', f"echo '{json.dumps(row)}'")
  places = audits.Places(tmp_path, tmp_path / 'log', '', str(python), 'cpu')
  own = {'parameters': 24_052, 'convolution_flops': 0}
  with pytest.raises(
    processes.EndedError, match=r'parameters of 7, not 24,052'
  ):
    audits.peer(places, _soon(), 'lenet:1', 2, own)


def _last(out):
  return (out / 'rows.jsonl').read_text().splitlines()[-1]


def _tasks(section, peer=False):
  return list(sizes.tasks(sizes.SIZES['tiny'], section, peer))


@pytest.mark.parametrize('name', sizes.SIZES)
def test_every_row_of_every_size_can_be_measured(name):
  size = sizes.SIZES[name]
  keys = []
  for section in sizes.SECTIONS:
    for task in sizes.tasks(size, section, True):
      keys.append(task.key)
      assert task.key.startswith(f'{section}/')
      known = {*worker.FUNCTIONS, *kit.AUDITS, 'peer'}
      assert task.function in known
      assert json.loads(json.dumps(task.arguments)) == list(task.arguments)
      for network in task.arguments[:1]:
        if ':' in network and not network.startswith('accelerator'):
          name = workload.parse(network).network
          assert name in {*models.MODELS, *workload._MODELS}, network
  assert len(keys) == len(set(keys))


class _Worker:
  """A worker that answers by a function."""

  def __init__(self, answer):
    self.ask, self.stop = answer, lambda: None


def _measure(tmp_path, answer, seconds=60.0, size='tiny'):
  tmp_path.mkdir(exist_ok=True)
  found = rows.Rows(tmp_path, 'card x1', {})
  found.add('device', {'verdict': rows.MEASURED, 'memory_gib': 1})
  places = audits.Places(
    tmp_path / 'runs' / 'a', tmp_path / 'log', '', '', 'gpu'
  )
  made = kit._Kit(
    found, _Worker(answer), places, sizes.SIZES[size], tmp_path, set()
  )
  code = kit._measure(made, ['speed'], time.monotonic() + seconds, 'command')
  return code, {row['key']: row for row in found}


def test_rows_that_do_not_fit_or_die_are_recorded_and_it_goes_on(
  tmp_path, capsys
):
  tasks = []

  def answer(words, end):
    tasks.append(words[0])
    if words[0] == 'matmul':
      return {'verdict': rows.NO_MEMORY, 'why': 'too large'}
    raise processes.EndedError('killed by SIGKILL: nothing on stderr')

  code, found = _measure(tmp_path, answer)
  assert code == 1
  assert tasks == [*['matmul'] * 3, 'speed'], 'tried once'
  verdicts = [row['verdict'] for row in found.values()]
  assert verdicts == [rows.MEASURED, *[rows.NO_MEMORY] * 3, rows.FAILED]
  shown = capsys.readouterr()
  assert 'speed/matmul/full: no memory (too large)' in shown.out
  assert shown.err == 'launch: look at speed/mlp:1/2/auto/full\n'
  code, found = _measure(tmp_path, lambda *_: {'verdict': rows.MEASURED})
  assert code == 0
  assert {row['verdict'] for row in found.values()} == {rows.MEASURED}


def test_rows_that_failed_are_measured_again_after_all_others(tmp_path):
  found = rows.Rows(tmp_path, 'card x1', {})
  found.add('speed/matmul/full', {'verdict': rows.DIFFERS})
  tasks = []

  def answer(words, end):
    tasks.append(words)
    return {'verdict': rows.MEASURED}

  assert _measure(tmp_path, answer)[0] == 0
  assert tasks[-1] == ['matmul', 'full'] and len(tasks) == 4


def test_what_is_cut_off_is_left_and_what_takes_too_long_fails(
  tmp_path, capsys
):
  def slow(words, end):
    raise processes.TimeUpError

  code, found = _measure(tmp_path, slow, seconds=30.0)
  assert code == 85 and [*found] == ['device']
  out = capsys.readouterr().out
  assert '4 rows are left, the first is speed/matmul/full: the same ' in out
  code, found = _measure(tmp_path, slow, seconds=600.0)
  assert code == 1
  assert found['speed/matmul/full']['why'] == 'it took more than 60 s'
  code, found = _measure(tmp_path / 'other', slow, seconds=1.0)
  assert code == 85 and [*found] == ['device'], 'too late to begin'


def test_a_peer_waits_for_the_row_that_it_is_compared_with(tmp_path):
  size = sizes.SIZES['tiny']
  (task,) = [
    t for t in sizes.tasks(size, 'speed', True) if t.function == 'peer'
  ]
  found = rows.Rows(tmp_path, 'card x1', {})
  places = audits.Places(tmp_path, tmp_path / 'log', '', 'python', 'gpu')
  made = kit._Kit(found, _Worker(None), places, size, tmp_path, set())
  assert kit._within(made, task, _soon()) is None
  found.add(task.arguments[1], {'verdict': rows.NO_MEMORY})
  assert kit._within(made, task, _soon())['verdict'] == rows.FAILED


def test_a_peer_on_another_device_is_no_peer(tmp_path):
  row = {'parameters': 7, 'convolution_flops': 0, 'device': 'cpu'}
  python = _stub(tmp_path / 'python', f"echo '{json.dumps(row)}'")
  places = audits.Places(tmp_path, tmp_path / 'log', '', str(python), 'gpu')
  with pytest.raises(processes.EndedError, match=r'it ran on a CPU'):
    audits.peer(places, _soon(), 'lenet:1', 2, row)


def _soon(seconds=60.0):
  return time.monotonic() + seconds


def test_a_worker_that_hangs_or_dies(tmp_path):
  log = tmp_path / 'log'
  log.write_text('ValueError: of another process\n')
  with processes.Worker(log) as asked:
    with pytest.raises(
      processes.EndedError, match=r"^exit code 1: KeyError: 'x'"
    ):
      asked.ask(['x'], _soon())
    with pytest.raises(processes.TimeUpError):
      asked.ask(['facts'], _soon(0.1))
    assert asked.ask(['facts'], _soon())['platform'] == 'cpu'
    # JAX puts notes behind its errors.
    with pytest.raises(
      processes.EndedError, match=r'^exit code 1: ValueError: .*lowering'
    ):
      asked.ask(['speed', 'mlp:1', 1, 'nosuch', 'full', 1], _soon())


def test_commands_that_hang_or_die(tmp_path):
  log = tmp_path / 'log'
  words = 'echo a; echo "jaxlib.JaxRuntimeError: b" >&2; echo note >&2'
  assert processes.run(['sh', '-c', words], log, _soon()) == 'a\n'
  with pytest.raises(
    processes.EndedError, match=r'^exit code 3: jaxlib.JaxRuntimeError: b$'
  ):
    processes.run(['sh', '-c', f'{words}; exit 3'], log, _soon())
  with pytest.raises(processes.EndedError, match=r'SIGKILL: nothing on stderr'):
    processes.run(['sh', '-c', 'kill -9 $$'], log, _soon())
  with pytest.raises(processes.TimeUpError):
    processes.run(['sleep', '9'], log, _soon(0.2))
  saves = f'trap "touch {tmp_path}/saved; exit 85" TERM; sleep 9 >&2 & wait'
  with pytest.raises(processes.TimeUpError):
    processes.run(['sh', '-c', saves], log, _soon(0.5), gently=True)
  assert (tmp_path / 'saved').exists()
  assert processes.run(['sleep', '9'], log, _soon(), until=lambda: True) == ''
  with pytest.raises(processes.EndedError, match=r'ended before it could be'):
    processes.run(['true'], log, _soon(), until=lambda: False)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_what_the_kit_has_started_ends_with_it(tmp_path, number):
  out, children = tmp_path / 'out', tmp_path / 'children'
  # A peer that says who it is, and then hangs.
  python = _stub(
    tmp_path / 'python',
    f'[ "$1" = -c ] || {{ echo $$ >{children}; sleep 99; }}',
  )
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.accelerator', '--size=tiny', '--only=speed']
    + [f'--out={out}', f'--peer={python}'],
    cwd=tiny.ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert tiny.wait_for(process, lambda: children.exists() and _alive(children))
  process.send_signal(number)
  _, said = process.communicate(timeout=60)
  if number == signal.SIGTERM:
    assert process.returncode == 85
    assert said == 'launch: asked to stop; the same command continues\n'
  end = time.monotonic() + 10
  while _alive(children) and time.monotonic() < end:
    time.sleep(0.05)
  assert not _alive(children)


def _alive(path):
  """Returns whether the process whose number a file holds is running."""
  text = path.read_text().strip()
  status = pathlib.Path('/proc', text or 'none', 'stat')
  return bool(text) and status.exists() and ' Z ' not in status.read_text()


def test_a_device_without_room_answers(monkeypatch):
  def full():
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 9 GB\ndetails')

  monkeypatch.setitem(worker.FUNCTIONS, 'facts', full)
  assert worker._figures('facts', []) == {
    'verdict': rows.NO_MEMORY,
    'why': 'RESOURCE_EXHAUSTED: 9 GB',
  }

  def other():
    raise jax.errors.JaxRuntimeError('INTERNAL: no')

  monkeypatch.setitem(worker.FUNCTIONS, 'facts', other)
  with pytest.raises(jax.errors.JaxRuntimeError):
    worker._figures('facts', [])


@pytest.mark.parametrize(
  'flags, words',
  [
    ([], '--out'),
    (['--out={}/a', '--minutes=0'], 'minutes=0'),
    (['--out={}/a', '--only=chekc'], "did you mean 'check'?"),
    (
      ['--out={}/a', '--peer=nosuch'],
      '--peer=nosuch (No such file or directory); correct the path',
    ),
    (
      ['--out={}/a', f'--peer={sys.executable}'],
      "No module named 'breaching'\"; install breaching there",
    ),
    (['--out={}/a', '--data_dir={}'], 'that holds cifar10 as prepared by tfds'),
    (['--out={}/b/c'], 'Not a directory'),
    (['--out=~nouser/a'], 'a path in --out; got'),
    (['--out={}/' + 300 * 'x'], 'File name too long'),
    (['--out={}/a', '--data_dir=' + 300 * 'x'], 'a path in --data_dir; got'),
    (['--out={}/a', '--sise=tiny'], 'did you mean --size?'),
  ],
)
def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch, flags, words):
  (tmp_path / 'b').touch()
  monkeypatch.setattr(kit, '_facts', lambda _: pytest.fail('it was begun'))
  flags = [flag.format(tmp_path) for flag in flags]
  assert kit.main(['', *flags]) == 2
  shown = capsys.readouterr()
  (line,) = shown.err.splitlines()
  assert line.startswith('launch: Expected') and words in line
  assert shown.out == ''


def test_the_size_and_other_devices_are_said(tmp_path, monkeypatch, capsys):
  facts = {
    'verdict': rows.MEASURED,
    'name': 'cpu x1',
    'platform': 'cpu',
    'memory_gib': None,
    'versions': {},
  }
  monkeypatch.setattr(kit, '_facts', lambda _: facts)
  monkeypatch.setattr(kit, '_measure', lambda *_: 0)
  other = rows.Rows(tmp_path, 'H100 x1', {})
  other.add('device', {'verdict': rows.MEASURED})
  assert kit.main(['', f'--out={tmp_path}']) == 0
  out = capsys.readouterr().out
  assert (
    'no accelerator is at hand: the small size, on the CPU (if there' in out
  )
  assert 'has rows of H100 x1, too: they stay, and those of cpu x1 are' in out
  facts |= {'platform': 'gpu', 'name': 'H100 x1'}
  assert kit.main(['', f'--out={tmp_path}']) == 0
  assert 'gpu: the full size; the figure needs --data_dir\n' in (
    capsys.readouterr().out
  )
  assert kit.main(['', f'--out={tmp_path}', '--size=huge']) == 2
  assert 'size' in capsys.readouterr().err


def test_no_device_is_one_line(tmp_path, capsys, monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', 'nosuch')
  assert kit.main(['', f'--out={tmp_path}', '--only=check']) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert 'Expected a device that JAX can use; got exit code 1: ' in line
  assert pathlib.Path(tmp_path / 'stderr.log').exists()


def test_help(capsys):
  assert kit.main(['', '--help']) == 0
  assert capsys.readouterr().out.startswith(kit.__doc__.strip())
