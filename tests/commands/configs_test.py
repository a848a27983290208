"""Tests of giajax.commands.configs: config files, and what overrides them."""

import inspect
import logging

import commandline
import pytest

from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import build
from giajax.engine import schema
from giajax.engine import tables

_FAILING = '''"""A card."""
from giajax.engine import build


def get_config(arg=None):
  config = build.default_config()
  {line}
  return config
'''


def _arguments(config, *words):
  argv = [f'--config={config}', *words]
  return flags.read('giajax', 'giajax', (flags.CONFIG,), argv)


def _changed(overrides, config=None):
  return configs.override(config or build.default_config(), overrides)


def test_names_are_found_in_configs():
  assert configs.load(_arguments('quickstart'))['attack']['name'] == 'dlg'
  whole, small = (
    configs.load(_arguments(f'quickstart{arg}'))['cases']['count']
    for arg in ('', ':runlocal')
  )
  assert whole > small


def test_commands_are_left_out_of_the_card(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text(
    '"""A title.\n\n  giajax --config=a --workdir=b \\\n    --config.c=d\n'
    '  python -m giajax.launch.local --config=a\n\n'
    'What it shows with `giajax`.\n\n  part  of it\n"""\n'
  )
  assert configs.card(_arguments(path)) == (
    'A title.\n\nWhat it shows with `giajax`.\n\n  part  of it'
  )
  path.write_text('x = 1\n')
  assert configs.card(_arguments(path)) == ''


@pytest.mark.parametrize(
  'line, words',
  [
    ('import nosuchmodule', 'ModuleNotFoundError at {f}:7: No module named'),
    ('raise RuntimeError("two\\nlines")', 'RuntimeError at {f}:7: two lines;'),
    ('import sys; sys.exit(3)', 'SystemExit at {f}:7: 3;'),
    ('raise KeyboardInterrupt', 'KeyboardInterrupt at {f}:7; correct'),
    ('class Own(BaseException): pass\n  raise Own(1)', 'Own at {f}:8: 1;'),
    ('config.cases.cuont = 1', 'AttributeError at {f}:7: '),
    ('config["atack"] = 1', 'KeyError at {f}:7: '),
    ('1 +', 'SyntaxError at {f}:7: invalid syntax;'),
    ('int("x")', 'ValueError at {f}:7: invalid literal'),
    ('build.resolve()', 'TypeError at {f}:7: resolve() missing'),
    ('return 3', 'a config from get_config of {f}; got 3;'),
    ('return None', 'got None; return one that build.default_config() makes'),
    ('raise ValueError("Expected a; got b; do c")', 'Expected a; got b; do c'),
  ],
)
def test_a_config_file_that_fails_is_one_line(capsys, tmp_path, line, words):
  path = tmp_path / 'config.py'
  path.write_text(_FAILING.format(line=line))
  arguments = [f'--config={path}', f'--workdir={tmp_path}/run']
  message = commandline.complaint(capsys, *arguments)
  assert words.format(f=path) in message
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'text, words',
  [
    ('x = (', 'SyntaxError at {f}:1: '),
    ('x = 1', "AttributeError at {f}: module 'giajax_config' has no attribute"),
    ('import helper_that_fails', 'SyntaxError at {h}:2: '),
    ('def get_config():\n  pass', 'TypeError at {f}: get_config() takes 0'),
  ],
)
def test_the_line_of_a_mistake_is_named(
  capsys, tmp_path, monkeypatch, text, words
):
  path, helper = tmp_path / 'config.py', tmp_path / 'helper_that_fails.py'
  path.write_text(text)
  helper.write_text('\nx = )\n')
  monkeypatch.syspath_prepend(tmp_path)
  message = commandline.complaint(
    capsys, f'--config={path}:arg', '--workdir=nowhere'
  )
  assert words.format(f=path, h=helper) in message


