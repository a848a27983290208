"""From the words of a command line to the command that they name."""

from collections.abc import Sequence
import importlib

import giajax
from giajax import registry
from giajax.commands import flags
from giajax.commands import process

COMMANDS = (
  *('advise', 'audit', 'collect', 'convert', 'craft', 'init', 'report', 'run'),
  *('status', 'train', 'tune', 'verify'),
)


def run(argv: Sequence[str], doc: str | None) -> int:
  """Runs a command and returns its exit code.

  Args:
    argv: the words behind `giajax`.
    doc: what `giajax --help` prints before the flags of an audit.
  """
  if argv[:1] == ['--version']:
    print(f'giajax {giajax.__version__}')
    return 0
  with process.devices():
    return _run(argv, doc)


def _run(argv: Sequence[str], doc: str | None) -> int:
  if argv[:1] == ['--list']:
    print(importlib.import_module('giajax.engine.tables').listing())
    return 0
  name, command = 'run', 'giajax'
  if argv and not argv[0].startswith('-'):
    name, *argv = argv
    command = f'giajax {name}'
  registry.lookup(dict.fromkeys(COMMANDS), name, 'command')
  module = importlib.import_module(f'giajax.commands.{name}')
  process.log_to_stderr()
  arguments = flags.read(command, module.USAGE, module.FLAGS, argv)
  if arguments.help:
    text = doc if command == 'giajax' else module.__doc__
    print(flags.help_text(text, module.FLAGS))
    return 0
  process.cache_compilations()
  return module.run(arguments)
