"""Tests of what an audited system could change."""

import pytest
import tiny

from giajax.advice import changes
from giajax.engine import build
from giajax.engine import sweep
from giajax.report import advice


def _resolved(**kwargs):
  return build.resolve(tiny.config(**kwargs))


@pytest.mark.parametrize('name', sorted(changes.CHANGES))
def test_a_change_makes_another_valid_system(name):
  change = changes.CHANGES[name]
  assert change.stage in advice.STAGES
  config = _resolved(model=dict(name='resnet20', blocks=(1,), width=0.1))
  overrides = change.overrides(config)
  other = sweep.changed(config, overrides)
  assert other != config
  # Everything that no override names stays as it was.
  changed = {key for key in config if other[key] != config[key]}
  assert changed == {key.partition('.')[0] for key in overrides}


def test_changed_systems_can_be_attacked():
  config = _resolved()
  for name in ('activation', 'batch', 'local_steps', 'aggregation', 'pruning'):
    overrides = changes.CHANGES[name].overrides(config)
    build.setup(sweep.changed(config, overrides))


def test_a_share_is_not_asked_of_an_aggregate():
  config = _resolved(gradient_share=True)
  overrides = changes.CHANGES['aggregation'].overrides(config)
  build.setup(sweep.changed(config, overrides))


def test_who_knows_the_protocol_still_knows_it():
  change = changes.CHANGES['local_steps']
  assert 'belief' not in change.overrides(_resolved())
  blind = _resolved(threat=dict(level='B', grants=('labels',), proxy_images=2))
  assert change.overrides(blind)['belief'] == {'name': 'one_gradient'}
  again = _resolved(client=dict(name='fedavg', epochs=3))
  assert change.overrides(again) == {'client.epochs': 6}


def test_a_defence_is_told_to_the_attacker():
  overrides = changes.CHANGES['noise'].overrides(_resolved())
  assert overrides['threat.grants'] == ['labels', 'defense']


@pytest.mark.parametrize(
  'name, change, words',
  [
    ('activation', dict(model=dict(name='convnet')), 'can be chosen'),
    ('activation', dict(weights__path='w.npz'), 'fresh weights'),
    ('deeper', {}, 'a larger one in its family'),
    ('batch', dict(cases__given=(1, 2)), 'images that a rule draws'),
    (
      'train_mode',
      dict(client=dict(name='fedsgd', train_mode=True)),
      'inference mode',
    ),
    ('train_mode', {}, 'differs in training mode'),
    ('noise', dict(defense=dict(name='soteria')), 'without a defence'),
  ],
)
def test_nothing_to_change(name, change, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}.*; got .*; '):
    changes.CHANGES[name].overrides(_resolved(**change))
