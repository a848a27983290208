"""Tests of the reader of configs."""

import jax
import numpy as np
from PIL import Image
import pytest
import tiny

from giajax import trees
from giajax.engine import build
from giajax.engine import setting
from giajax.models import convert


def _setup(**changes):
  return build.setup(build.resolve(tiny.config(**changes)))


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'attack': {'name': 'dlgg'}}, r"known attack \(.*dlg.*\).*'dlgg'.*'dlg'"),
    ({'model': {'name': 'vgg'}}, r'known model \(.*convnet.*mlp'),
    ({'dataset': {'name': 'cifar'}}, r'known dataset \(.*photographs'),
    ({'task': {'name': 'x'}}, r'known task \(classification'),
    ({'client': {'name': 'fedavgg'}}, r'known client \(.*fedsgd'),
    ({'defense': {'name': 'x'}}, r'known defense \(.*gaussian_noise'),
    ({'labels': 'guess'}, r'known label rule \(.*granted, idlg'),
    ({'threat__level': 'Z'}, r'known threat level \(A, B'),
    (
      {'labels': 'idlg', 'attack': {'name': 'dlg'}},
      r"labels='granted' for an attack that finds its own",
    ),
    ({'threat__grants': ('gold',)}, r'known grant \(.*labels'),
    ({'run__lowering': 'fft'}, r'known run.lowering \(auto'),
    ({'trainable': {'include': ('fd.*',)}}, r"name parameters of .*'fd"),
    ({'attack': {'name': 3}}, 'a string for attack.name; got attack.name=3'),
    ({'attack': {'num_steps': 3}}, 'attack.name; got .* name one of'),
    (
      {'attack': {'name': 'dlg', 'num_steps': 'many'}},
      'a whole number for attack.num_steps',
    ),
    (
      {'model': {'name': 'mlp', 'width': 3}},
      r"key of model \(mlp\): .*'widths'",
    ),
    ({'attack': {'name': 'dlg', 'world': 3}}, r'a key of attack \(dlg\)'),
    ({'attack__num_steps': 0}, 'num_steps=0'),
    ({'defense': {'name': 'gaussian_noise'}}, 'defense.scale for defense'),
    ({'threat__grants': ()}, r'grants that cover the needs .* without labels'),
    ({'threat__level': 'A'}, r'grants that cover .*, without batch_size'),
    ({'attack__start': 'target'}, r'grants that cover .*, without target;'),
    ({'weights__path': '/nowhere.npz'}, 'a file of weights'),
    ({'lpips': '/nowhere.npz'}, ''),
  ],
)
def test_mistakes_are_named(changes, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    _setup(**changes)


@pytest.fixture(scope='module')
def weights():
  """Returns a state dict of the tiny network."""
  return convert.to_state_dict(_setup().variables)


def _saved(path, arrays):
  np.savez(path, **arrays)
  return {'weights__path': str(path)}


def test_weights_are_read(tmp_path, weights):
  setup = _setup(**_saved(tmp_path / 'w.npz', weights))
  jax.tree.map(
    np.testing.assert_array_equal, setup.variables, _setup().variables
  )
  # Random weights stay untrained in a file.
  assert 'untrained weights' in setting.describe(setup, 0)['setting_reasons']


def test_weights_of_another_network(tmp_path, weights):
  names = [*weights]
  changed = {f'x.{n}' if n == names[0] else n: v for n, v in weights.items()}
  with pytest.raises(
    ValueError,
    match=f'missing: {names[0]}; surplus: x.{names[0]}',
  ):
    _setup(**_saved(tmp_path / 'w.npz', changed))


def test_damaged_weights(tmp_path, weights):
  changes = _saved(tmp_path / 'w.npz', weights)
  content = (tmp_path / 'w.npz').read_bytes()
  (tmp_path / 'w.npz').write_bytes(content[: len(content) // 2])
  with pytest.raises(ValueError, match=r'^Expected a whole npz'):
    _setup(**changes)
  bad = {name: np.full_like(v, np.nan) for name, v in weights.items()}
  with pytest.raises(ValueError, match=r'not finite'):
    _setup(**_saved(tmp_path / 'w.npz', bad))


def test_weights_are_never_unpickled(tmp_path, weights):
  class Bomb:
    def __reduce__(self):
      return (pytest.fail, ('unpickled',))

  pickled = {**weights, 'x': np.array([Bomb()], object)}
  with pytest.raises(
    ValueError, match=r'^Expected a whole npz of plain arrays'
  ):
    _setup(**_saved(tmp_path / 'w.npz', pickled))


def test_an_update_may_cover_a_part():
  setup = _setup(trainable={'include': ('*',), 'freeze': ('*kernel',)})
  names = trees.named_leaves(setup.variables.params)
  assert names
  assert all(name.endswith('bias') for name in names)


def test_defences_change_the_network_and_know_the_classes():
  setup = _setup(defense={'name': 'precode', 'size': 3})
  encoder = setup.variables.params['layers']['1']['before']['encoder']
  assert encoder['kernel'].shape == (8, 6)
  assert setup.world.net is setup.net is setup.client.net
  setup = _setup(defense={'name': 'mixup'}, cases__batch_size=2)
  batch = setup.dataset.take(np.arange(2))
  mixed = setup.defense.on_batch(jax.random.key(0), batch)
  assert mixed.y.shape == (2, setup.dataset.num_classes)


def test_no_level_is_single_grants():
  setup = _setup(
    threat={'level': None, 'grants': ('labels', 'model', 'batch_size')}
  )
  assert setup.granted == {'labels', 'model', 'batch_size'}


def test_a_start_from_the_truth_is_diagnostic():
  setup = _setup(attack__start='target', threat__grants=('labels', 'target'))
  assert 'known images' in setting.describe(setup, 0)['setting_reasons']
  assert setup.attack.hparams['noised_fraction'] == 0.5
  # What is granted and not used does not count.
  unused = setting.describe(_setup(threat__grants=('labels', 'target')), 0)
  assert 'known images' not in unused['setting_reasons']


def test_knobs_are_float32_and_default():
  resolved = build.resolve(tiny.config(attack__learning_rate=1))
  hp = build.hparams(resolved['attack'], build.setup(resolved).attack)
  assert hp['learning_rate'] == 1
  assert {value.dtype for value in hp.values()} == {np.dtype(np.float32)}


def test_cifar_and_trained_weights(shared_data):
  resolved = build.resolve(
    tiny.config(
      dataset={
        'name': 'tfds',
        'dataset': 'cifar10',
        'split': 'test[:50]',
        'data_dir': str(shared_data / 'tfds'),
      },
      model={'name': 'resnet20'},
      weights__path=str(
        shared_data / 'weights' / 'cifar10_resnet' / 'resnet20.npz'
      ),
    )
  )
  setup = build.setup(resolved)
  assert setup.dataset.image_shape == (32, 32, 3)
  with pytest.raises(ValueError, match=r'^Expected the .* missing'):
    build.setup({**resolved, 'model': {'name': 'resnet32'}})


def test_traced_knobs_alone_share_a_cohort():
  config = tiny.config(
    attack__start='target', threat__grants=('labels', 'target')
  )
  config.sweep = {
    'attack.learning_rate': (0.1, 0.2, 0.3),
    'attack.noised_fraction': (0.0, 0.5),  # of the start, not of the factory
    'attack.num_steps': (2, 3),
  }
  cohorts = build.experiment(config).cohorts
  assert [[p.index for p in cohort.points] for cohort in cohorts] == [
    [0, 2, 4, 6, 8, 10],
    [1, 3, 5, 7, 9, 11],
  ]
  assert cohorts[1].points[-1].hp == pytest.approx(
    {'learning_rate': 0.3, 'total_variation': 0, 'noised_fraction': 0.5}
  )


def test_a_learning_rate_is_checked_at_every_point():
  config = tiny.config(sweep={'attack.learning_rate': (0.1, -0.1)})
  with pytest.raises(ValueError, match=r'learning_rate > 0; got .*-0.1'):
    build.experiment(config)


def test_defences_are_chained():
  chain = [{'name': 'pruning', 'keep': 0.5}, {'name': 'none'}]
  setup = _setup(defense=chain)
  assert setup.defense.on_client is not None
  with pytest.raises(ValueError, match='known defense'):
    _setup(defense=[{'name': 'pruning', 'keep': 0.5}, {'name': 'prunning'}])


def test_settings_share_the_data_set_that_they_name():
  config = tiny.config(sweep={'restarts': (1, 2), 'dataset.size': (8, 12)})
  cohorts = build.experiment(config).cohorts
  sets = [cohort.setup.dataset for cohort in cohorts]
  assert sets[0] is sets[2] and sets[1] is sets[3]
  assert [s.image_shape[0] for s in sets] == [8, 12, 8, 12]


def _folders(path, classes, size=12):
  """Writes an image to each class of a folder."""
  for k in range(classes):
    folder = path / f'{k:02d}'
    folder.mkdir(parents=True)
    image = np.random.default_rng(k).integers(0, 256, (size, size, 3))
    Image.fromarray(image.astype(np.uint8)).save(folder / 'x.png')
  return {'name': 'folder', 'path': str(path), 'size': size}


def test_auxiliary_data_are_like_the_data_set(tmp_path):
  entry = _folders(tmp_path / 'a', 16)
  config = tiny.config(auxiliary=entry, sweep={'cases.batch_size': (1, 2)})
  made = build.experiment(config)
  sets = [cohort.setup.auxiliary for cohort in made.cohorts]
  assert sets[0] is sets[1] is not None
  assert sets[0] is not made.cohorts[0].setup.dataset
  # Its files decide the results, and its name the compiled program does not.
  assert {str(path) for path in sets[0].files} <= made.inputs.keys()
  assert made.cohorts[0].setup.program == _setup().program
  assert _setup().auxiliary is None


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (dict(size=8), r'photographs of shape \(12, 12, 3\).*auxiliary=a of.*8, 8'),
    (dict(path='/nowhere'), 'folder of images; got path'),
    (dict(size='x'), 'auxiliary.size'),
    (dict(side=8), 'auxiliary'),
    (dict(name='foldr'), "known auxiliary .* did you mean 'folder'"),
  ],
)
def test_other_auxiliary_data_are_refused(changes, words, tmp_path):
  entry = _folders(tmp_path / 'a', 16)
  with pytest.raises(ValueError, match=f'^Expected .*{words}') as error:
    _setup(auxiliary={**entry, **changes})
  assert '\n' not in str(error.value)
  with pytest.raises(ValueError, match=r'in 16 classes; .* in 3 classes'):
    _setup(auxiliary=_folders(tmp_path / 'b', 3))
  with pytest.raises(ValueError, match=r'auxiliary\.name'):
    _setup(auxiliary={'path': entry['path']})
