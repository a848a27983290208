"""Tests that an installed package holds every module of the checkout."""

import ast
import pathlib
import runpy
import subprocess
import sys

import pytest
import setuptools

import giajax
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


def test_names_are_imported_when_they_are_used():
  """JAX takes a second, in which a command has to answer signals."""
  code = "import giajax, sys; assert 'jax' not in sys.modules"
  subprocess.run([sys.executable, '-c', code], cwd=_ROOT, check=True)
  assert giajax.__all__ == sorted(giajax._MODULES)
  assert {*giajax.__all__} <= {*dir(giajax)}
  for name, module in giajax._MODULES.items():
    assert getattr(giajax, name) is getattr(sys.modules[module], name)
  # What editors and type checkers see.
  tree = ast.parse(pathlib.Path(giajax.__file__).read_text(encoding='utf-8'))
  block, _ = [node for node in tree.body if isinstance(node, ast.If)]
  shown = {
    alias.name: node.module
    for node in block.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
  }
  assert shown == giajax._MODULES
  with pytest.raises(AttributeError, match=r"'giajax' .* 'nosuch'"):
    giajax.nosuch  # noqa: B018


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
