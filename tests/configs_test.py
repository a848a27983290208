"""Tests that every experiment can be read, planned and built."""

import ast
import importlib.util
import pathlib

import pytest

from giajax.engine import build
from giajax.engine import generators
from giajax.engine import sweep
from giajax.engine import systems
from giajax.generative import base as generative
from giajax.models import inspect

_ROOT = pathlib.Path(__file__).resolve().parents[1] / 'configs'
_FILES = sorted(f for f in _ROOT.rglob('*.py') if f.name != '__init__.py')
_NAMES = [str(f.relative_to(_ROOT).with_suffix('')) for f in _FILES]
_CARD_LINES = 4


def _load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec
  assert spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _of_no_file(entry, world, lowering):
  generator = generators.untrained(entry, world, lowering)
  return generative.Trained(
    generator, inspect.abstract_variables(generator), ''
  )


@pytest.mark.parametrize('path', _FILES, ids=_NAMES)
def test_card_has_its_command(path):
  card = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
  assert card
  assert len(card.splitlines()) >= _CARD_LINES
  name = str(path.relative_to(_ROOT).with_suffix(''))
  assert f'giajax --config={name} --workdir=' in card


@pytest.mark.parametrize('path', _FILES, ids=_NAMES)
def test_both_sizes_expand(path):
  module = _load(path)
  whole = sweep.expand(module.get_config())
  local = sweep.expand(module.get_config('runlocal'))
  assert 1 <= len(local) <= len(whole)
  steps = [p[0].config['attack'].get('num_steps', 0) for p in (local, whole)]
  assert steps[0] <= steps[1]


@pytest.mark.parametrize('path', _FILES, ids=_NAMES)
def test_small_size_is_built(path, request, monkeypatch):
  # Drawing the weights of each network would take most of the time.
  monkeypatch.setattr(
    systems, 'variables', lambda net, *_: inspect.abstract_variables(net)
  )
  # Their files are made by `giajax train`.
  monkeypatch.setattr(generators, 'trained', _of_no_file)
  monkeypatch.setattr(generators, 'check', lambda *_: None)
  config = _load(path).get_config('runlocal')
  resolved = build.resolve(config)
  if resolved['dataset']['name'] == 'tfds':
    data = request.getfixturevalue('shared_data')
    config.dataset.data_dir = str(data / 'tfds')
    if resolved['auxiliary']:  # which are of a split that is not there
      config.auxiliary = dict(config.dataset)
  elif resolved['dataset']['name'] == 'folder':  # of the user's own
    config.dataset = {**resolved['dataset'], 'name': 'photographs'}
    del config.dataset['path']
  for cohort in build.experiment(config).cohorts:
    assert cohort.points
    assert cohort.setup.attack.num_steps >= 0
