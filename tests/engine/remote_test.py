"""Tests of workdirs in object stores, with a store of the tests' own."""

import json
import logging
import os
import shutil
import signal
import sys
import time

import commandline
import fake_store
import fsspec
import pytest
import tiny

from giajax import main
from giajax.engine import run
from giajax.engine import signals
from giajax.engine import together
from giajax.engine.remote import mirror
from giajax.engine.remote import packed
from giajax.engine.remote import store
from giajax.report import report

_URL = 'fake://bucket/run'
_CHANGES = {
  'restarts': 1,
  'noise_controls': 0,
  'run__cases_per_batch': 1,
  'run__save_seconds': 0.0,
}
_LOST = 'Expected a connection to fake://bucket/run; got connection reset'


@pytest.fixture(autouse=True)
def bucket(tmp_path, monkeypatch):
  """Returns where the objects of `_URL` are, in a store that is empty."""
  fsspec.register_implementation('fake', fake_store.Store, clobber=True)
  monkeypatch.setenv('FAKE_STORE', str(tmp_path / 'store'))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(store, 'WAITS', [0.01, 0.02])
  monkeypatch.setattr(mirror, 'EVERY', 0.05)
  # A command would leave a handler that writes to what pytest has closed.
  monkeypatch.setattr(logging.getLogger('giajax'), 'handlers', [])
  (tmp_path / 'store').mkdir()
  return tmp_path / 'store' / 'bucket' / 'run'


@pytest.fixture(scope='module')
def local(tmp_path_factory):
  """Returns the workdir of a run on this machine."""
  folder = tmp_path_factory.mktemp('local') / 'run'
  run.audit(_config(), folder, finish=report.write)
  return folder


def _config(**changes):
  return tiny.config(**_CHANGES, **changes)


def _stopped(at=6):
  """Runs until a step."""

  def hook(status):
    if status.step >= at:
      raise signals.Interrupted('stopped')

  with pytest.raises(signals.Interrupted):
    run.audit(_config(), _URL, hooks=[hook])


def _continued(**options):
  """Runs to the end; returns the first step that was made."""
  steps = []
  made = run.audit(
    _config(), _URL, hooks=[lambda s: steps.append(s.step)], **options
  )
  assert len(made) == 2
  return steps[0]


def _files(folder):
  paths = [path for path in folder.rglob('*') if path.is_file()]
  return sorted(
    str(p.relative_to(folder)) for p in paths if not p.name.startswith('.')
  )


def _check_follower(saved, monkeypatch, folder):
  """Other processes of a run read the checkpoint that process 0 names."""
  part, step = saved.parent.name, int(saved.stem)
  told = json.dumps({part: step})
  with monkeypatch.context() as patch:
    patch.setattr(together, 'texts', lambda own: [told, own])
    follower = mirror.Follower(store.Store(_URL), folder)
    follower.fetch_checkpoints([part, '000-00001-00002'])
  assert (folder / 'checkpoints' / '000-00001-00002').is_dir()
  own = packed.folder(mirror.working(_URL, (0, 1)), part, step)
  assert _files(packed.folder(folder, part, step)) == _files(own) != []


def test_another_machine_continues(
  local, bucket, capsys, monkeypatch, tmp_path
):
  _stopped()
  (saved,) = bucket.glob('checkpoints/*/*.zip')  # older ones are removed
  assert main.main(['giajax', 'status', 'fake://bucket']) == 0
  out = capsys.readouterr().out
  assert out.startswith(f'{_URL}: 0 of 2 updates')
  assert 'shard 0/1: 0 of 2 updates, stopped' in out
  _check_follower(saved, monkeypatch, tmp_path / 'other')
  shutil.rmtree(tmp_path / 'cache')
  # What `--log` makes, in an earlier process of this machine.
  events = mirror.working(_URL, (0, 1)) / 'events' / '0-of-1'
  events.mkdir(parents=True)
  (events / 'curve').touch()
  assert _continued(finish=report.write) > 1
  assert tiny.digest(bucket) == tiny.digest(local)
  curve = 'events/0-of-1/curve'
  assert _files(bucket) == sorted([curve, *_files(local)])  # no checkpoint
  # What names others comes behind them.
  order = [line.partition('/run/')[2] for line in fake_store.log()]
  order = order[order.index(str(saved.relative_to(bucket))) :]
  names = 'parts/000-00000-00001.npz', 'recon.npz', 'results.jsonl'
  places = [order.index(name) for name in (*names, 'report.html')]
  assert places == sorted(places)


def test_the_last_shard_joins(local, bucket, capsys, tmp_path):
  assert not run.audit(_config(), _URL, shard=(0, 2))
  # A list that is late shows the parts of this shard alone.
  fake_store.knobs(hides=1000.0, only='find')
  assert not run.audit(_config(), _URL, shard=(1, 2))
  fake_store.knobs()
  before = len(fake_store.log())
  assert len(run.audit(_config(), _URL, shard=(1, 2))) == 2
  assert tiny.digest(bucket) == tiny.digest(local)
  calls = fake_store.log()[before:]
  assert sum('get bucket/run/parts' in call for call in calls) == 1
  # Commands that read fetch what they need, and name the URL.
  before = len(fake_store.log())
  table = tmp_path / 'rows.csv'
  words = 'collect', _URL, str(local), f'--out={table}'
  assert main.main(['giajax', *words]) == 0
  assert '2 more were in several workdirs' in capsys.readouterr().out
  assert table.read_text().count(f'\n{_URL},') == 2
  assert main.main(['giajax', 'status', _URL]) == 0
  out = capsys.readouterr().out
  assert out == f'{_URL}: attacked, without a report\n'
  assert not any('npz' in call for call in fake_store.log()[before:])
  assert main.main(['giajax', 'report', _URL, '--redact']) == 0
  assert capsys.readouterr().out == f'{_URL}/report.html\n'
  assert 'true' in (bucket / 'summary.json').read_text()  # it is redacted
  assert not any('parts' in call for call in fake_store.log()[before:])


