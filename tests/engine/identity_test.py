"""Tests of what a run is: its config and every file that it reads."""

import pathlib
import sys

import numpy as np
from PIL import Image
import pytest
import tiny

from giajax import archives
from giajax.attacks import ATTACKS
from giajax.attacks.parts import labels
from giajax.engine import build
from giajax.engine import identity
from giajax.engine import run
from giajax.engine import systems
from giajax.models import convert

_CLASSES = """
import {helper}
from giajax.attacks.parts import labels


def rule(world):
  return {helper}.Reader(world)


labels.RULES['own'] = rule
"""
_PLUGIN = """
from giajax.attacks import ATTACKS
from giajax.attacks.closed_form import linear_layer
import {helper}


def own(world):
  {helper}.touch()
  return linear_layer.linear_layer(world)


ATTACKS['own'] = own
"""


def _closed_form(**changes):
  """Returns the cheapest audit."""
  return tiny.config(
    attack={'name': 'linear_layer'},
    cases__count=1,
    restarts=1,
    noise_controls=0,
    **changes,
  )


def _weights(path, seed):
  setup = build.setup(build.resolve(tiny.config(seed=seed)))
  np.savez(path, **convert.to_state_dict(setup.variables))


def _images(folder, seed):
  rng = np.random.default_rng(seed)
  folder.mkdir(exist_ok=True)
  for name in 'abc':
    pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'{name}.png')


def _refused(config, workdir, path):
  rows = (workdir / 'results.jsonl').read_bytes()
  meta = (workdir / 'config.json').read_bytes()
  with pytest.raises(ValueError, match=r'^Expected the files that') as error:
    run.audit(config, workdir)
  assert str(path) in str(error.value)
  assert 'choose another --workdir' in str(error.value)
  assert (workdir / 'results.jsonl').read_bytes() == rows
  assert (workdir / 'config.json').read_bytes() == meta


def test_other_weights_under_the_same_name(tmp_path):
  path, workdir = tmp_path / 'w.npz', tmp_path / 'run'
  _weights(path, 0)
  config = _closed_form(weights__path=str(path))
  run.audit(config, workdir)
  run.audit(config, workdir)  # the same files: nothing to do
  _weights(path, 1)
  _refused(config, workdir, path)


def test_other_images_in_the_same_folder(tmp_path):
  folder, workdir = tmp_path / 'images', tmp_path / 'run'
  _images(folder, 0)
  dataset = {'name': 'folder', 'path': str(folder), 'size': 12}
  config = _closed_form(dataset=dataset)
  run.audit(config, workdir)
  _images(folder, 1)
  _refused(config, workdir, folder / 'a.png')


def test_another_start_image(tmp_path):
  _images(tmp_path / 'images', 0)
  path = tmp_path / 'images' / 'a.png'
  config = build.resolve(tiny.config(attack__start=f'image:{path}'))
  before = identity.inputs(config, ())
  assert [*before] == [str(path)]
  _images(tmp_path / 'images', 1)
  with pytest.raises(ValueError, match=r'^Expected the files that .*a.png'):
    identity.check(before, identity.inputs(config, ()), tmp_path)


def test_weights_of_a_generator_inside_of_an_attack(tmp_path):
  path = tmp_path / 'g.npz'
  np.savez(path, a=np.zeros(1))
  generator = {'name': 'dcgan', 'weights': str(path)}
  config = build.resolve(tiny.config(attack={'name': 'a', 'on': generator}))
  assert identity.inputs(config, ()) == {str(path): archives.sha256(path)}


def test_the_python_of_a_users_own(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(ATTACKS, 'own', None)
  helper = 'helper_of_identity_test'
  (tmp_path / f'{helper}.py').write_text('def touch():\n  pass\n')
  plugin = tmp_path / 'plugin_of_identity_test.py'
  plugin.write_text(_PLUGIN.format(helper=helper))
  __import__(plugin.stem)
  workdir = tmp_path / 'run'
  config = _closed_form()
  config.attack = {'name': 'own'}
  run.audit(config, workdir)
  (tmp_path / f'{helper}.py').write_text('def touch():\n  return 1\n')
  _refused(config, workdir, tmp_path / f'{helper}.py')
  for name in (helper, plugin.stem):
    del sys.modules[name]


def test_python_is_followed_through_classes_and_to_label_rules(
  tmp_path, monkeypatch
):
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(labels.RULES, 'own', None)
  helper, plugin = (
    tmp_path / f'{name}_of_classes_test.py' for name in ('helper', 'plugin')
  )
  helper.write_text('class Reader:\n  pass\n')
  plugin.write_text(_CLASSES.format(helper=helper.stem))
  __import__(plugin.stem)
  rows = build.rows(build.resolve(tiny.config()))
  assert {*identity.inputs({}, rows)} == {str(helper), str(plugin)}
  for name in (helper.stem, plugin.stem):
    del sys.modules[name]


def test_packages_of_a_user_are_no_inputs(tmp_path, monkeypatch):
  folder = tmp_path / 'lib' / 'site-packages'
  folder.mkdir(parents=True)
  (folder / 'package_of_identity_test.py').write_text('def row():\n  pass\n')
  monkeypatch.syspath_prepend(folder)
  row = __import__('package_of_identity_test').row
  assert identity.inputs({}, [row]) == {}
  del sys.modules['package_of_identity_test']


def test_nothing_of_giajax_or_of_packages_is_an_input():
  config = build.resolve(tiny.config())
  assert build.experiment(config).inputs == {}


@pytest.mark.parametrize('listed', [1, 64])
def test_an_image_of_another_class_is_another_input(
  tmp_path, monkeypatch, listed
):
  monkeypatch.setattr(identity, '_LISTED', listed)
  _images(tmp_path / 'pool', 0)
  entry = {'name': 'folder', 'path': str(tmp_path / 'images'), 'size': 12}

  def inputs(places):
    for kind in ('cat', 'dog'):
      (tmp_path / 'images' / kind).mkdir(parents=True, exist_ok=True)
    for name, place in places.items():
      link = tmp_path / 'images' / place / f'{name}.png'
      link.symlink_to(tmp_path / 'pool' / f'{name}.png')
    return identity.images(systems.dataset(entry))

  before = inputs({'a': 'cat', 'b': 'cat', 'c': 'dog'})
  (tmp_path / 'images' / 'cat' / 'b.png').unlink()
  after = inputs({'b': 'dog'})
  with pytest.raises(ValueError, match=r'^Expected the files that'):
    identity.check(before, after, tmp_path)


def test_many_files_have_one_sum(tmp_path, monkeypatch):
  monkeypatch.setattr(identity, '_LISTED', 2)
  _images(tmp_path / 'images', 0)
  entry = {'name': 'folder', 'path': str(tmp_path / 'images'), 'size': 12}
  (name,) = identity.images(systems.dataset(entry))
  assert name == f'{pathlib.Path(tmp_path / "images").resolve()} (3 files)'
