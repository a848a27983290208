"""Generative attacks in an audit: controls, defences, and resumption."""

import os
import signal

import jax
import numpy as np
import pytest
import tiny

from giajax import archives
from giajax.engine import build
from giajax.engine import generators
from giajax.engine import join
from giajax.engine import run
from giajax.engine import systems
from giajax.generative import base as generative
from giajax.generative import GENERATORS
from giajax.models import convert

ATTACK = dict(name='grnn', num_steps=4, latent=3, width=1)
TRAINED = ('ggl', 'ggl_adam', 'gias', 'gifd')


def written(path, row='dcgan', size=8, **options):
  """Writes weights to a file, and returns the entry that reads them."""
  options = {'latent': 3, 'width': 2, **options}
  generator = GENERATORS[row]((size, size, 3), **options)
  weights = generator.init(jax.random.key(0))
  state = convert.to_state_dict(weights)
  # Of the conditional one, classes are sixteen of photographs.
  archives.write(path, {f'netG.{name}': 20 * v for name, v in state.items()})
  options.pop('num_classes', None)
  return dict(name=row, path=str(path), prefix='netG', **options)


def config(attack, entry, **changes):
  attack = dict(name=attack, generator=entry)
  level = {'threat__level': 'D', 'dataset__size': 8, **changes}
  return tiny.config(attack=attack, **level)


@pytest.mark.skipif(
  os.environ.get('GIAJAX_SLOW') != '1', reason='audits; GIAJAX_SLOW=1'
)
@pytest.mark.parametrize(
  'attack',
  [
    ATTACK,
    dict(name='ggl', evaluations=20, population=5),
    dict(name='gias', num_steps=4, latent_steps=2),
    dict(name='gifd', num_steps=4),
  ],
)
def test_an_audit_continues_to_the_same_bits(attack, tmp_path):
  made = config('grnn', {})
  made.attack = attack
  if attack['name'] in TRAINED:
    made.attack = dict(attack, generator=written(tmp_path / 'w.npz'))
  made.cases.count = made.restarts = 1
  made.cases.batch_size = 2
  made.defense = dict(name='gaussian_noise', scale=1e-4)

  def interrupt(status):
    if status.step == 1:
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.raises(run.Interrupted, match='saved at step 1 of 4'):
    run.audit(made, tmp_path / 'stopped', hooks=[interrupt])
  run.audit(made, tmp_path / 'stopped')
  (row,) = run.audit(made, tmp_path / 'whole')
  assert tiny.digest(tmp_path / 'stopped') == tiny.digest(tmp_path / 'whole')
  assert row['attack'] == attack['name']
  assert 'noise_gradient' in row['baselines']


def test_the_noise_control_makes_the_same_search(tmp_path, monkeypatch):
  """Alone in its part, it evaluates as many candidates as the update."""
  made = config('ggl', written(tmp_path / 'w.npz'), cases__count=1, restarts=1)
  made.attack.update(evaluations=10, population=5)
  made.run.cases_per_batch = 1
  candidates, counts = [], []
  read, score = generators.trained, join.score

  def counted(*args):
    trained = read(*args)

    def apply(variables, h, *args, **kwargs):
      jax.debug.callback(candidates.append, h.sum())
      return trained.generator.apply(variables, h, *args, **kwargs)

    return trained._replace(generator=trained.generator._replace(apply=apply))

  def scored(*args):
    jax.effects_barrier()
    counts.append(len(candidates))
    result = score(*args)
    jax.effects_barrier()
    candidates.clear()  # and the random sample with them
    return result

  monkeypatch.setattr(generators, 'trained', counted)
  monkeypatch.setattr(join, 'score', scored)
  (row,) = run.audit(made, tmp_path / 'run')
  assert counts[0] == counts[1] >= 10
  assert {'class_sample', 'noise_gradient'} <= row['baselines'].keys()


