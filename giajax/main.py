"""Measures what federated-learning updates give away.

  giajax --config=NAME --workdir=DIR [--config.KEY=VALUE] [--shard=I/N]
                            runs an experiment and writes its report
  giajax report WORKDIR     rebuilds the report, without a device
  giajax advise WORKDIR     tries what the audited system could change
  giajax train --config=NAME --out=FILE.npz       trains the network
  giajax craft --config=NAME --out=FILE.npz       writes what a server sends
  giajax verify --config=NAME --received=FILE     checks received weights
  giajax convert SOURCE --model=NAME --out=FILE.npz
                            converts weights from elsewhere
  giajax COMMAND --help     explains a command and its flags
  giajax --list             prints every attack, model, data set, ...
  giajax --version          prints the version

A mistake in a command or in a config ends in one line and exit code 2. A run
that is asked to stop (SIGTERM, Ctrl-C) saves its state and exits with 85; the
same command continues it. `giajax verify` exits with 1 if a check objects.
"""

from collections.abc import Sequence
import importlib
import sys

import giajax
from giajax import printable
from giajax import registry
from giajax.commands import flags
from giajax.commands import process
from giajax.engine import together

COMMANDS = ('advise', 'audit', 'convert', 'craft', 'report', 'train', 'verify')


def run() -> None:
  """Entry point of the `giajax` command."""
  process.use_machine()
  process.guard_output()
  process.quiet_libraries()
  together.leave(main, sys.argv)


def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  from giajax.engine import signals

  try:
    with process.devices():
      return _run(argv[1:])
  except signals.Interrupted as stopped:
    _complain(f'{stopped}; the same command continues')
    return process.STOPPED
  except ValueError as error:
    # Deliberate errors have this form; others are bugs and keep their trace.
    if not str(error).startswith('Expected'):
      raise
    _complain(str(error))
    return 2


def _complain(text: str) -> None:
  print(printable.line(f'giajax: {text}'), file=sys.stderr)


def _run(argv: Sequence[str]) -> int:
  if argv[:1] == ['--version']:
    print(f'giajax {giajax.__version__}')
    return 0
  if argv[:1] == ['--list']:
    print(importlib.import_module('giajax.tables').listing())
    return 0
  name, command = 'audit', 'giajax'
  if argv and not argv[0].startswith('-'):
    name, *argv = argv
    command = f'giajax {name}'
  registry.lookup(dict.fromkeys(COMMANDS), name, 'command')
  module = importlib.import_module(f'giajax.commands.{name}')
  process.log_to_stderr()
  arguments = flags.read(command, module.USAGE, module.FLAGS, argv)
  if arguments.help:
    doc = __doc__ if command == 'giajax' else module.__doc__
    print(flags.help_text(doc, module.FLAGS))
    return 0
  process.cache_compilations()
  return module.run(arguments)


if __name__ == '__main__':
  run()
