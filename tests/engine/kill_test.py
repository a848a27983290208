"""Tests that a run survives what can happen to its process."""

import os
import signal

import pytest
import tiny

# A few seconds of steps in three parts, saved after every piece.
_CHANGES = (
  'attack__num_steps=8000, run__save_seconds=0.0, run__cases_per_batch=1'
)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """Returns the config and the hash of a run that nobody disturbs."""
  folder = tmp_path_factory.mktemp('undisturbed')
  config = tiny.write(folder / 'few.py', _CHANGES)
  workdir = folder / 'run'
  tiny.finish(tiny.start(f'--config={config}', f'--workdir={workdir}'))
  assert not (workdir / 'checkpoints').exists()
  return config, tiny.digest(workdir)


def test_kill_9_at_several_moments(undisturbed, tmp_path):
  config, digest = undisturbed
  arguments = f'--config={config}', f'--workdir={tmp_path / "run"}'
  saved = tmp_path / 'run' / 'checkpoints'
  parts = tmp_path / 'run' / 'parts'
  moments = {
    'saving': lambda: any(saved.glob('*/*tmp*')),
    'saved': lambda: any(saved.glob('*/[2-9]/commit_success.txt')),
    'one part': lambda: any(parts.glob('*.npz')),
    'joining': lambda: len([*parts.glob('*.npz')]) == 3,
  }
  hit = []
  for name, moment in moments.items():
    process = tiny.start(*arguments)
    if tiny.wait_for(process, moment):
      hit.append(name)
    tiny.kill(process)
  assert len(hit) >= 3, hit
  tiny.finish(tiny.start(*arguments))
  assert tiny.digest(tmp_path / 'run') == digest
  left = {path.name for path in (tmp_path / 'run').iterdir()}
  assert left == {
    *('.lock', '.lock-join', 'config.json', 'parts', 'progress', 'figures'),
    *('results.jsonl', 'results.parquet', 'recon.npz', 'report.html'),
    'summary.json',
  }


def test_the_layout_is_that_of_the_whole_run(tmp_path):
  """A last part that is smaller than the others, and two devices."""
  changes = 'cases__count=3, run__cases_per_batch=2, noise_controls=0'
  config = tiny.write(tmp_path / 'uneven.py', changes)
  arguments = f'--config={config}', f'--workdir={tmp_path / "run"}'
  tiny.finish(tiny.start(*arguments, devices=2))
  digest = tiny.digest(tmp_path / 'run')
  for path in [tmp_path / 'run' / name for name in ('recon.npz', _LAST)]:
    path.unlink()
  tiny.finish(tiny.start(*arguments, devices=2))
  assert tiny.digest(tmp_path / 'run') == digest


_LAST = 'parts/000-00002-00003.npz'


def test_sigterm_saves_and_the_same_command_continues(undisturbed, tmp_path):
  config, digest = undisturbed
  workdir = tmp_path / 'run'
  # No checkpoint is due by itself.
  arguments = (
    *(f'--config={config}', f'--workdir={workdir}'),
    '--config.run.save_seconds=1e6',
  )
  process = tiny.start(*arguments)
  tiny.wait_for(process, lambda: '\nstep ' in tiny.errors(process))
  process.send_signal(signal.SIGTERM)
  errors = tiny.finish(process, code=85)
  assert 'the same command continues' in errors
  if 'saved at step' in errors:  # and not between two parts
    assert [*(workdir / 'checkpoints').glob('*/1/commit_success.txt')]
  errors = tiny.finish(tiny.start(*arguments))
  assert tiny.digest(workdir) == digest


def test_second_process_is_refused(undisturbed, tmp_path):
  config, _ = undisturbed
  arguments = f'--config={config}', f'--workdir={tmp_path / "run"}'
  process = tiny.start(*arguments)
  tiny.wait_for(process, (tmp_path / 'run' / 'config.json').exists)
  os.kill(process.pid, signal.SIGSTOP)
  try:
    errors = tiny.finish(tiny.start(*arguments), code=2)
  finally:
    os.kill(process.pid, signal.SIGCONT)
    tiny.kill(process)
  assert errors.startswith('giajax: Expected a folder that no process')
  assert len(errors.splitlines()) == 1


def test_more_devices_continue_a_run(tmp_path):
  one = f'{_CHANGES}, cases__count=1, noise_controls=0'
  config = tiny.write(tmp_path / 'one.py', one)
  workdir = tmp_path / 'run'
  arguments = f'--config={config}', f'--workdir={workdir}'
  process = tiny.start(*arguments)
  saved = workdir / 'checkpoints'
  tiny.wait_for(process, lambda: any(saved.glob('*/2/commit_success.txt')))
  tiny.kill(process)
  errors = tiny.finish(tiny.start(*arguments, devices=3))
  assert 'continuing at step' in errors