@pytest.mark.parametrize(
  ('attack', 'changes', 'expected'),
  [
    ('ci_net', dict(dataset__size=11), 'square images for ci_net'),
    ('grnn', dict(dataset__size=6), 'square images for grnn'),
    ('ci_net', dict(attack__width=-1), 'width'),
    ('ci_net', dict(attack__head='relu'), 'known head'),
    ('ci_net', dict(threat__grants=()), 'grants that cover'),
    ('lora_generator', dict(), 'adapters alone .* got mlp with layers.0.bias'),
    ('april', dict(), 'learned positions'),
    ('april_optimisation', dict(), 'learned positions'),
    ('cocktail_party', dict(cases__batch_size=9), '8 units and batch_size=9'),
  ],
)
def test_mistakes_are_one_line_before_anything_runs(
  attack, changes, expected, tmp_path
):
  config = tiny.config(attack=dict(name=attack), **changes)
  with pytest.raises(ValueError, match=f'^Expected .*{expected}') as error:
    run.audit(config, tmp_path / 'run')
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('name', TRAINED)
def test_a_trained_generator_is_taken_from_a_file(name, tmp_path):
  """Its file is one of those that decide the results."""
  entry = written(tmp_path / 'w.npz')
  made = build.experiment(config(name, entry))
  path = entry['path']
  assert made.inputs[path] == archives.sha256(path)
  (cohort,) = made.cohorts
  needs = cohort.setup.attack.needs
  assert 'pretrained_generator' in needs and needs <= cohort.setup.granted
  assert 'proxy_data' not in needs


def test_weights_of_a_trained_generator_may_be_compared(tmp_path):
  entries = [written(tmp_path / f'{i}.npz') for i in range(2)]
  made = build.experiment(
    config(
      'gifd',
      entries[0],
      sweep={'attack.generator.path': tuple(e['path'] for e in entries)},
    )
  )
  assert {e['path'] for e in entries} <= made.inputs.keys()


_LIKE = dict(row='conditional_dcgan', num_classes=16, embedding=2)


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    (dict(threat__level='C'), 'grants that cover .* pretrained_generator'),
    (dict(threat__grants=()), 'without labels'),
    (dict(dataset__size=16), r'images \(16, 16, 3\); got path'),
    (dict(attack__generator__latent=4), r'latents \(4,\) and .*misshapen'),
    (dict(attack__generator__width=0), 'width'),
    (dict(attack__generator__name='grnn'), 'tensors of grnn .* missing'),
    (dict(attack__generator__name='gan'), 'known attack.generator'),
    (dict(attack__generator__path=''), 'attack.generator.path, the file'),
    (dict(attack__generator__path='/nowhere'), 'nowhere'),
    (dict(attack__generator__path=3), 'a string for attack.generator.path'),
    (dict(attack__generator__prefix='x'), 'x'),
    (dict(attack__generator='dcgan'), 'a dict for attack.generator'),
    (dict(attack=dict(name='gias')), 'attack.generator for attack'),
    (dict(attack__name='dlg'), "got 'generator'"),
  ],
)
def test_mistakes_with_trained_generators_are_one_line(
  changes, expected, tmp_path
):
  made = config('gias', written(tmp_path / 'w.npz'))
  for key, value in changes.items():
    node = made
    *path, last = key.split('__')
    for part in path:
      node = node[part]
    with node.unlocked(), node.ignore_type():
      node[last] = value
  refused(made, expected, tmp_path)


@pytest.mark.parametrize(
  ('entry', 'changes', 'expected'),
  [
    (_LIKE, dict(num_classes=4), "got 'num_classes'"),  # those of the data set
    (_LIKE, dict(name='dcgan'), "got 'embedding'"),
    ({}, dict(num_classes=16), "got 'num_classes'"),  # it takes no labels
    ({}, dict(pth='x'), "got 'pth'; did you mean 'path'"),
    ({}, dict(image_shape=(8, 8, 3)), "got 'image_shape'"),
    ({}, dict(batch_size=2), "got 'batch_size'"),
  ],
)
def test_entries_that_do_not_fit_their_row_are_one_line(
  entry, changes, expected, tmp_path
):
  made = written(tmp_path / 'w.npz', **entry)
  refused(config('ggl_adam', {**made, **changes}), expected, tmp_path)