def test_classes_of_a_config_file_find_their_module(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text(
    'import dataclasses\nfrom typing import ClassVar\n'
    'from giajax.engine import build\n'
    '@dataclasses.dataclass\nclass Row:\n  x: "ClassVar[int]" = 1\n'
    'def get_config():\n  config = build.default_config()\n'
    '  config.seed = Row().x\n  return config\n'
  )
  assert configs.load(_arguments(path))['seed'] == 1


def test_keys_that_the_file_does_not_name_are_set():
  changed = _changed(
    {
      'client.train_mode': 'True',
      'defense.keep': '1',
      'defense.name': 'pruning',
      'dataset.path': '2020',
      'dataset.name': 'folder',
      'dataset.size': '8',
      'model.widths': '64',
      'model.name': 'mlp',
      'attack.total_variation': '1e-3',
      'belief.epochs': '2',
      'belief.name': 'fedavg',
      'threat.level': 'None',
      'threat.grants': 'labels,defense',
      'cases.given': '3,4',
      'trainable.include': 'fc.*',
    }
  )
  assert changed['client'] == {'name': 'fedsgd', 'train_mode': True}
  assert changed['defense'] == {'name': 'pruning', 'keep': 1.0}
  assert isinstance(changed['defense']['keep'], float)
  assert changed['dataset'] == {'name': 'folder', 'path': '2020', 'size': 8}
  assert changed['model'] == {'name': 'mlp', 'widths': (64,)}
  assert changed['attack']['total_variation'] == 1e-3
  assert changed['belief'] == {'name': 'fedavg', 'epochs': 2}
  assert changed['threat']['level'] is None
  assert changed['threat']['grants'] == ('labels', 'defense')
  assert changed['cases']['given'] == (3, 4)
  assert changed['trainable']['include'] == ('fc.*',)


def _text(default):
  return default if isinstance(default, str) else repr(default)


def test_the_families_are_those_of_a_config():
  assert set(tables.FAMILIES) == set(schema.FAMILIES)


_ARGUMENTS = [
  (family, name, parameter)
  for family, table in tables.FAMILIES.items()
  for name, factory in table.items()
  for parameter in inspect.signature(factory).parameters.values()
  if parameter.default is not parameter.empty
]


def test_every_argument_of_every_row_can_be_set():
  kinds = set()
  for family, name, parameter in _ARGUMENTS:
    key, default = f'{family}.{parameter.name}', parameter.default
    overrides = {f'{family}.name': name, key: _text(default)}
    value = _changed(overrides, {})[family][parameter.name]
    assert value == default, (family, name, parameter)
    # As `build` checks it.
    schema.check_argument(value, parameter.annotation, key)
    kinds.add(type(value))
  assert kinds >= {bool, int, float, str, tuple, type(None)}


def test_an_unknown_argument_lists_what_the_row_takes(capsys, tmp_path):
  config, workdir = commandline.write(tmp_path), tmp_path / 'run'
  for override, words in {
    'client.train_mod=True': "train_mode; got 'train_mod'; did you mean",
    'model.width=3': "mlp): .*widths; got 'width'; did you mean 'widths'?",
    'attack.x=1': 'attack (inverting_gradients): distance, ',
    'atack.x=1': "got 'atack'; did you mean 'attack'?",
    'seed.x=1': 'got --config.seed.x, but seed is 0',
    'restarts=x': "a whole number for restarts; got restarts='x'",
    'client.train_mode=maybe': 'True or False for client.train_mode',
    "model={'a': 1}": 'model.name',
  }.items():
    arguments = f'--config={config}', f'--workdir={workdir}'
    line = commandline.complaint(capsys, *arguments, f'--config.{override}')
    for part in words.split('.*'):
      assert part in line
  assert not workdir.exists()


def test_a_new_name_drops_the_arguments_of_the_old_row(caplog):
  config = build.default_config()
  config.model = dict(name='convnet', width=4)
  with caplog.at_level(logging.INFO, 'giajax'):
    # In either order of the command line.
    overrides = {'model.blocks': '1,1,1,1', 'model.name': 'resnet18'}
    changed = _changed(overrides, config)
  assert changed['model'] == {'name': 'resnet18', 'blocks': (1, 1, 1, 1)}
  assert caplog.messages == [
    "--config.model.name=resnet18 replaces the config file's model, "
    "{'name': 'convnet', 'width': 4}"
  ]
  caplog.clear()
  changed = _changed({'model.name': 'convnet'}, config)
  assert changed['model'] == {'name': 'convnet', 'width': 4}
  assert caplog.messages == []
  config.defense = [dict(name='pruning'), dict(name='quantization')]
  with caplog.at_level(logging.INFO, 'giajax'):
    assert _changed({'defense.name': 'none'}, config)['defense'] == {
      'name': 'none'
    }
  assert 'quantization' in caplog.messages[0]
  with pytest.raises(ValueError, match=r'^Expected .* and has no keys'):
    _changed({'defense.keep': '0.1'}, config)
  for entry in (10**20, True, 'pruning', [], None):  # whatever it is
    changed = _changed({'defense.name': 'none'}, {'defense': entry})
    assert changed['defense'] == {'name': 'none'}


def test_an_overridden_key_leaves_the_sweep(caplog):
  config = build.default_config()
  config.sweep = {'cases.batch_size': (1, 2), 'attack': ({'name': 'dlg'},)}
  with caplog.at_level(logging.INFO, 'giajax'):
    changed = _changed({'cases.batch_size': '3', 'model.width': '4'}, config)
  assert list(changed['sweep']) == ['attack']
  assert changed['cases']['batch_size'] == 3
  assert caplog.messages == [
    '--config.cases.batch_size replaces the sweep over cases.batch_size'
  ]
  with pytest.raises(
    ValueError, match=r'^Expected .* a sweep over attack; set'
  ):
    _changed({'attack.num_steps': '3'}, config)
  assert _changed({'sweep': '{}'}, config)['sweep'] == {}
  changed = _changed({'sweep.cases.count': '1,2'}, config)
  assert changed['sweep']['cases.count'] == (1, 2)
