"""Measures what federated-learning updates give away.

  giajax --config=NAME --workdir=DIR [--config.KEY=VALUE] [--shard=I/N]
                            runs an experiment and writes its report
  giajax audit --model=FILE:NAME --sent=FILE --received=FILE ...
                            audits an update that your server received
  giajax init FILE.py       writes a config file to start from
  giajax report WORKDIR     rebuilds the report, without a device
  giajax status DIR...      says how far runs are, while they run
  giajax collect DIR...     joins the results of many runs into one table
  giajax tune --config=NAME --workdir=DIR
                            chooses settings of an attack, by its own score
  giajax advise WORKDIR     tries what the audited system could change
  giajax train --config=NAME --out=FILE.npz       trains the network
  giajax craft --config=NAME --out=FILE.npz       writes what a server sends
  giajax verify --config=NAME --received=FILE     checks received weights
  giajax convert SOURCE --model=NAME --out=FILE.npz
                            converts weights from elsewhere
  giajax COMMAND --help     explains a command and its flags
  giajax --list             prints every attack, model, data set, ...
  giajax --version          prints the version

A mistake in a command or in a config ends in one line and exit code 2. A
command that is asked to stop (SIGTERM, Ctrl-C) ends in one line and 85: a run
saves first, and the same command continues it. `giajax verify` exits with 1 if
it objects.
"""

from collections.abc import Sequence
import sys

from giajax import environment
from giajax import interrupts
from giajax import printable

# What the same command does after one that was asked to stop.
_AFTER = {
  **dict.fromkeys(
    ('collect', 'convert', 'craft', 'init', 'report', 'status', 'verify'),
    'starts again',
  ),
  **dict.fromkeys(('--list', '--version', '--help'), 'starts again'),
}


def run() -> None:
  """Entry point of the `giajax` command."""
  # At once: all else is imported in the functions below, which takes seconds.
  interrupts.watch('giajax', _AFTER.get(''.join(sys.argv[1:2]), 'continues'))
  environment.load_jax('giajax')
  from giajax.commands import process
  from giajax.engine import together

  process.use_machine()
  process.guard_output()
  process.quiet_libraries()
  together.leave(main, sys.argv)


def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  from giajax.commands import dispatch
  from giajax.engine import signals

  try:
    return dispatch.run(argv[1:], __doc__)
  except signals.Interrupted as stopped:
    interrupts.say(f'{stopped}; the same command continues')
    return interrupts.STOPPED
  except ValueError as error:
    # Deliberate errors have this form; others are bugs and keep their trace.
    if not str(error).startswith('Expected'):
      raise
    print(printable.line(f'giajax: {error}'), file=sys.stderr)
    return 2


if __name__ == '__main__':
  run()
