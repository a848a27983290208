"""Runs an experiment as several processes of this machine.

  python -m launch.local --config=NAME_OR_PATH --workdir=DIR --processes=2 \
    [--config.x.y=value] [--dry_run]

Each process takes one shard of the work; a last pass joins their results and
writes the report. A shard that fails leaves the others running. SIGTERM goes
to all of them: they save, and the same command continues.
"""

from collections.abc import Sequence
import shlex
import signal
import subprocess
import sys
import threading

from absl import flags

STOPPED = 85  # giajax's exit code after a signal: saved, not finished


def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  values = _flags()
  try:
    rest = values(argv, known_only=True)[1:]
  except flags.Error as error:
    return _fail(f'Expected known flags; got {error}')
  if values.help:
    print(f'{__doc__}\n{values.main_module_help()}')
    return 0
  if not values.config or not values.workdir:
    got = ' '.join(argv[1:]) or 'nothing'
    return _fail(f'Expected --config=... and --workdir=...; got {got}')
  plan = commands(values.config, values.workdir, values.processes, rest)
  if values.dry_run:
    print('\n'.join(shlex.join(command) for command in plan))
    return 0
  return _launch(plan)


def commands(
  config: str, workdir: str, processes: int, rest: Sequence[str] = ()
) -> list[list[str]]:
  """Returns the command of each shard, then that of the joining pass.

  Args:
    config: name or path of the config.
    workdir: where results go.
    processes: the number of shards, at least 1.
    rest: further arguments of giajax.
  """
  base = [sys.executable, '-m', 'giajax.main']
  base += [f'--config={config}', f'--workdir={workdir}', *rest]
  shards = [[*base, f'--shard={i}/{processes}'] for i in range(processes)]
  return [*shards, base]


def _launch(plan: Sequence[Sequence[str]]) -> int:
  *shards, join = plan
  with _Children() as children:
    for i, command in enumerate(shards):
      children.start(command, f'[{i}/{len(shards)}] ')
    codes = children.wait()
    for i, code in enumerate(codes):
      if code not in (0, STOPPED):
        print(f'launch: shard {i}/{len(shards)} ended with exit code {code}')
    if children.asked or any(codes):
      failed = [code for code in codes if code not in (0, STOPPED)]
      return _exit_code(failed[0]) if failed else STOPPED
    children.start(join, '')
    return _exit_code(children.wait()[0])


class _Children:
  """Processes whose lines are passed on, and which get our signals."""

  def __init__(self):
    self.asked = False
    self._running: list[tuple[subprocess.Popen, threading.Thread]] = []
    self._old = {}

  def __enter__(self):
    for number in (signal.SIGTERM, signal.SIGINT):
      self._old[number] = signal.signal(number, self._forward)
    return self

  def __exit__(self, *args):
    for number, handler in self._old.items():
      signal.signal(number, handler)

  def start(self, command: Sequence[str], prefix: str) -> None:
    """Starts a process whose lines appear behind a prefix."""
    child = subprocess.Popen(
      command,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      start_new_session=True,  # a terminal's Ctrl-C comes through us, once
    )
    reader = threading.Thread(target=_copy, args=(child.stdout, prefix))
    reader.start()
    self._running.append((child, reader))

  def wait(self) -> list[int]:
    """Returns the exit codes, in the order of starting, when all ended."""
    codes = []
    for child, reader in self._running:
      codes.append(child.wait())
      reader.join()
    self._running = []
    return codes

  def _forward(self, number, frame):
    self.asked = True
    for child, _ in self._running:
      if child.poll() is None:
        child.send_signal(signal.SIGTERM)


def _copy(stream, prefix: str) -> None:
  for line in stream:
    print(prefix + line.rstrip('\n'), flush=True)


def _exit_code(code: int) -> int:
  """A process that a signal ended counts as the shell counts it."""
  return 128 - code if code < 0 else code


def _flags() -> flags.FlagValues:
  values = flags.FlagValues()
  flags.DEFINE_string('config', None, 'As of giajax.', flag_values=values)
  flags.DEFINE_string('workdir', None, 'As of giajax.', flag_values=values)
  flags.DEFINE_integer(
    'processes', 2, 'How many run beside each other.', 1, flag_values=values
  )
  flags.DEFINE_bool(
    'dry_run', False, 'Print the commands and stop.', flag_values=values
  )
  flags.DEFINE_bool(
    'help', False, 'Print this.', short_name='h', flag_values=values
  )
  return values


def _fail(text: str) -> int:
  print(f'launch: {" ".join(text.split())}', file=sys.stderr)
  return 2


if __name__ == '__main__':
  sys.exit(main(sys.argv))
