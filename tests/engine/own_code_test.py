"""Rows that a config names by file: networks of the user's, and their files."""

import json
import sys

import pytest
import tiny

from giajax import main
from giajax.advice import trials
from giajax.engine import build
from giajax.engine import own_code
from giajax.engine import run
from giajax.models import inspect

NETS = """
from flax import linen, nnx
import giajax
import jax.numpy as jnp
from own_helper import act


class Ordinary(nnx.Module):
  def __init__(self, num_classes: int, width: int = 4, *, rngs):
    self.conv = nnx.Conv(3, width, (3, 3), strides=4, rngs=rngs)
    self.bn = nnx.BatchNorm(width, rngs=rngs)
    self.head = nnx.Linear(width, num_classes, rngs=rngs)

  def __call__(self, x):
    return self.head(act(self.bn(self.conv(x))).mean((1, 2)))


class Plain(linen.Module):
  num_classes: int = 16

  @linen.compact
  def __call__(self, x):
    return linen.Dense(self.num_classes)(x.mean((1, 2)))


plain = Plain()
number = 5


def own(image_shape, num_classes, scale: float = 1.0):
  spec = giajax.Spec('own', image_shape, num_classes, (0.5,) * 3, (0.5,) * 3)
  return giajax.from_callable(
    lambda key: {'w': jnp.ones((3, num_classes))},
    lambda params, x: scale * x.mean((1, 2)) @ params['w'],
    spec,
  )


def nothing(image_shape, num_classes):
  return 3
"""
HELPER = 'import jax\nact = lambda x: jax.nn.sigmoid(x)\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
  (tmp_path / 'nets.py').write_text(NETS)
  (tmp_path / 'own_helper.py').write_text(HELPER)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  for name in ('nets', 'own_helper'):
    monkeypatch.delitem(sys.modules, name, raising=False)
  return tmp_path


def _net(**model):
  return build.setup(build.resolve(tiny.config(model=model))).net


def test_networks_of_all_kinds(folder):
  net = _net(name='nets.py:Ordinary', width=3, normalisation='half')
  assert net.spec.name == 'Ordinary' and net.spec.mean == (0.5,) * 3
  assert net.spec.image_shape == (12, 12, 3) and net.spec.num_classes == 16
  assert inspect.norms(net) == ['bn'] and inspect.classifier(net) == 'head'
  assert _net(name='nets.py:Plain').spec.mean == (0.0,) * 3
  assert _net(name='nets.py:plain').spec.name == 'plain'
  assert _net(name='nets.py:own', scale=2.0).spec.name == 'own'
  assert _net(name='nets:Plain').spec.name == 'Plain'  # an importable module


@pytest.mark.parametrize(
  ('model', 'words'),
  [
    (dict(name='nets.py:Ordinry'), r'a name in nets.py \(.*mean .Ordinary'),
    (dict(name='net.py:Ordinary'), 'a Python file for model.name; got .net.py'),
    (dict(name='nets.py:Ordinary', widht=3), 'width.*widht.*mean .width'),
    (
      dict(name='nets.py:Ordinary', width='x'),
      'a whole number for model.width',
    ),
    (
      dict(name='nets.py:number'),
      'a function or a class for model.name=.*; got 5',
    ),
    (dict(name='nets.py:nothing'), 'a Net from model.name=.*; got int'),
    (dict(name='no such:Net'), 'FILE.py:NAME or package.module:NAME'),
    (dict(name='no_such:Net'), 'ModuleNotFoundError .*; install no_such'),
  ],
)
def test_mistakes_are_one_line(folder, model, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}') as error:
    _net(**model)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    (
      'import no_such_package',
      r'nets.py:1: No module named .*; install no_such',
    ),
    (
      '\nx = = 3',
      'SyntaxError at .*nets.py:2: invalid syntax; correct the file',
    ),
    ('\n\nx = 1 / 0', 'ZeroDivisionError at .*nets.py:3: division by zero'),
    ('raise SystemExit(0)', 'SystemExit at .*nets.py:1: 0'),
  ],
)
def test_a_file_that_fails_says_where(folder, text, words):
  (folder / 'nets.py').write_text(text)
  with pytest.raises(ValueError, match=f'^Expected a Python file .*{words}'):
    own_code.named('nets.py:Net', 'model')


