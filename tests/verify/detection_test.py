"""Tests of detection and thresholds, with an attack by hand."""

import json

import jax.numpy as jnp
import pytest

from giajax import trees
from giajax import types
from giajax.attacks import ATTACKS
from giajax.attacks import base as attacks
from giajax.verify import base
from giajax.verify import checkup
from giajax.verify import VERIFIERS
from giajax.verify.calibration import detection
from giajax.verify.calibration import honest_models
from giajax.verify.calibration import thresholds


def biased(world):
  """A server that sends a bias of 1000 to all classes but one."""

  def craft(key, message, side, history):
    leaves = trees.named_leaves(message.variables.params)
    name = 'layers.1.bias'
    leaves[name] = leaves[name].at[1:].set(1000.0 * (1 + len(history)))
    params = trees.nested(leaves)
    return types.ServerMessage(message.variables._replace(params=params))

  def read(obs):
    x = jnp.zeros((world.batch_size, *world.net.spec.image_shape))
    y = jnp.zeros(world.batch_size, jnp.int32)
    valid = jnp.ones(world.batch_size, bool)
    return types.Reconstruction(types.Batch(x, y), valid, jnp.zeros(()))

  return attacks.closed_form(read, needs={'model'}, craft=craft, num_rounds=2)


@pytest.fixture(autouse=True)
def flags_of_one_call():
  yield
  for module in (detection, thresholds):
    for name in module._FLAGS:
      module._FLAGS[name].unparse()


def test_every_attack_is_listed():
  assert not detection.unlisted(ATTACKS)
  assert detection.unlisted({**ATTACKS, 'unheard_of': None}) == ['unheard_of']
  for row in detection.ROWS.values():
    assert row.attack['name'] in ATTACKS
    assert set(row.networks) <= set(honest_models.FRESH)
    assert row.attack['name'] not in detection.HONEST


def test_an_attack_by_hand(monkeypatch, tmp_path):
  rows = {
    'biased': detection.Row(dict(name='biased'), ('tiny',)),
    'linear_layer': detection.Row(dict(name='linear_layer'), ('tiny',)),
  }
  monkeypatch.setitem(ATTACKS, 'biased', biased)
  monkeypatch.setattr(detection, 'ROWS', rows)
  monkeypatch.setattr(detection, 'HONEST', frozenset(ATTACKS))
  tiny = dict(name='mlp', widths=(8,))
  monkeypatch.setattr(honest_models, 'FRESH', {'tiny': tiny})
  seen, check = [], checkup.check

  def checked(view, message, *args, **kwargs):
    seen.append((view.accepted, message.variables))
    return check(view, message, *args, **kwargs)

  monkeypatch.setattr(checkup, 'check', checked)
  out = tmp_path / 'detection.md'
  assert detection.main(['detection', '--seeds=2', f'--out={out}']) == 0
  text = out.read_text()
  (line,) = [x for x in text.splitlines() if x.startswith('| biased')]
  cells = dict(
    zip(('attack', 'network', 'models', 'any', *VERIFIERS), _cells(line))
  )
  assert cells['network'] == 'fresh tiny' and cells['models'] == '2'
  assert cells['any'] == '100%'
  assert cells['class_bias'] == cells['scale'] == '1.00 / 100%'
  assert cells['architecture'] == '0.50 / 0%'
  assert cells['sign_split'].endswith(' / 0%')
  (line,) = [x for x in text.splitlines() if x.startswith('| nobody')]
  nobody = dict(zip(cells, _cells(line)))
  assert nobody['network'] == 'fresh tiny' and nobody['models'] == '2'
  assert nobody['class_bias'] == nobody['scale'] == '0%'
  # Eight units are fewer than in any model that the thresholds rest on.
  assert nobody['any'] == nobody['class_scale'] == '100%'
  # An honest round, and the attack's bias on top of it.
  assert len(seen) == 4
  for accepted, sent in seen:
    before, after = (trees.named_leaves(v.params) for v in (accepted, sent))
    for name in ('layers.0.kernel', 'layers.1.kernel'):
      moved = jnp.abs(after[name] - before[name]).max()
      assert 0 < moved < 0.1
    assert after['layers.1.bias'][-1] >= 1000
  # What cannot be run is said, with the reason.
  assert 'Not run: linear_layer on fresh tiny: Expected batch_size 1' in text


@pytest.mark.parametrize(
  'main, flag, words',
  [
    (detection.main, '--seed=2', 'known flags'),
    (detection.main, '--probe=7', 'known flags'),
    (detection.main, '--attacks=fish', 'a known row'),
    (detection.main, '--networks=mpl', 'a known network'),
    (thresholds.main, '--networks=mpl', 'a known network'),
    (thresholds.main, 'scale', 'known flags'),
    (thresholds.main, '--only=scales', 'a known check'),
  ],
)
def test_names_that_are_unknown(capsys, main, flag, words):
  assert main(['launch', flag]) == 2
  error = capsys.readouterr().err
  assert f'Expected {words}' in error and len(error.splitlines()) == 1


def _cells(line):
  return [cell.strip() for cell in line.strip('|').split('|')]


@pytest.mark.parametrize(
  'high, low, area',
  [
    ([2, 3], [0, 1], 1.0),
    ([1], [1, 1], 0.5),
    ([0, 2], [1], 0.5),
    ([0], [1], 0),
  ],
)
def test_area_under_the_curve(high, low, area):
  assert detection.auc(high, low) == area


def test_a_check_without_a_layer_has_no_cell():
  quiet = [{'scores': {}}]
  assert (
    detection.cell([{'isolation': base.NO_READER}], quiet, 'isolation') == '–'
  )
  loud = [{'isolation': base.Verdict(0.9, True, '')}]
  assert detection.cell(loud, quiet, 'isolation') == '1.00 / 100%'


def test_thresholds_of_rows_by_hand(tmp_path, capsys):
  limit = thresholds.threshold('scale')
  rows = [
    {'name': 'a', 'kind': kind, 'model': i, 'scores': {'scale': score}}
    for kind, score in (('fresh', 0.0), ('trained', limit + 1))
    for i in range(4)
  ]
  path = tmp_path / 'rows.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  assert thresholds.main(['thresholds', f'--rows={path}']) == 0
  out = capsys.readouterr().out
  (line,) = [x for x in out.splitlines() if x.startswith('| scale')]
  assert _cells(line)[-4:] == [
    f'{limit + 1:.3g}',
    f'{limit:.3g}',
    '0.0% of 4',
    '100.0% of 4',
  ]
  assert 'fresh: 0.0% of 4 check-ups of 4 models flagged by any' in out
