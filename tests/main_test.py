"""Tests of giajax.main: what every command has in common."""

import ast
import logging
import pathlib

import commandline
import pytest

from giajax import interrupts
from giajax import main
from giajax.commands import configs
from giajax.commands import dispatch
from giajax.commands import run
from giajax.engine import signals

_COMMANDS = pathlib.Path(main.__file__).parent / 'commands'


@pytest.mark.parametrize('name', dispatch.COMMANDS)
def test_commands_are_short_and_apart(name):
  text = (_COMMANDS / f'{name}.py').read_text(encoding='utf-8')
  imported = {
    alias.name
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.ImportFrom) and node.module == 'giajax.commands'
    for alias in node.names
  }
  assert 'flags' in imported
  assert not imported & set(dispatch.COMMANDS)


def test_bugs_keep_their_trace(monkeypatch):
  def broken(arguments):
    raise ValueError('no user did this')

  monkeypatch.setattr(run, 'run', broken)
  with pytest.raises(ValueError, match=r'no user'):
    main.main(['giajax', '--config=smoke', '--workdir=x'])


@pytest.mark.parametrize('command', ['train', 'craft', 'verify'])
def test_memory_that_a_command_lacks_is_one_line(command, monkeypatch, capsys):
  def full(*args, **kwargs):
    raise MemoryError('no room')

  monkeypatch.setattr(configs, 'load', full)
  needed = {
    'train': ['--out=x.npz'],
    'craft': ['--out=x.npz'],
    'verify': ['--received=x.npz'],
  }
  words = ['giajax', command, '--config=smoke', *needed[command]]
  assert main.main(words) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('giajax: Expected work that fits into the memory; got')


def test_a_stopped_run_has_its_own_code(monkeypatch, capsys):
  def stopped(arguments):
    raise signals.Interrupted('saved at step 3')

  monkeypatch.setattr(run, 'run', stopped)
  monkeypatch.setattr(interrupts._command, 'said', False)  # by no other test
  assert main.main(['giajax', '--config=smoke', '--workdir=x']) == 85
  assert capsys.readouterr().err == (
    'giajax: saved at step 3; the same command continues\n'
  )


def test_what_is_said_of_foreign_names_is_one_plain_line(capsys, monkeypatch):
  evil = 'x\x1b[2J\ngiajax: fine\udce9'
  line = commandline.complaint(capsys, evil)
  assert r"command='x\x1b[2J\ngiajax: fine\udce9'" in line

  def logging_command(arguments):
    logging.getLogger('giajax').info('%s', arguments.values.workdir)
    raise ValueError(f'Expected a; got {arguments.values.workdir}; do')

  monkeypatch.setattr(run, 'run', logging_command)
  assert main.main(['giajax', '--config=smoke', f'--workdir={evil}']) == 2
  plain = r'x\x1b[2J\ngiajax: fine\udce9'
  assert capsys.readouterr().err == (
    f'giajax: {plain}\ngiajax: Expected a; got {plain}; do\n'
  )