def test_its_files_are_a_part_of_the_run(folder):
  """A changed one is refused by name, and one that it imports, too."""
  config = tiny.config(
    model=dict(name='nets.py:Ordinary'), attack__num_steps=2, cases__count=1
  )
  run.audit(config, folder / 'w')
  inputs = build.experiment(config).inputs
  assert {
    str(folder / 'nets.py'),
    str(folder / 'own_helper.py'),
  } <= inputs.keys()
  (folder / 'nets.py').write_text(NETS.replace('strides=4', 'strides=3'))
  with pytest.raises(ValueError, match=r'nets\.py.*another file than'):
    run.audit(config, folder / 'w')


def test_a_workdir_does_not_run_the_files_that_it_names(folder):
  config = tiny.config(
    model=dict(name='mlp'),
    sweep={'model.name': ['nets.py:Plain']},
    attack__num_steps=1,
    cases__count=1,
  )
  run.audit(config, folder / 'w')
  with pytest.raises(ValueError, match=r"^Expected .*got 'nets.py:Plain', who"):
    trials.advise(folder / 'w', only=['batch'])
  assert trials.advise(folder / 'w', only=['batch'], run_code=True)
  facts = json.loads((folder / 'w' / 'advice.json').read_text())
  assert facts['validation']['checks'] > 0


@pytest.mark.parametrize('name', ['plain', 'own', 'linear'])
def test_the_file_that_was_named_counts_whatever_it_names(folder, name):
  """An object of a library's class, and a function of another file."""
  with (folder / 'nets.py').open('a') as file:
    file.write('\nimport functools\nfrom giajax.models import MODELS\n')
    file.write('linear = functools.partial(MODELS["mlp"], widths=())\n')
  config = tiny.config(model=dict(name=f'nets.py:{name}'))
  assert str(folder / 'nets.py') in build.experiment(config).inputs
  generator = dict(name='nets.py:own')
  attack = dict(name='inverting_gradients', generator=generator)
  own = own_code.modules({'attack': attack})
  assert [module.__file__ for module in own] == [str(folder / 'nets.py')]


def test_a_factory_that_fails_says_where(folder):
  (folder / 'bad.py').write_text(
    'def net(image_shape, num_classes):\n  raise RuntimeError("a\\nb")\n'
  )
  words = r'RuntimeError at .*bad\.py:2: a b; correct it'
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    _net(name='bad.py:net')


def test_arguments_of_any_name_are_left_out(folder):
  (folder / 'more.py').write_text(
    'from flax import nnx\n'
    'class Net(nnx.Module):\n'
    '  def __init__(self, *args, rngs, **more):\n'
    '    self.head = nnx.Linear(432, 16, rngs=rngs)\n'
    '  def __call__(self, x):\n'
    '    return self.head(x.reshape(len(x), -1))\n'
  )
  assert _net(name='more.py:Net').spec.name == 'Net'


def test_the_command_line_names_one(folder):
  config = tiny.write(folder / 'config.py')
  command = ['giajax', f'--config={config}', '--workdir=w']
  model = '--config.model.name=nets.py:own', '--config.model.scale=0.5'
  assert main.main([*command, *model, '--config.cases.count=1']) == 0
  text = (folder / 'w' / 'report.html').read_text()
  assert 'own' in text


def test_any_family_may_be_of_the_users_own(folder):
  (folder / 'mine.py').write_text(
    'from giajax.defenses import noise\n'
    'def louder(scale: float = 0.1):\n'
    '  return noise.gaussian_noise(scale=10 * scale)\n'
  )
  own = dict(name='mine.py:louder', scale=0.2)
  config = tiny.config(defense=own)
  assert str(folder / 'mine.py') in build.experiment(config).inputs
  with pytest.raises(ValueError, match=r'a finite number for defense\.scale'):
    build.experiment(tiny.config(defense={**own, 'scale': 'x'}))
