"""Tests of giajax.commands.dispatch: which command a command line names."""

import importlib

import commandline
import pytest

import giajax
from giajax import main
from giajax.commands import dispatch


def _out(capsys, *arguments):
  assert main.main(['giajax', *arguments]) == 0
  out, err = capsys.readouterr()
  assert err == ''
  return out


def test_version(capsys):
  assert _out(capsys, '--version') == f'giajax {giajax.__version__}\n'


def test_list(capsys):
  out = _out(capsys, '--list')
  for name in ('inverting_gradients', 'photographs', 'total_variation', 'mlp'):
    assert f'\n  {name} ' in out


def test_help(capsys):
  out = _out(capsys, '--help')
  assert out.startswith(main.__doc__.strip())
  assert '  --shard=0/1\n' in out
  for name in dispatch.COMMANDS:
    assert name == 'run' or f'giajax {name} ' in out


@pytest.mark.parametrize('name', dispatch.COMMANDS)
def test_every_command_has_help(capsys, name):
  command = importlib.import_module(f'giajax.commands.{name}')
  out = _out(capsys, name, '--help')
  assert _out(capsys, name, '--nonsense=x', 'y', '--help') == out
  assert out.startswith(command.__doc__.strip())
  for flag in command.FLAGS:
    assert f'\n  --{flag.name}' in out
    assert flag.help[0].isupper() and flag.help.endswith('.')
  assert command.USAGE in ' '.join(command.__doc__.split())


@pytest.mark.parametrize(
  ('word', 'advice'),
  [('trian', "did you mean 'train'?"), ('', 'advise, audit')],
)
def test_no_such_command(capsys, word, advice):
  assert advice in commandline.complaint(capsys, word)
