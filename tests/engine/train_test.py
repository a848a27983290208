"""Tests of giajax.engine.train and of the command that uses it."""

import hashlib
import json

import numpy as np
import PIL.Image
import pytest
import tiny

from giajax import archives
from giajax import main
from giajax.engine import build
from giajax.engine import lessons
from giajax.engine import setting
from giajax.engine import sweep
from giajax.engine import train
from giajax.generative import base as generative
from giajax.generative import dcgan

RECIPE = lessons.Recipe(epochs=2, batch_size=8)
GAN = dict(name='dcgan', width=2, latent=4)
NOISE = dict(name='gaussian_noise', scale=0.1)
IMAGES = dict(name='photographs', size=12)
LEARNING = dict(auxiliary=IMAGES, threat__level='D')


def test_weights_are_an_artefact_with_a_hash(tmp_path, capsys):
  config = tiny.write(tmp_path / 'config.py')
  out = tmp_path / 'w.npz'
  arguments = '--batch_size=8', '--epochs=2', '--every=1', '--learning_rate=0.1'
  command = ['giajax', 'train', f'--config={config}', f'--out={out}']
  assert main.main([*command, *arguments]) == 0
  assert 'mlp after 2 epochs' in capsys.readouterr().out
  facts = json.loads(out.with_suffix('.json').read_text())
  digest = hashlib.sha256(out.read_bytes()).hexdigest()
  assert facts['sha256'] == digest and facts['epochs'] == 2
  assert facts['config']['client']['train_mode'] is True
  assert facts['training']['momentum'] == 0.9  # by default
  assert {path.name for path in tmp_path.iterdir()} == {
    'config.py',
    'w.json',
    'w.npz',
    'w-epoch1.json',
    'w-epoch1.npz',
    'w-losses.png',
  }
  # It can be audited, and trained further.
  setup = build.setup(build.resolve(tiny.config(weights__path=str(out))))
  task = setup.world.task
  made = lessons.accuracy(setup.net, task, setup.variables, setup.dataset)
  assert made == facts['accuracy']
  found = setting.describe(setup, 0)
  assert found['accuracy'] == made


def test_a_point_of_a_sweep_is_trained(tmp_path):
  config = tiny.config(sweep={'model.widths': ((4,), (8,))})
  train.train_config(config, tmp_path / 'w.npz', RECIPE, point=1)
  facts = json.loads((tmp_path / 'w.json').read_text())
  assert facts['config']['model']['widths'] == [8]


def test_a_generator_is_an_artefact_with_its_record_inside(tmp_path, capsys):
  """It is loaded by the attack that it was trained for, and drawn."""
  attack = dict(name='ggl', generator=GAN)
  config = tiny.write(
    tmp_path / 'config.py',
    f'attack={attack}, auxiliary={IMAGES}, threat__level="D"',
  )
  out = tmp_path / 'g.npz'
  command = ['giajax', 'train', f'--config={config}', f'--out={out}']
  options = '--part=generator', '--batch_size=8', '--epochs=2', '--flip'
  assert main.main([*command, *options]) == 0
  assert 'dcgan after 2 epochs, not judged' in capsys.readouterr().out
  facts = json.loads(out.with_suffix('.json').read_text())
  assert facts['sha256'] == archives.sha256(out)
  made = dcgan.dcgan((12, 12, 3), width=2, latent=4)
  trained = generative.load(out, made)
  assert trained.record['training'] == facts['training']
  assert trained.record['training']['flip'] is True
  with PIL.Image.open(tmp_path / 'g.png') as sheet:
    assert sheet.size == (10 * (6 * 12 + 2),) * 2
  attack['generator'] = {**GAN, 'path': str(out)}
  config = tiny.config(attack=attack, threat__level='D')
  assert build.setup(build.resolve(config)).attack.num_steps > 0


def test_a_trained_network_judges_a_generator(tmp_path):
  weights = tmp_path / 'w.npz'
  train.train_config(tiny.config(), weights, RECIPE)
  generator = dict(name='conditional_dcgan', width=2, latent=4)
  config = tiny.config(
    attack=dict(name='ggl', generator=generator),
    auxiliary=IMAGES,
    threat__level='D',
    weights__path=str(weights),
  )
  outcome = train.train_config(
    config, tmp_path / 'g.npz', RECIPE, part='generator'
  )
  facts = json.loads((tmp_path / 'g.json').read_text())
  assert facts['frechet_distance'] > 0.01
  # The training images are those of the audit.
  assert abs(facts['frechet_distance_of_training_images']) < 1e-6
  accuracy = json.loads((tmp_path / 'w.json').read_text())['accuracy']
  assert facts['classified_right_of_training_images'] == accuracy
  assert 'classified as asked' in outcome.text
  assert outcome.sheet is not None and np.isfinite(outcome.sheet).all()


INVERTING = dict(
  attack=dict(name='lti', generator=dict(name='lti', width=8, hashed=0)),
  **LEARNING,
)


