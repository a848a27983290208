"""The command line.

  giajax --config=PATH_OR_NAME --workdir=DIR [--config.x.y=value] [--shard=i/n]
  giajax --list             prints every attack, model, data set, ...
  giajax report WORKDIR     rebuilds the report, without a device
  giajax convert SOURCE --model=NAME --out=FILE.npz    weights from elsewhere
  giajax train --config=PATH_OR_NAME --out=FILE.npz    weights of one's own
  giajax craft --config=PATH_OR_NAME --out=FILE.npz    weights that are sent
  giajax verify --config=PATH_OR_NAME --received=FILE  a client's look at them
  giajax advise WORKDIR     tries what the audited system could change

A mistake of the user ends in one line and exit code 2; a run that was asked to
stop saves first and exits with 85. The same command continues it. A model that
`verify` objects to makes it exit with 1.
"""

from collections.abc import Sequence
import importlib
import sys

from giajax.commands import process

COMMANDS = ('advise', 'convert', 'craft', 'report', 'train', 'verify')


def run() -> None:
  """Entry point of the `giajax` command."""
  process.use_machine()
  sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  from giajax.engine import signals

  name, rest = 'audit', argv[1:]
  if rest and rest[0] in COMMANDS:
    name, *rest = rest
  command = importlib.import_module(f'giajax.commands.{name}')
  further = (__doc__,) if name == 'audit' else ()
  try:
    return command.run(rest, *further)
  except signals.Interrupted as stopped:
    print(f'giajax: {stopped}; the same command continues', file=sys.stderr)
    return process.STOPPED
  except ValueError as error:
    # Deliberate errors have this form; others are bugs and keep their trace.
    if not str(error).startswith('Expected'):
      raise
    print(f'giajax: {error}', file=sys.stderr)
    return 2


if __name__ == '__main__':
  run()
