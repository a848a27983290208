"""Tests of giajax.engine.writers."""

import struct

import pytest
from tensorboardX.proto import event_pb2

from giajax.engine import hooks
from giajax.engine import writers


def _events(folder):
  """Yields (step, name, value) of the event files in a folder."""
  (path,) = folder.glob('events*tfevents*')
  data, at = path.read_bytes(), 0
  while at < len(data):
    (size,) = struct.unpack_from('<Q', data, at)
    event = event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
    for value in event.summary.value:
      yield event.step, value.tag, value.simple_value
    at += size + 16


def _status(step, seconds, best):
  return hooks.Status(step, 10, 3, 4, best, seconds)


def test_parts_follow_each_other(tmp_path):
  hook = writers.writer('tensorboard', tmp_path, (0, 2))
  assert not (tmp_path / 'events').exists()  # before anything runs
  for status in (_status(5, 1.0, 0.5), _status(10, 2.0, 0.25)):
    hook(status)
  hook(_status(12, 4.0, 0.75)._replace(steps=100))  # of the second part
  found = [*_events(tmp_path / 'events' / '0-of-2')]
  best = [(step, v) for step, name, v in found if name == 'best']
  assert best == [(5, 0.5), (10, 0.25), (22, 0.75)]
  rates = [v for _, name, v in found if name == 'restart_steps_per_second']
  assert rates == [20, 20, 12]
  assert {v for _, name, v in found if name == 'alive'} == {0.75}


def test_weights_and_biases_stay_on_this_machine(tmp_path, monkeypatch):
  pytest.importorskip('wandb', reason='an extra of its own')
  monkeypatch.setenv('WANDB_SILENT', 'true')
  hook = writers.writer('wandb', tmp_path, (0, 1))
  hook(_status(5, 1.0, 0.5))
  assert [*(tmp_path / 'events' / 'wandb').glob('offline-run-*')]


def test_mistakes_are_named_before_anything_runs(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match=r'known log .*tensorboard, wandb'):
    writers.writer('mlflow', tmp_path, (0, 1))
  monkeypatch.setitem(writers._PACKAGES, 'wandb', 'no_such_package')
  with pytest.raises(ValueError, match=r'package no_such_package .*got none'):
    writers.writer('wandb', tmp_path, (0, 1))
