"""Runs an experiment as several processes of this machine.

  python -m giajax.launch.local --config=NAME --workdir=DIR --processes=2
    [--config.KEY=VALUE] [--dry_run]

Each process runs one shard of the work. When all shards are finished, a last
pass joins their results and writes the report. A shard that fails leaves the
others running. SIGTERM, SIGINT and SIGHUP are passed on to all of them: they
save their state, and the same command continues. In a checkout that is not
installed, the command is `python -m launch.local`.
"""

from . import errors

if __name__ == '__main__':
  errors.begin()

from collections.abc import Sequence
import shlex
import signal
import subprocess
import sys
import threading

from giajax import interrupts
from giajax import printable
from giajax.commands import flags

from . import children
from . import shards

COMMAND = 'python -m giajax.launch.local'
USAGE = f'{COMMAND} --config=NAME --workdir=DIR'
FLAGS = (
  *shards.FLAGS,
  flags.Flag('processes', 'The number of parallel processes.', 2, int, 1),
  shards.dry_run('the commands'),
)


@errors.reported
def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  shards.workdir(arguments)  # checks it
  values = arguments.values
  plan = shards.commands(shards.words(arguments), values.processes)
  if values.dry_run:
    print('\n'.join(printable.line(shlex.join(command)) for command in plan))
    return 0
  return _launch(plan)


def _launch(plan: Sequence[Sequence[str]]) -> int:
  *shards, join = plan
  group = _Group()
  with interrupts.passed_to(group.stop):
    prefixes = [f'[{i}/{len(shards)}] ' for i in range(len(shards))]
    codes = group.run(shards, prefixes)
    for i, code in enumerate(codes):
      if code not in (0, interrupts.STOPPED):
        print(f'launch: shard {i}/{len(shards)} {_ending(code)}')
    if not any(codes):
      codes = group.run([join], [''])
  failed = [code for code in codes if code not in (0, interrupts.STOPPED)]
  if failed:
    return _exit_code(failed[0])
  if any(codes) or not codes:
    interrupts.say('asked to stop; the same command continues')
    return interrupts.STOPPED
  return 0


class _Group:
  """Processes whose lines are printed here and which receive our signals."""

  def __init__(self):
    self._asked = False

  def run(
    self, commands: Sequence[Sequence[str]], prefixes: Sequence[str]
  ) -> list[int]:
    """Runs processes to their end; returns their exit codes, in order.

    None is started after a request to stop.

    Args:
      commands: the words of each command.
      prefixes: what its lines are printed after.
    """
    running = []
    for command, prefix in zip(commands, prefixes):
      if self._asked:
        break
      process = children.start(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='backslashreplace',
      )
      reader = threading.Thread(target=_copy, args=(process.stdout, prefix))
      reader.start()
      running.append((process, reader))
    if self._asked:  # perhaps just before the last one was started
      children.ask()
    codes = [children.wait(process) for process, _ in running]
    for _, reader in running:
      reader.join()
    # One that had not begun to watch is ended by the signal itself.
    early = -signal.SIGTERM if self._asked else None
    return [interrupts.STOPPED if code == early else code for code in codes]

  def stop(self) -> bool:
    """Passes a request to stop on; what it ends is waited for."""
    self._asked = True
    children.ask()
    return True


def _copy(stream, prefix: str) -> None:
  for line in stream:
    print(printable.line(prefix + line.rstrip('\n')), flush=True)


def _ending(code: int) -> str:
  if code < 0:
    return f'was killed by {signal.Signals(-code).name}'
  return f'ended with exit code {code}'


def _exit_code(code: int) -> int:
  """Returns the exit code that a shell gives to a process."""
  return 128 - code if code < 0 else code


if __name__ == '__main__':
  sys.exit(main(sys.argv))
