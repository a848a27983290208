"""Tests of the table of attacks by checks, with an attack by hand."""

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
from giajax.verify.calibration import malicious_servers


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


def test_an_attack_by_hand(monkeypatch, tmp_path):
  servers = {
    name: malicious_servers.Server(dict(name=name), ('tiny',))
    for name in ('biased', 'linear_layer')
  }
  monkeypatch.setitem(ATTACKS, 'biased', biased)
  monkeypatch.setattr(malicious_servers, 'SERVERS', servers)
  monkeypatch.setattr(malicious_servers, 'HONEST', frozenset(ATTACKS))
  tiny = dict(name='mlp', widths=(8,))
  monkeypatch.setattr(honest_models, 'FRESH', {'tiny': tiny})
  messages, check = [], checkup.check

  def checked(view, message, *args, **kwargs):
    messages.append((view.accepted, message.variables))
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
  assert len(messages) == 4
  for accepted, sent in messages:
    before, after = (trees.named_leaves(v.params) for v in (accepted, sent))
    for name in ('layers.0.kernel', 'layers.1.kernel'):
      moved = jnp.abs(after[name] - before[name]).max()
      assert 0 < moved < 0.1
    assert after['layers.1.bias'][-1] >= 1000
  # What cannot be run is said, with the reason.
  assert 'Not run: linear_layer on fresh tiny: Expected batch_size 1' in text


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
  honest = [{'scores': {}}]
  assert (
    detection.cell([{'isolation': base.NO_READER}], honest, 'isolation') == '–'
  )
  crafted = [{'isolation': base.Verdict(0.9, True, '')}]
  assert detection.cell(crafted, honest, 'isolation') == '1.00 / 100%'
