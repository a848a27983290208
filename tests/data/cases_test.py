"""Tests of giajax.data.cases."""

import numpy as np
import pytest

from giajax.data import cases

LABELS = np.repeat(np.arange(5, dtype=np.int32), [1, 2, 3, 4, 10])
COUNTS = np.arange(20) % 6
DRAWN = [rule for rule in cases.RULES if rule != 'given']


def draw(rule='random', *, seed=0, case=0, batch_size=3, **more):
  more = {'counts': COUNTS, **more}
  return cases.indices(
    LABELS, seed=seed, case=case, batch_size=batch_size, rule=rule, **more
  )


@pytest.mark.parametrize('rule', DRAWN)
def test_deterministic_distinct_and_in_range(rule):
  for case in range(20):
    first, second = draw(rule, case=case), draw(rule, case=case)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.int32
    assert len(set(first.tolist())) == 3
    assert first.min() >= 0
    assert first.max() < len(LABELS)


@pytest.mark.parametrize('rule', DRAWN)
def test_seeds_and_cases_draw_different_batches(rule):
  batches = {
    tuple(draw(rule, seed=seed, case=case))
    for seed in range(5)
    for case in range(5)
  }
  assert len(batches) > 20


@pytest.mark.parametrize(
  ('rule', 'expected'),
  [
    ('random', [18, 11, 8]),
    ('unique_labels', [14, 1, 7]),
    ('same_label', [8, 7, 6]),
  ],
)
def test_draws_are_pinned(rule, expected):
  # Recorded results name their images by (seed, case): this must never change.
  np.testing.assert_array_equal(draw(rule, seed=1, case=2), expected)


def test_unique_labels_are_unique():
  for case in range(50):
    labels = LABELS[draw('unique_labels', case=case, batch_size=5)]
    assert sorted(labels) == [0, 1, 2, 3, 4]


def test_same_label_uses_every_class_that_holds_enough():
  seen = set()
  for case in range(60):
    labels = set(LABELS[draw('same_label', case=case)].tolist())
    assert len(labels) == 1
    seen |= labels
  assert seen == {2, 3, 4}


def test_random_is_uniform():
  counts = np.zeros(len(LABELS))
  for case in range(2000):
    counts[draw(case=case)] += 1
  # 2000 * 3 / 20 = 300 expected, standard deviation 16.
  assert np.abs(counts - 300).max() < 5 * 16


def test_given_is_kept_in_order():
  found = draw('given', given=[7, 0, 3], case=9)
  np.testing.assert_array_equal(found, [7, 0, 3])


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'rule': 'rnd'}, 'got rule='),
    ({'batch_size': 21}, 'got batch_size=21'),
    ({'batch_size': 0}, 'got batch_size=0'),
    ({'rule': 'unique_labels', 'batch_size': 6}, 'batch_size <= 5'),
    ({'rule': 'same_label', 'batch_size': 11}, 'batch_size <= 10'),
    ({'seed': -1}, 'got seed=-1'),
    ({'case': -1}, 'case=-1'),
    ({'rule': 'given'}, 'given=None'),
    ({'given': [1, 2, 3]}, "rule='random'"),
    ({'rule': 'given', 'given': [1, 2]}, 'Expected 3 different'),
    ({'rule': 'given', 'given': [1, 2, 2]}, 'Expected 3 different'),
    ({'rule': 'given', 'given': [1, 2, 20]}, 'index=20'),
    ({'rule': 'given', 'given': [1, 2, -1]}, 'index=-1'),
    ({'rule': 'given', 'given': [1.0, 2, 3]}, 'dtype=float64'),
  ],
)
def test_mistakes_are_named_in_one_line(arguments, message):
  with pytest.raises(ValueError, match=message) as info:
    draw(**arguments)
  assert '\n' not in str(info.value)


