"""Tests of how work is split: nothing twice, nothing forgotten."""

import itertools

import numpy as np
import pytest
import tiny

from giajax.engine import build
from giajax.engine import plan
from giajax.engine import workdir


def _covered(parts):
  return sorted(
    (part.cohort.number, i)
    for part in parts
    for i in range(part.start, part.stop)
  )


@pytest.fixture(scope='module')
def cohorts():
  """Returns two cohorts of seven and three items."""
  config = tiny.config(run__cases_per_batch=3)
  config.sweep = {'cases.batch_size': (1, 2), 'cases.count': (2, 3)}
  return plan.cohorts(build.experiment(config))


@pytest.mark.parametrize(
  'start, stop, limit', [(0, 7, 3), (2, 9, 7), (0, 1, 5)]
)
def test_split_is_even_and_whole(start, stop, limit):
  ranges = plan.split(start, stop, limit)
  assert [i for a, b in ranges for i in range(a, b)] == [*range(start, stop)]
  sizes = [b - a for a, b in ranges]
  assert max(sizes) <= limit
  assert len(ranges) == -(-(stop - start) // limit)


def test_split_of_nothing():
  assert plan.split(4, 4, 3) == []


def test_subtract_leaves_what_is_not_done():
  for a, b, c, d in itertools.product(range(5), repeat=4):
    if a < b and c < d:
      left = plan.subtract((a, b), [(c, d)])
      found = [i for low, high in left for i in range(low, high)]
      assert found == [i for i in range(a, b) if not c <= i < d]


def test_rows_are_numbered_through(cohorts):
  rows = [w.row for c in cohorts for w in c.work if not w.control]
  assert sorted(rows) == [*range(2 + 3 + 2 + 3)]
  controls = [w for c in cohorts for w in c.work if w.control]
  assert sorted(w.point.index for w in controls) == [0, 1, 2, 3]


@pytest.mark.parametrize('count', [1, 2, 3, 5, 20])
def test_shards_take_everything_once(cohorts, count):
  everything = _covered(plan.parts(cohorts, {}))
  assert len(everything) == sum(len(c.work) for c in cohorts)
  shards = [plan.parts(cohorts, {}, (i, count)) for i in range(count)]
  assert _covered(itertools.chain(*shards)) == everything


def test_what_is_done_is_not_planned_again(cohorts):
  planned = plan.parts(cohorts, {})
  assert [p.name for p in planned[:2]] == ['000-00000-00003', '001-00000-00002']
  # A part of the same split leaves the others as they are: they may be saved.
  rest = plan.parts(cohorts, {0: [(0, 3)]})
  assert [p.name for p in rest] == [p.name for p in planned[1:]]
  # Another split is filled up.
  rest = plan.parts(cohorts, {0: [(1, 2)], 1: [(0, 1)]})
  assert _covered(rest) == [
    item for item in _covered(planned) if item not in ((0, 1), (1, 0))
  ]


def test_finished_reads_names(tmp_path):
  assert plan.finished(tmp_path) == {}
  (tmp_path / 'parts').mkdir()
  for name in ('001-00002-00005.npz', 'x.npz', '.001-0-1.npz.7.partial'):
    (tmp_path / 'parts' / name).touch()
  assert plan.finished(tmp_path) == {1: [(2, 5)]}


def _flip(path):
  data = bytearray(path.read_bytes())
  data[data.index(b'rows.npy') + 200] ^= 1
  path.write_bytes(data)


def test_saved_reads_names(tmp_path):
  assert plan.saved(tmp_path) == []
  for name in ('001-00002-00005', '001-00002-00005.aside', 'notes'):
    (tmp_path / 'checkpoints' / name).mkdir(parents=True)
  assert plan.saved(tmp_path) == ['001-00002-00005']


@pytest.mark.parametrize(
  'damage, reason',
  [
    (lambda path: path.write_bytes(b'half'), 'Expected a whole part'),
    (_flip, 'Expected a whole part'),
    (lambda path: np.savez(path, x=np.ones(2)), 'Expected a whole part'),
    (
      lambda path: workdir.write_part(path, 'run 001-00000-00002', [], {}),
      'is of another one',
    ),
  ],
)
def test_damaged_parts_are_set_aside(tmp_path, damage, reason, caplog):
  folder = tmp_path / 'parts'
  paths = [folder / f'001-0000{i}-0000{i + 2}.npz' for i in (0, 2)]
  bad = []
  for _ in range(2):
    for path in paths:
      name = plan.owner('run', path.stem)
      workdir.write_part(path, name, [{'row': 1}], {'x': np.ones(2)})
    damage(paths[1])
    bad.append(paths[1].read_bytes())
    with caplog.at_level('WARNING', 'giajax'):
      plan.set_aside(tmp_path, 'run')
    assert reason in caplog.text
    assert plan.finished(tmp_path) == {1: [(0, 2)]}
  aside = folder / f'{paths[1].name}.aside'
  assert [(aside / name).read_bytes() for name in '01'] == bad


def _programs(config):
  return {c.setup.program for c in build.experiment(config).cohorts}


def test_signature_ignores_what_is_not_compiled():
  config = tiny.config()
  config.sweep = {'seed': (0, 1), 'cases.rule': ('random', 'same_label')}
  assert len(_programs(config)) == 1
  # What is granted is an argument of the program, if only in its shape.
  config.sweep = {'threat.level': ('C', 'D')}
  assert len(_programs(config)) == 2
  config.sweep = {'attack.num_steps': (3, 4)}
  assert len(_programs(config)) == 2


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'cases__batch_size': 17}, 'a batch_size of 1 to 16'),
    ({'cases__rule': 'given'}, "indices in given exactly when rule='given'"),
    ({'attack__tv': 1.0}, r"a key of attack \(inv.*total_variation.* got 'tv'"),
    ({'restarts': 2**31 - 1}, 'an attack that fits .* restarts=2147483647'),
    ({'attack__learning_rate': 1e39}, 'fits int32 or float32'),
    ({'attack__learning_rate': 'x'}, 'a finite number for attack.lear'),
  ],
)
def test_mistakes_are_found_before_a_run(changes, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    plan.cohorts(build.experiment(tiny.config(**changes)))


def test_what_the_server_believes_is_compiled():
  beliefs = ({'name': 'same'}, {'name': 'one_gradient'})
  config = tiny.config(client__name='fedavg', sweep={'belief': beliefs})
  same, other = plan.cohorts(build.experiment(config))
  assert same.setup.program != other.setup.program
  # A defence is, where the server knows of it.
  defenses = ({'name': 'none'}, {'name': 'pruning', 'keep': 0.5})
  for grants, programs in ((('labels',), 1), (('labels', 'defense'), 2)):
    config = tiny.config(threat__grants=grants, sweep={'defense': defenses})
    found = plan.cohorts(build.experiment(config))
    assert len({c.setup.program for c in found}) == programs


def test_a_defence_in_the_network_is_attacked_by_who_knows_it_or_not():
  grants = (('labels',), ('labels', 'defense'))
  config = tiny.config(
    defense=dict(name='precode', size=3), sweep={'threat.grants': grants}
  )
  naive, knowing = plan.cohorts(build.experiment(config))
  assert naive.setup.program != knowing.setup.program