def test_files_of_no_numbers_are_one_line(tmp_path):
  path = tmp_path / 'w.npz'
  entry = written(path)
  arrays = archives.read(path)
  first = next(iter(arrays))
  archives.write(path, {**arrays, first: arrays[first] * np.nan})
  refused(config('ggl', entry), 'not finite', tmp_path)
  path.write_bytes(b'no archive')
  refused(config('ggl', entry), 'w.npz', tmp_path)


def read_of(row, path, network, **options):
  """Writes the weights of an inversion network, and returns its entry."""
  made = GENERATORS[row]((8, 8, 3), **options, **network)
  state = convert.to_state_dict(made.init(jax.random.key(0)))
  archives.write(path, state)
  return dict(name=row, path=str(path), **options)


# What an MLP of 8 units sends of 2 images in 16 classes, and its features.
_INVERSION = {
  'lti': dict(entries=192 * 8 + 8 + 8 * 16 + 16, batch_size=2),
  'fgla': dict(features=8),
}


def inverting(row, tmp_path, **changes):
  """Returns an audit by an inversion network, for two images."""
  entry = read_of(row, tmp_path / 'w.npz', _INVERSION[row], width=2)
  made = config(row, entry, cases__batch_size=2, restarts=1, **changes)
  resolved = build.resolve(made)
  net = systems.system(resolved).net
  agreed = systems.variables(net, resolved['weights'], resolved['seed'])
  record = generative.provenance({'victim': build.victim(resolved, agreed)})
  archives.write(entry['path'], {**archives.read(entry['path']), **record})
  return made


@pytest.mark.parametrize('row', _INVERSION)
def test_an_inversion_network_is_built_for_the_system(row, tmp_path):
  """Its sizes are those of the network, which nobody sets."""
  made = inverting(row, tmp_path)
  path = made.attack.generator.path
  built = build.experiment(made)
  (cohort,) = built.cohorts
  assert built.inputs[path] == archives.sha256(path)
  needs = cohort.setup.attack.needs
  assert 'auxiliary_data' in needs and 'pretrained_generator' not in needs
  assert ('labels' in needs) is (row == 'fgla')
  for name in _INVERSION[row]:
    own = inverting(row, tmp_path)
    with own.unlocked():
      own.attack.generator[name] = 2
    refused(own, f"got '{name}'", tmp_path)


@pytest.mark.parametrize(
  ('row', 'changes', 'expected'),
  [
    ('lti', dict(model=dict(name='mlp', widths=(9,))), 'misshapen'),
    ('lti', dict(cases__batch_size=3), 'misshapen'),
    ('lti', dict(threat__level='C'), 'without auxiliary_data'),
    ('fgla', dict(model=dict(name='mlp', widths=(9,))), 'misshapen'),
    ('fgla', dict(cases__batch_size=16), 'batch_size < 16 classes'),
    ('fgla', dict(trainable__include=('layers.0.*',)), 'where it is frozen'),
    ('fgla', dict(attack__name='ggl'), 'whose latents are free'),
  ],
)
def test_inversion_networks_of_other_systems_are_refused(
  row, changes, expected, tmp_path
):
  made = inverting(row, tmp_path)
  for key, value in changes.items():
    node = made
    *path, last = key.split('__')
    for part in path:
      node = node[part]
    with node.unlocked(), node.ignore_type():
      node[last] = value
  refused(made, expected, tmp_path)


def test_an_inversion_network_without_a_record_is_refused(tmp_path):
  made = inverting('lti', tmp_path)
  path = made.attack.generator.path
  arrays = archives.read(path)
  del arrays['provenance']
  archives.write(path, arrays)
  refused(made, 'a record of its training', tmp_path)


def test_an_inversion_network_may_infer_labels_first(tmp_path):
  made = inverting('fgla', tmp_path, threat__grants=())
  made.labels = 'column_minimum'
  (cohort,) = build.experiment(made).cohorts
  assert 'labels' not in cohort.setup.attack.needs


def refused(made, expected, tmp_path):
  with pytest.raises(ValueError, match=f'^Expected .*{expected}') as error:
    run.audit(made, tmp_path / 'run')
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()