def test_held_out_avoids_the_batch():
  taken = draw(batch_size=15)
  found = cases.held_out(20, taken, seed=0, case=0, count=3)
  assert len(set(found.tolist())) == 3
  assert not set(found) & set(taken)
  again = cases.held_out(20, taken, seed=0, case=0, count=99)
  assert sorted([*again, *taken]) == list(range(20))
  np.testing.assert_array_equal(again[:3], found)


def test_held_out_of_a_whole_set_is_refused():
  with pytest.raises(ValueError, match='outside the batch'):
    cases.held_out(4, np.arange(4), seed=0, case=0, count=1)


def test_a_label_is_repeated_as_often_as_asked():
  for repeats in (1, 2, 3, 4):
    for case in range(20):
      found = draw('repeated_label', case=case, batch_size=4, repeats=repeats)
      counts = np.bincount(LABELS[found])
      assert sorted(counts[counts > 0]) == [1] * (4 - repeats) + [repeats]


@pytest.mark.parametrize('objects', [(1, 3), (0, 0), (5, 9)])
def test_images_of_so_many_objects(objects):
  least, most = objects
  found = {
    int(i)
    for case in range(40)
    for i in draw('objects', case=case, objects=objects)
  }
  assert found == {*np.flatnonzero((least <= COUNTS) & (most >= COUNTS))}


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (dict(counts=None), "data set with boxes for rule='objects'"),
    (dict(objects=(3, 1)), r'from a least to a largest.*objects=\(3, 1\)'),
    (dict(objects=(5, 9), batch_size=4), 'batch_size <= 3, the images of 5'),
  ],
)
def test_odd_numbers_of_objects_are_refused(changes, words):
  with pytest.raises(ValueError, match=words) as error:
    draw('objects', **changes)
  assert '\n' not in str(error.value)


def test_a_class_a_client():
  for case in range(20):
    found = draw('class_a_client', case=case, batch_size=6, clients=2)
    first, second = LABELS[found[:3]], LABELS[found[3:]]
    assert len(set(first)) == len(set(second)) == 1 and first[0] != second[0]


def test_dirichlet_is_between_one_class_and_the_mixture():
  labels = np.repeat(np.arange(5), 100)
  largest = {}
  for alpha in (1e-3, 1.0, 1e4):
    shares = []
    for case in range(40):
      found = cases.indices(
        labels,
        seed=0,
        case=case,
        batch_size=80,
        rule='dirichlet',
        clients=2,
        alpha=alpha,
      )
      assert len(set(found.tolist())) == 80
      for own in np.split(labels[found], 2):
        shares.append(np.bincount(own).max() / 40)
    largest[alpha] = np.mean(shares)
  # One class; E[max of Dirichlet(1, ..., 1)] = (1 + 1/2 + ... + 1/5) / 5;
  # a fifth and what 40 draws vary by.
  assert largest[1e-3] > 0.97
  np.testing.assert_allclose(largest[1.0], 0.457, atol=0.06)
  assert largest[1e4] < 0.35


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (dict(rule='dirichlet', alpha=0.0), 'alpha > 0; got alpha=0.0'),
    (dict(rule='repeated_label', repeats=4), 'repeats from 1 to 3'),
    (dict(rule='class_a_client', clients=3, batch_size=12), 'at most 2 client'),
    (dict(clients=2), 'share the batch equally; got clients=2'),
  ],
)
def test_partitions_that_cannot_be(changes, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    draw(**changes)


def test_same_class_is_others_of_the_class():
  labels = np.array([0, 1, 0, 0, 2, 0])
  found = cases.same_class(labels, 2, seed=0, case=0, count=9)
  assert sorted(found) == [0, 3, 5]
  fewer = cases.same_class(labels, 2, seed=0, case=0, count=2)
  np.testing.assert_array_equal(fewer, found[:2])
  assert not cases.same_class(labels, 1, seed=0, case=0, count=9).size
  many = np.zeros(99, int)
  drawn = [
    tuple(cases.same_class(many, i, seed=0, case=c, count=5))
    for i, c in ((0, 0), (0, 1), (1, 0))
  ]
  assert len(set(drawn)) == 3
