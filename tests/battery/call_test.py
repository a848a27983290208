"""Tests of giajax.audit: one call, with arrays or files."""

import json

import captures
import numpy as np
import pytest

import giajax
from giajax import archives
from giajax.battery import battery
from giajax.models.classification import mlp

_ATTACK = 'linear layer'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Returns the folder of a capture of one image."""
  path = tmp_path_factory.mktemp('capture')
  captures.write(path)
  return path


@pytest.fixture
def net():
  """Returns the network of the capture."""
  return mlp.mlp(captures.SHAPE, captures.CLASSES, widths=(8,))


def _arrays(folder):
  sent, received, truth = (
    archives.read(folder / f'{name}.npz')
    for name in ('sent', 'received', 'truth')
  )
  return {
    'sent': sent,
    'received': received,
    'truth': (truth['x'], truth['y']),
  }


def test_arrays_and_files_are_alike(folder, net, tmp_path):
  files = {n: folder / f'{n}.npz' for n in ('sent', 'received', 'truth')}
  outcomes = [
    giajax.audit(
      net,
      client=captures.CLIENT,
      attacks=_ATTACK,
      workdir=tmp_path / name,
      **given,
    )
    for name, given in (('arrays', _arrays(folder)), ('files', files))
  ]
  assert [o.verdict for o in outcomes] == ['leaks', 'leaks']
  one, other = (o.rows[0] for o in outcomes)
  assert one['psnr'] == other['psnr']
  assert outcomes[0].report().is_file()
  assert outcomes[0]._repr_html_().startswith('<iframe')


def test_frozen_parameters_are_those_of_the_config(folder, net, tmp_path):
  giajax.audit(
    net,
    client=captures.CLIENT,
    attacks=_ATTACK,
    freeze=('layers.1.*',),
    workdir=tmp_path,
    **_arrays(folder),
  )
  run = json.loads((tmp_path / 'audit/config.json').read_text())
  assert run['config']['trainable']['freeze'] == ['layers.1.*']


def test_lists_need_an_order(folder, net, tmp_path):
  arrays = _arrays(folder)
  arrays |= {k: [*arrays[k].values()] for k in ('sent', 'received')}
  with pytest.raises(ValueError, match='order of its state dict'):
    giajax.audit(net, client=captures.CLIENT, workdir=tmp_path, **arrays)


def test_standard_attacks(folder, net, monkeypatch):
  monkeypatch.setattr(battery, 'LEAST_STEPS', 2)
  monkeypatch.setattr(battery, 'MOST_STEPS', 2)
  monkeypatch.setattr(battery, 'RESTARTS', 1)
  outcome = giajax.audit(net, client=captures.CLIENT, **_arrays(folder))
  tried = [row['sweep']['variant'] for row in outcome.rows]
  assert _ATTACK in tried and 'inverting gradients' in tried
  assert np.isfinite(outcome.rows[0]['score'])


def test_another_process_does_not_have_the_network(net):
  from giajax.engine import own_code
  from giajax.engine import own_models

  name = own_models.given(net)
  assert own_code.named(name, 'model')(image_shape=0, num_classes=0) is net
  with pytest.raises(ValueError, match='give it again'):
    own_code.named('given:another', 'model')


def test_other_networks_are_other_runs(folder, net, tmp_path):
  given = {'client': captures.CLIENT, 'attacks': _ATTACK}
  giajax.audit(net, workdir=tmp_path, **given, **_arrays(folder))
  other = mlp.mlp(
    captures.SHAPE, captures.CLASSES, widths=(8,), normalisation='half'
  )
  with pytest.raises(ValueError, match=r'model\.name'):
    giajax.audit(other, workdir=tmp_path, **given, **_arrays(folder))


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'net': object()}, 'giajax.from_torch'),
    ({'client': 'fedavg'}, 'Expected client as a dict'),
    ({'truth': np.zeros((1, 12, 12, 3))}, r'truth as \(images, labels\)'),
    ({'truth': (np.zeros((1, 12, 12, 3)), None)}, r'truth as \(images'),
    ({'sent': 3}, 'a state dict or a list'),
    ({'received': {'x': np.array(['a'])}}, 'arrays of numbers'),
    ({'minutes': 'a'}, 'minutes as a number'),
    ({'attacks': []}, 'at least one'),
    ({'attacks': 'nonsense'}, 'attack of the battery'),
  ],
)
def test_mistakes(folder, net, tmp_path, changes, words):
  given = {'client': captures.CLIENT, 'net': net, **_arrays(folder), **changes}
  with pytest.raises(ValueError, match=words):
    giajax.audit(**given, workdir=tmp_path)


def test_a_file_is_no_workdir(folder, net, tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(ValueError, match='a folder that can be made'):
    giajax.audit(
      net,
      client=captures.CLIENT,
      workdir=tmp_path / 'file',
      **_arrays(folder),
    )
