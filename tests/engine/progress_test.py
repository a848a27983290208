"""Tests of giajax.engine.progress and of giajax status."""

import json
import os
import subprocess
import sys
import time

import pytest
import tiny

from giajax.commands import dispatch
from giajax.engine import hooks
from giajax.engine import progress
from giajax.engine import run
from giajax.engine import signals


def _status(step):
  return hooks.Status(step, 20, 1, 1, 0.0, 1.0)


def _change(folder, index, count, **facts):
  path = folder / 'progress' / f'{index}-of-{count}.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def test_a_shard_says_where_it_is(tmp_path):
  with progress.Progress(tmp_path, (1, 4), updates=10, left=8) as told:
    told.begins(4)
    told._due = 0.0  # as after some seconds
    told(_status(10))
    (shard,) = progress.shards(tmp_path)
    assert (shard.index, shard.count) == (1, 4)
    assert shard.facts['state'] == 'running' and not shard.is_gone()
    assert shard.share == pytest.approx((2 + 4 * 0.5) / 10)
    now = time.time()
    _change(tmp_path, 1, 4, started=now - 60, written=now)
    # Two updates took a minute, six are left.
    (shard,) = progress.shards(tmp_path)
    assert shard.seconds_left == pytest.approx(180)
    told.ends()
    assert progress.shards(tmp_path)[0].facts['finished'] == 6
  assert progress.shards(tmp_path)[0].facts['state'] == 'done'


@pytest.mark.parametrize(
  'error, state, said',
  [
    (signals.Interrupted('stopped and saved at step 3'), 'stopped', 'step 3'),
    (ValueError('Expected x; got y; z'), 'failed', 'Expected x; got y; z'),
    (KeyError(), 'failed', 'KeyError'),
  ],
)
def test_how_a_shard_ended(tmp_path, error, state, said):
  with pytest.raises(type(error)), progress.Progress(tmp_path, (0, 1), 1, 1):
    raise error
  (shard,) = progress.shards(tmp_path)
  assert shard.facts['state'] == state
  assert shard.facts['error'].endswith(said)


def test_a_process_that_only_computes_writes_nothing(tmp_path):
  with progress.Progress(None, (0, 1), 1, 1) as told:
    told.begins(1)
  assert progress.shards(tmp_path) == []


def test_a_killed_process_is_told_from_a_silent_one(tmp_path):
  with progress.Progress(tmp_path, (0, 2), 3, 3):
    pass
  ended = subprocess.run(
    [sys.executable, '-c', 'import os; print(os.getpid())'],
    capture_output=True,
    check=True,
  )
  _change(tmp_path, 0, 2, state='running', pid=int(ended.stdout))
  (shard,) = progress.shards(tmp_path)
  assert shard.is_gone()
  _change(tmp_path, 0, 2, pid=os.getpid())
  assert not progress.shards(tmp_path)[0].is_gone()
  _change(tmp_path, 0, 2, pid=int(ended.stdout), host='elsewhere')
  assert not progress.shards(tmp_path)[0].is_gone()


def test_foreign_files_are_one_line(tmp_path):
  (tmp_path / 'progress').mkdir()
  path = tmp_path / 'progress' / '0-of-1.json'
  for text in ('{', '[]', '{"pid": "x"}'):
    path.write_text(text)
    with pytest.raises(ValueError, match=r'^Expected .*0-of-1.json'):
      progress.shards(tmp_path)


def test_the_command_tells_of_each_shard(tmp_path, capsys):
  config = tiny.config(attack={'name': 'linear_layer'}, noise_controls=0)
  run.audit(config, tmp_path / 'a', shard=(1, 2))
  run.audit(config, tmp_path / 'b')
  _change(tmp_path / 'a', 1, 2, state='failed', error='Expected \x1b[31m')
  assert dispatch.run(['status', str(tmp_path)], '') == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == f'{tmp_path}/a: 1 of 1 updates'
  assert lines[1].startswith('  shard 1/2: 1 of 1 updates, failed 0')
  assert lines[1].endswith(r'ago: Expected \x1b[31m')
  assert lines[2:] == ['  shard 0/2: not begun', f'{tmp_path}/b: finished']
