"""Tests that an installed package holds every module of the checkout."""

import pathlib
import runpy

import pytest
import setuptools

from giajax.commands import configs

_ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def packages(monkeypatch):
  """Returns the packages that setup.py names, and their folders."""
  arguments = {}
  monkeypatch.chdir(_ROOT)
  monkeypatch.setattr(setuptools, 'setup', lambda **kw: arguments.update(kw))
  runpy.run_path('setup.py')
  mapped = arguments['package_dir']
  folders = {}
  for package in arguments['packages']:
    root = '.'.join(package.split('.')[:2])
    top = pathlib.Path(mapped.get(root, root.replace('.', '/')))
    folders[package] = _ROOT.joinpath(top, *package.split('.')[2:])
  return folders


def test_every_module_is_in_a_package(packages):
  modules = {
    file.parent
    for root in ('giajax', 'configs', 'launch')
    for file in (_ROOT / root).rglob('*.py')
  }
  assert modules == set(packages.values())
  for name in ('giajax.configs.studies', 'giajax.launch', 'giajax.engine'):
    assert name in packages
  assert all(name.split('.')[0] == 'giajax' for name in packages)


@pytest.mark.parametrize('installed', [True, False])
def test_names_of_configs_are_looked_up(monkeypatch, tmp_path, installed):
  inside, beside = tmp_path / 'giajax' / 'configs', tmp_path / 'configs'
  for folder in (inside, beside) if installed else (beside,):
    folder.mkdir(parents=True)
    (folder / 'mine.py').touch()
  monkeypatch.setattr(configs, '_FOLDERS', (inside, beside))
  assert (
    configs._locate('mine') == (inside if installed else beside) / 'mine.py'
  )
