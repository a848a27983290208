"""Tests of what a config may hold."""

from collections.abc import Mapping, Sequence
import os

import ml_collections
import numpy as np
import pytest

from giajax.engine import schema

_HOLLOW = ml_collections.ConfigDict(
  {'study': {'a': ml_collections.config_dict.required_placeholder(int)}}
)


def _defaults(**changes):
  return schema.resolve({**changes})


@pytest.mark.parametrize(
  'config, words',
  [
    ({'atack': {}}, "'atack'; did you mean 'attack'"),
    ({'cases': {'cuont': 1}}, "a key of cases: .* did you mean 'count'"),
    ({'run': {'mesh': 1}}, 'a key of run'),
    ({'cases': 3}, 'a dict for cases; got cases=3'),
    ({'attack': 'dlg'}, "a dict for attack; got attack='dlg'"),
    ({'auxiliary': None}, 'a dict for auxiliary; got auxiliary=None'),
    ({'restarts': 'two'}, "a whole number for restarts; got restarts='two'"),
    ({'restarts': 1.0}, 'a whole number for restarts'),
    ({'restarts': True}, 'a whole number for restarts'),
    ({'restarts': 0}, 'restarts of at least 1; got restarts=0; raise it'),
    ({'seed': -1}, 'seed of at least 0'),
    ({'noise_controls': True}, 'a whole number for noise_controls'),
    ({'threat': {'grants': 'labels'}}, 'a list of strings for threat.grants'),
    ({'threat': {'level': 3}}, 'a string or None for threat.level'),
    ({'run': {'save_seconds': 'x'}}, 'a finite number for run.save_seconds'),
    ({'run': {'save_seconds': float('nan')}}, 'a finite number'),
    ({'run': {'save_seconds': -1}}, 'run.save_seconds of at least 0'),
    ({'run': {'restarts_per_batch': -2}}, 'run.restarts_per_batch of at lea'),
    ({'lpips': None}, 'a string for lpips'),
    ({'precision': 'bfloat61'}, "did you mean 'bfloat16'"),
    ({'study': {'a': np.ones(2)}}, 'dicts, lists, numbers'),
    ({'study': {'a': 10**5000}}, 'dicts, lists, numbers'),
    (_HOLLOW, 'dicts, lists, numbers'),
    ({'seed': 2**63}, 'a whole number for seed; .* use what fits int32'),
    (
      {'cases': {'count': 10**8}},
      'cases.count of at most 10000000; .* lower it',
    ),
    ({'cases': {'given': [1.5]}}, 'a list of whole numbers or None for cases'),
    ({'trainable': {'include': [1.5]}}, 'a list of strings for trainable'),
    ({'weights': {'rename': {'a': 1}}}, 'a dict of strings for weights.rename'),
    ({'defense': [1]}, 'a dict or a list of dicts for defense'),
    ({'run': {'save_seconds': 10**400}}, 'a finite number for run.save_sec'),
  ],
)
def test_mistakes_are_named(config, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    schema.resolve(config)


def test_defaults_are_filled_in_and_not_shared():
  resolved = schema.resolve({'cases': {'count': 3}})
  assert resolved['cases'] == {
    **schema.resolve({})['cases'],
    'count': 3,
  }
  resolved['cases']['count'] = 9
  assert schema.DEFAULTS['cases']['count'] == 1


def test_families_are_replaced_whole():
  resolved = schema.resolve({'model': {'name': 'mlp', 'widths': (3,)}})
  assert resolved['model'] == {'name': 'mlp', 'widths': [3]}


def test_optional_values():
  resolved = schema.resolve({'threat': {'level': None}})
  assert resolved['threat']['level'] is None
  resolved = schema.resolve({'cases': {'given': (1, 2)}})
  assert resolved['cases']['given'] == [1, 2]
  assert schema.resolve({'run': {'save_seconds': 3}})['run']


def test_default_config_resolves_to_the_defaults():
  assert schema.resolve(schema.default_config()) == schema.resolve({})


def test_default_config_takes_a_sweep_and_refuses_typos():
  config = schema.default_config()
  config.sweep = {'cases.batch_size': (1, 2)}
  assert schema.resolve(config)['sweep'] == {'cases.batch_size': [1, 2]}
  with pytest.raises(AttributeError, match=r'restart'):
    config.restart = 2


def test_hash_names_what_decides_results():
  plain = schema.config_hash(_defaults())
  assert len(plain) == 12
  assert plain == schema.config_hash(_defaults(run={'save_seconds': 1.0}))
  assert plain != schema.config_hash(_defaults(seed=1))
  assert plain == schema.config_hash(_defaults(precision='full'))
  assert plain != schema.config_hash(_defaults(precision='bfloat16'))
  assert plain == schema.config_hash(_defaults(auxiliary={}))
  auxiliary = {'name': 'photographs'}
  assert plain != schema.config_hash(_defaults(auxiliary=auxiliary))
  older = _defaults()
  del older['auxiliary']
  assert plain == schema.config_hash(older)
  del older['cases']['objects']
  assert plain == schema.config_hash(older)
  cases = {'rule': 'objects'}, {'rule': 'objects', 'objects': (2, 2)}
  hashes = {schema.config_hash(_defaults(cases=own)) for own in cases}
  assert len({plain, *hashes}) == 3
  point = _defaults()
  del point['sweep']  # as the points of a sweep are
  assert plain == schema.config_hash(point)


@pytest.mark.parametrize(
  'value, annotation',
  [
    (1, int),
    (1, float),
    (None, int | None),
    ('a', str),
    ([1], tuple[int, ...]),
    ((1, 2), Sequence[int]),
    ([], Sequence[int] | None),
    ([1, 2], tuple[int, int]),
    ({'a': 'b'}, Mapping[str, str]),
    ('a', str | os.PathLike),
    (2**31 - 1, int),
    ('free', 'unknown'),
  ],
)
def test_arguments_that_fit(value, annotation):
  schema.check_argument(value, annotation, 'x')


@pytest.mark.parametrize(
  'value, annotation',
  [
    ('a', int),
    (1.5, int),
    (True, int),
    (True, float),
    (1, bool),
    (1, str),
    (None, float),
    ('a', int | None),
    (float('inf'), float),
    (1e39, float),
    (10**400, float),
    (2**31, int),
    (5, Sequence[int]),
    ('x', Sequence[int] | None),
    (['x'], Sequence[int]),
    ([2**31], Sequence[int]),
    ([1], tuple[int, int]),
    ({'a': 1}, Mapping[str, str]),
    (5, str | os.PathLike),
  ],
)
def test_arguments_that_do_not(value, annotation):
  with pytest.raises(ValueError, match=r'^Expected .* for x; got x='):
    schema.check_argument(value, annotation, 'x')