def test_nobody_is_locked_out(local, bucket, monkeypatch, tmp_path):
  """Two machines that run one workdir do the same work, to the same bits."""

  def hook(status):
    if status.step >= 6 and not done:
      done.append('')
      with monkeypatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path / 'other'))
        _continued()
      done.append(tiny.digest(bucket))

  done = []
  assert len(run.audit(_config(), _URL, hooks=[hook])) == 2
  assert done[1] == tiny.digest(local) == tiny.digest(bucket)
  puts = [line for line in fake_store.log() if line.startswith('put')]
  assert sum('parts/000-00001-00002' in line for line in puts) == 2
  with pytest.raises(ValueError) as refused:
    run.audit(_config(seed=1), _URL)
  assert str(refused.value) == (
    f'Expected the config that {_URL} was made with, seed=0; got seed=1; '
    'choose another --workdir'
  )


def test_a_connection_that_is_lost(local, bucket, tmp_path):
  fake_store.knobs(fails=2)  # the third attempt succeeds

  def hook(status):
    if status.step >= 6:
      fake_store.knobs(fails=10**9)
      time.sleep(0.3)  # until that is found

  with pytest.raises(ValueError, match=f'^{_LOST}, 3 times; what was'):
    run.audit(_config(), _URL, hooks=[hook])
  fake_store.knobs()
  assert _continued() > 1  # as this machine has kept it
  assert tiny.digest(bucket) == tiny.digest(local)
  # What the user has removed there is not brought back.
  shutil.rmtree(bucket)
  _stopped(at=1)
  assert not _files(bucket / 'parts')
  (aside,) = tmp_path.glob('cache/giajax/remote/*/run.aside/0')
  assert (aside / 'recon.npz').exists()


def test_what_a_store_refuses_is_said_at_once(capsys, monkeypatch, tmp_path):
  def complaint(url):
    return commandline.complaint(
      capsys, f'--config={config}', f'--workdir={url}'
    )

  config = commandline.write(tmp_path)
  fake_store.knobs(denies=True)
  text = complaint(_URL)
  assert f'that can be used; got {_URL}: [Errno 13] no right to write' in text
  assert 'may list, read, write and delete objects there' in text
  fake_store.knobs(fails=10**9)
  with pytest.raises(ValueError, match=_LOST):
    run.audit(_config(), _URL)
  assert not _files(fake_store.folder())
  capsys.readouterr()
  for package, url, extra in (('gcsfs', 'gs', 'gcs'), ('s3fs', 's3', 's3')):
    monkeypatch.setitem(sys.modules, package, None)
    advice = f"install {package}, as by pip install 'giajax[{extra}]'"
    assert advice in complaint(f'{url}://bucket/run')
  for url, words in (
    ('a+b://c', 'a URL that fsspec knows; got a+b://c;'),
    ('gs://', 'a URL such as gs://bucket/run; got gs://;'),
    ('zip://a::gs://b/c', 'a URL such as gs://bucket/run; got zip://'),
    ('file:///mnt/run', 'got file:///mnt/run; write /mnt/run'),
  ):
    assert words in complaint(url)


def test_a_folder_of_something_else(bucket):
  (bucket / 'parts').mkdir(parents=True)
  (bucket / 'parts' / '000-00000-00001.npz').touch()
  with pytest.raises(ValueError, match='which has parts and no config'):
    run.audit(_config(), _URL)


def test_a_checkpoint_is_whole_or_not_there(bucket, tmp_path):
  step = tmp_path / 'a' / '3'
  (step / 'default').mkdir(parents=True)
  (step / 'default' / 'x').write_bytes(bytes(1000))
  target = tmp_path / 'made.zip'
  assert packed.pack(step, target)
  packed.unpack(target, tmp_path / 'b' / '3')
  assert _files(tmp_path / 'b') == _files(tmp_path / 'a')
  assert not packed.pack(tmp_path / 'a' / '4', target)  # it was removed
  packed.pack(step, target)
  for place, value in ((200, b'\1'), (-10, b'')):  # damaged, and torn
    data = target.read_bytes()
    torn = data[:place] + value + data[place + 1 :] if value else data[:place]
    (tmp_path / 'torn.zip').write_bytes(torn)
    with pytest.raises(ValueError):
      packed.unpack(tmp_path / 'torn.zip', tmp_path / 'c' / '3')
    assert not _files(tmp_path / 'c')


def test_a_request_to_stop(bucket, monkeypatch, tmp_path):
  fake_store.install(tmp_path / 'driver')
  path = f'{tmp_path / "driver"}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
  monkeypatch.setenv('PYTHONPATH', path)
  changes = ', '.join(f'{k}={v}' for k, v in _CHANGES.items())
  config = tiny.write(
    tmp_path / 'config.py', f'{changes}, attack__num_steps=100_000'
  )
  process = tiny.start(f'--config={config}', f'--workdir={_URL}')
  seen = tiny.wait_for(process, lambda: [*bucket.glob('checkpoints/*/*.zip')])
  assert seen
  fake_store.knobs(waits=1.0, only='checkpoints')
  process.send_signal(signal.SIGTERM)
  text = tiny.finish(process, 85)
  assert 'stopped and saved at step' in text.splitlines()[-1]
  (saved,) = bucket.glob('checkpoints/*/*.zip')
  (cache,) = tmp_path.glob('cache/giajax/remote/*/run')
  assert int(saved.stem) == packed.newest(cache, saved.parent.name)
