"""Tests of giajax.results.axes."""

import numpy as np
import pytest

from giajax.results import axes


def test_axes_multiply_and_keys_of_one_axis_do_not():
  sweep = {
    'seed': (0, 1),
    'zip': {'a.x': (1, 2, 3), 'a.y': ('p', 'q', 'r')},
    'variant': ({'name': 'plain'}, {'name': 'noise', 'defense': []}),
  }
  assert axes.count(sweep) == 2 * 3 * 2
  assert axes.axes(sweep)[1] == [
    *({'a.x': 1, 'a.y': 'p'}, {'a.x': 2, 'a.y': 'q'}, {'a.x': 3, 'a.y': 'r'}),
  ]
  assert axes.values(sweep) == {
    'seed': [0, 1],
    'a.x': [1, 2, 3],
    'a.y': ['p', 'q', 'r'],
    'variant': ['plain', 'noise'],
  }
  assert axes.count({}) == 1 and axes.values({}) == {}


@pytest.mark.parametrize(
  'entry, expected',
  [
    (dict(low=0.0, high=1.0, count=5), [0, 0.25, 0.5, 0.75, 1]),
    (dict(low=1e-3, high=10, count=5, scale='log'), [1e-3, 1e-2, 0.1, 1, 10]),
    (dict(low=1, high=3, count=3), [1, 2, 3]),
    (dict(low=1, high=64, count=4, scale='log'), [1, 4, 16, 64]),
    (dict(low=0.1, high=0.2, count=4), [0.1, 0.1333, 0.1667, 0.2]),
    (dict(low=2.0, high=3.0, count=1), [2.0]),
    (dict(low=1000.0, high=1001.0, count=3), [1000.0, 1000.5, 1001.0]),
    (dict(low=0.123456, high=0.99999, count=2), [0.123456, 0.99999]),
  ],
)
def test_ranges_are_even(entry, expected):
  (axis,) = axes.axes({'key': entry})
  found = [place['key'] for place in axis]
  assert found == expected
  whole = type(entry['low']) is type(entry['high']) is int
  assert {type(v) for v in found} == {int if whole else float}


def test_draws_from_a_narrow_range_stay_in_it():
  narrow = {'low': 0.99991, 'high': 0.99994}
  (axis,) = axes.axes({'random': {'count': 50, 'a': narrow}})
  found = [place['a'] for place in axis]
  assert len({*found}) == 50
  assert all(0.99991 <= value <= 0.99994 for value in found)


def test_draws_are_those_of_the_seed_and_fill_their_ranges():
  sweep = {
    'random': {
      'count': 2000,
      'rate': {'low': 1e-4, 'high': 1.0, 'scale': 'log'},
      'weight': {'low': -1.0, 'high': 1.0},
      'size': {'low': 1, 'high': 4},
      'steps': {'low': 1, 'high': 1000, 'scale': 'log'},
      'mode': ('a', 'b'),
    }
  }
  (axis,) = axes.axes(sweep)
  assert len(axis) == 2000
  columns = {key: [place[key] for place in axis] for key in axis[0]}
  rates = np.log10(columns['rate'])
  # Each of four decades holds a quarter: 500, with a deviation of 19.
  counts = np.histogram(rates, bins=4, range=(-4, 0))[0]
  assert np.all(np.abs(counts - 500) < 100) and counts.sum() == 2000
  assert abs(np.mean(columns['weight'])) < 0.06
  assert {*columns['size']} == {1, 2, 3, 4}
  assert min(columns['steps']) == 1 and max(columns['steps']) <= 1000
  assert 20 < np.median(columns['steps']) < 50
  assert 800 < columns['mode'].count('a') < 1200
  assert abs(np.corrcoef(rates, columns['weight'])[0, 1]) < 0.1
  assert axes.axes(sweep) == [axis]
  sweep['random']['seed'] = 1
  assert axes.axes(sweep) != [axis]


@pytest.mark.parametrize(
  'sweep, words',
  [
    ({'a': dict(low=0, high=1)}, 'a whole number from 1 .* got .*count=0'),
    ({'a': dict(low=0, high=3, count=10)}, 'a count of at most 4'),
    ({'a': dict(low=0, high=10**25, count=3)}, 'a whole number'),
    ({'zip': {'variant': (3,)}}, 'a name of its own'),
    ({'a': dict(low=0, count=2)}, 'a range with count, high, low, scale'),
    ({'a': dict(low=0, high=1, count=2, step=1)}, 'correct its keys'),
    ({'a': dict(low=2, high=1, count=2)}, 'high not below low'),
    ({'a': dict(low=0, high=1, count=2, scale='log')}, 'low above 0'),
    ({'a': dict(low=0, high=1, count=2, scale='cube')}, "got .*'cube'"),
    ({'a': dict(low='x', high=1, count=2)}, 'finite'),
    ({'zip': {'a': (1, 2), 'b': (1,)}}, "got {'a': 2, 'b': 1}"),
    ({'zip': {}}, 'name at least one key'),
    ({'zip': (1, 2)}, 'name at least one key'),
    ({'random': {'count': 3}}, 'name at least one key'),
    ({'random': {'a': (1, 2)}}, 'sweep.random.count'),
    ({'random': {'count': 3, 'a': ()}}, 'give at least one'),
    (
      {'random': {'count': 3, 'a': dict(low=0, high=1, count=2)}},
      'a range wit',
    ),
    ({'random': {'count': 2, 'seed': -1, 'a': (1,)}}, 'sweep.random.seed'),
    ({'variant': ({'name': 'x'}, {'name': 'x'})}, 'a name of its own'),
  ],
)
def test_mistakes_are_named(sweep, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    axes.axes(sweep)