def test_a_network_that_inverts_updates_is_of_one_victim(tmp_path):
  """Its file says of which; one of other weights or images is refused."""
  out = tmp_path / 'g.npz'
  outcome = train.train_config(
    tiny.config(**INVERTING), out, RECIPE, part='generator'
  )
  assert 'of the mean image' in outcome.text and outcome.sheet is None
  facts = json.loads((tmp_path / 'g.json').read_text())
  assert np.isfinite([facts['psnr'], facts['psnr_of_mean_image']]).all()
  entry = {**INVERTING['attack']['generator'], 'path': str(out)}
  audited = {**INVERTING, 'attack': dict(name='lti', generator=entry)}

  other = tmp_path / 'other'
  for i in range(16):
    (other / str(i)).mkdir(parents=True)
    picture = PIL.Image.new('RGB', (12, 12), (i, i, i))
    picture.save(other / str(i) / 'a.png')

  def setup(**changes):
    return build.setup(build.resolve(tiny.config(**{**audited, **changes})))

  assert setup().generator.sha256 == facts['sha256']
  setup(auxiliary={})
  folder = dict(name='folder', path=str(other), size=12)
  for changes, words in (
    (dict(seed=1), 'with weights='),
    (dict(client=dict(name='fedavg', learning_rate=1.0)), 'with client='),
    (dict(precision='bfloat16'), 'with precision='),
    (
      dict(threat__grants=('defense',), defense=NOISE),
      'with defense=',
    ),
    (dict(auxiliary=folder), 'in auxiliary'),
  ):
    with pytest.raises(ValueError, match=f'^Expected .*({words})'):
      setup(**changes)
  # The attacker's picture has no defence that it does not know.
  setup(defense=NOISE)
  arrays = archives.read(out)
  del arrays['provenance']
  archives.write(out, arrays)
  with pytest.raises(ValueError, match=r'^Expected a record of its training'):
    setup()


@pytest.mark.parametrize(
  ('changes', 'more', 'words'),
  [
    ({'sweep': {'seed': (1, 2)}}, {}, 'a point from 0 to 1 of the sweep'),
    ({}, {'out': 'w.txt'}, 'ends in .npz'),
    ({}, {'out': 'no/w.npz'}, 'a folder that can be written'),
    ({'defense': dict(name='x')}, {}, 'known defense'),
    ({}, {'part': 'x'}, 'a known part'),
    ({}, {'part': 'generator'}, 'an attack with a generator'),
    ({}, {'learning_rate': 1e30}, 'finite losses and weights'),
    ({}, {'critic_steps': 2}, 'an argument of federated training'),
    ({}, {'batch_size': 10**6}, 'a batch_size of 1 to'),
    (
      {'attack': dict(name='ggl', generator=GAN), **LEARNING},
      {'part': 'generator', 'momentum': 0.5},
      'an argument of adversarial training',
    ),
    (
      {'attack': dict(name='ggl', generator=GAN)},
      {'part': 'generator'},
      'other images than those of the audit',
    ),
    (
      {'attack': dict(name='ggl', generator=GAN), 'auxiliary': IMAGES},
      {'part': 'generator'},
      'grants that cover the needs',
    ),
    (
      {**INVERTING, 'cases__batch_size': 4},
      {'part': 'generator'},
      'images for batch_size=8 updates',
    ),
    (
      {
        'attack': dict(name='gifd', generator=dict(name='autoencoder_decoder')),
        'dataset': dict(name='photographs', size=16),
        'auxiliary': dict(name='photographs', size=16),
        'threat__level': 'D',
      },
      {'part': 'generator'},
      'a generator of samples',
    ),
  ],
)
def test_mistakes_write_nothing(tmp_path, changes, more, words):
  more = {'out': 'w.npz', 'part': 'model', **more}
  out, part = tmp_path / more.pop('out'), more.pop('part')
  recipe = RECIPE._replace(**more)
  with pytest.raises(ValueError, match=f'^Expected .*({words})'):
    train.train_config(tiny.config(**changes), out, recipe, part=part)
  assert not list(tmp_path.iterdir())


def test_what_is_not_of_this_training_stays(tmp_path):
  """Files in the folder of its checkpoints, and those of another training."""
  saved = tmp_path / 'w.training'
  (saved / 'checkpoints' / 'model.aside' / '0').mkdir(parents=True)
  (saved / 'mine').write_text('')
  train.train_config(tiny.config(), tmp_path / 'w.npz', RECIPE)
  left = sorted(str(p.relative_to(saved)) for p in saved.rglob('*'))
  assert left == [
    'checkpoints',
    'checkpoints/model.aside',
    'checkpoints/model.aside/0',
    'mine',
  ]


def test_a_config_says_how_often_training_is_saved(tmp_path, monkeypatch):
  class SeenError(Exception):
    pass

  def learn(learner, course, *, saving, **more):
    raise SeenError(saving.seconds)

  monkeypatch.setattr(train.learning, 'learn', learn)
  config = tiny.config(run__save_seconds=7.5)
  with pytest.raises(SeenError, match='7'):
    train.train_config(config, tmp_path / 'w.npz', RECIPE)


def test_what_changes_no_weights_changes_no_name():
  def owner(**changes):
    config = sweep.only(tiny.config(**{**INVERTING, **changes}), None).config
    lesson = lessons.generator(config, RECIPE, 'train')
    return train._owner({}, lesson)

  own = owner()
  for same in (
    dict(cases__count=3),
    dict(restarts=4),
    dict(run__save_seconds=5.0),
    dict(noise_controls=0),
  ):
    assert owner(**same) == own
  for other in (dict(seed=1), dict(precision='bfloat16')):
    assert owner(**other) != own
