"""Tests of giajax.threat."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from giajax import threat
from giajax import types
from giajax.tasks import TASKS
from giajax.tasks.parts import objects

DEPLOYED = dict(
  train_mode=True,
  batch_size=8,
  granted=('model', 'batch_size', 'bn_buffers_before', 'client_hparams'),
  trained=True,
  has_batch_norm=True,
)


def seen():
  """Returns a batch, a message and an update with BatchNorm buffers."""
  stats = {'bn': {'mean': jnp.full(3, 0.5), 'var': jnp.full(3, 4.0)}}
  params = {'fc': {'kernel': jnp.ones((2, 2))}}
  return (
    types.Batch(jnp.zeros((2, 4, 4, 1)), jnp.array([1, 3])),
    types.ServerMessage(types.Variables(params, stats)),
    types.Update(params, stats, jnp.int32(2)),
  )


def test_levels_are_grants_and_named():
  assert set(threat.LEVELS) == set('ABCDEFGH')
  for level in threat.LEVELS.values():
    bundle = level.grants
    assert level.name and level.meaning
    assert set(bundle) <= set(threat.GRANTS)
    assert len(set(bundle)) == len(bundle)


@pytest.mark.parametrize(
  ('less', 'more'),
  ['AB', 'BC', 'CD', 'CE', 'CF', 'FG', 'DG', 'GH'],
)
def test_levels_grow(less, more):
  assert threat.grants(less) < threat.grants(more)


def test_levels_by_hand():
  assert threat.grants('A') == frozenset()
  assert threat.grants('B') == {'model', 'batch_size', 'bn_buffers_before'}
  assert not {'labels', 'target'} & {
    *itertools.chain(*(level.grants for level in threat.LEVELS.values()))
  }
  for level in 'ABCDE':
    assert not {'alter_parameters', 'alter_architecture'} & threat.grants(level)
  assert 'alter_parameters' in threat.grants('F')


@pytest.mark.parametrize('level', [None, ''])
def test_single_grants(level):
  assert threat.grants(level, ['labels']) == {'labels'}
  assert threat.grants('B', ['labels']) == threat.grants('B') | {'labels'}


def test_unknown_level_and_grant():
  with pytest.raises(ValueError, match=r"A, B, C.*level='Z'"):
    threat.grants('Z')
  with pytest.raises(ValueError, match="did you mean 'labels'"):
    threat.grants('B', ['lables'])


def test_require_lists_both():
  threat.require({'model'}, {'model', 'labels'}, 'attack')
  with pytest.raises(ValueError) as error:
    threat.require({'model', 'labels'}, {'model', 'batch_size'}, 'attack foo')
  text = str(error.value)
  assert 'attack foo' in text and '(labels, model)' in text
  assert '(batch_size, model)' in text and 'without labels;' in text


def test_side_contains_what_was_granted():
  batch = seen()[0]
  proxy = jnp.ones((5, 2, 2, 1))
  facts = {'labels', 'label_counts', 'proxy_data', 'target'}
  rest = set(threat.GRANTS) - facts
  assert threat.side(rest, batch, 4, lambda: proxy) == {}
  for name in facts:
    assert set(threat.side({name, 'model'}, batch, 4, lambda: proxy)) == {name}
  found = threat.side(facts, batch, 4, lambda: proxy)
  np.testing.assert_array_equal(found['labels'], batch.y)
  np.testing.assert_array_equal(
    found['label_counts'], np.bincount(batch.y, minlength=4)
  )
  assert found['proxy_data'] is proxy and found['target'] is batch.x


def test_buffers_after_are_withheld():
  _, message, update = seen()
  sent, got = threat.observed({'bn_buffers_before'}, message, update)
  assert got.stats == {} and sent is message
  assert got.delta is update.delta and got.size is update.size
  _, got = threat.observed({'bn_buffers_after'}, message, update)
  assert got is update


def test_buffers_before_are_withheld():
  _, message, update = seen()
  sent, _ = threat.observed({'model'}, message, update)
  assert sent.variables.params is message.variables.params
  bn = sent.variables.stats['bn']
  np.testing.assert_array_equal(bn['mean'], np.zeros(3))
  np.testing.assert_array_equal(bn['var'], np.ones(3))


def test_deployment():
  assert threat.setting(**DEPLOYED) == ('deployment', [])


def test_targets_of_several_facts_are_granted_apart():
  y = objects.Objects(
    jnp.ones((1, 2, 4)), jnp.zeros((1, 2), int), jnp.ones((1, 2), bool)
  )
  batch = types.Batch(jnp.zeros((1, 32, 32, 3)), y)
  facts = TASKS['detection'](3, image_shape=(32, 32, 3)).facts
  side = functools.partial(threat.side, proxy=lambda: None, facts=facts)
  assert {*side({'boxes'}, batch, 3)} == {'boxes'}
  labels = side({'labels'}, batch, 3)['labels']
  assert {*labels} == {'classes', 'valid'}  # not where they are
  with pytest.raises(ValueError, match='labels that can be counted'):
    side({'label_counts'}, batch, 3)


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    (dict(train_mode=False), 'inference-mode client'),
    (dict(batch_size=1), 'batch of one image'),
    (dict(granted=('model', 'labels')), 'known labels'),
    (dict(granted=('model', 'boxes')), 'known boxes'),
    (dict(granted=('model', 'matching')), 'known matching'),
    (dict(granted=('model', 'target')), 'known images'),
    (dict(known_before=True), 'images in the auxiliary data'),
    (dict(trained=False), 'untrained weights'),
    (dict(granted=('alter_architecture',)), 'altered architecture'),
    (dict(altered=True), 'altered architecture'),
    (dict(granted=('alter_parameters',)), 'altered weights'),
    (dict(num_rounds=2), 'one batch over several rounds'),
  ],
)
def test_each_rule_alone_makes_it_diagnostic(change, reason):
  assert threat.setting(**{**DEPLOYED, **change}) == ('diagnostic', [reason])


@pytest.mark.parametrize(
  ('right', 'total', 'chance', 'expected'),
  [
    (64, 64, 0.1, True),
    (7, 64, 0.1, False),  # as good as chance
    (22, 64, 0.1, True),
    (12, 64, 0.1, False),  # better than chance, and not for sure
    (40, 64, 0.5, False),
    (50, 64, 0.5, True),
    (16, 16, 1 / 16, True),
    (1, 16, 1 / 16, False),
    (64, 64, 1.0, False),  # one class tells nothing
    (1, 1, 0.5, False),
  ],
)
def test_weights_are_trained_by_what_they_classify(
  right, total, chance, expected
):
  assert threat.is_trained(right, total, chance) is expected


def test_chance_is_hardly_ever_taken_for_training():
  rng = np.random.default_rng(0)
  draws = rng.binomial(64, 0.1, size=2000)
  assert np.mean([threat.is_trained(int(r), 64, 0.1) for r in draws]) < 1e-3


def test_two_images_are_a_batch():
  assert threat.setting(**{**DEPLOYED, 'batch_size': 2}) == ('deployment', [])


def test_no_batch_norm_has_no_mode():
  change = dict(train_mode=False, has_batch_norm=False)
  assert threat.setting(**{**DEPLOYED, **change}) == ('deployment', [])


def test_describe_splits_all_grants():
  found = threat.describe({'labels', 'model'})
  assert set(found['grants']) == {'labels', 'model'}
  assert {**found['grants'], **found['withheld']} == threat.GRANTS
