"""Tests of workdirs in object stores, with a store of the tests' own."""

import json
import os
import pathlib
import shutil
import signal

import commandline
import fake_store
import fsspec
import pytest
import tiny

from giajax import main
from giajax.engine import run
from giajax.engine import signals
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


@pytest.fixture(autouse=True)
def bucket(tmp_path, monkeypatch):
  """Returns where the objects of `_URL` are, in a store that is empty."""
  fsspec.register_implementation('fake', fake_store.Store, clobber=True)
  monkeypatch.setenv('FAKE_STORE', str(tmp_path / 'store'))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(store, 'WAITS', [0.01, 0.02])
  monkeypatch.setattr(mirror, 'EVERY', 0.05)
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


def _forget():
  """Removes what this machine has kept."""
  shutil.rmtree(os.environ['XDG_CACHE_HOME'])


def _files(folder):
  paths = [path for path in folder.rglob('*') if path.is_file()]
  return sorted(
    str(p.relative_to(folder)) for p in paths if not p.name.startswith('.')
  )


def _stopped(status):
  raise signals.Interrupted('stopped')


def _stop_at(step):
  def hook(status):
    if status.step >= step:
      _stopped(status)

  return hook


def test_a_run_has_the_bits_of_one_here(local, bucket):
  rows = run.audit(_config(), _URL, finish=report.write)
  assert len(rows) == 2
  assert tiny.digest(bucket) == tiny.digest(local)
  assert _files(bucket) == _files(local)
  # What names others comes behind them, and nothing is renamed or appended to.
  order = [line.partition('/run/')[2] for line in fake_store.log()]
  ends = [order.index(n) for n in ('recon.npz', 'results.jsonl', 'report.html')]
  assert ends == sorted(ends)
  assert order.index('config.json') < order.index('parts/000-00000-00001.npz')
