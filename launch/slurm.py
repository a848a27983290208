"""Runs an experiment as a job of Slurm: an array of shards, each on some nodes.

  python -m giajax.launch.slurm --config=NAME --workdir=DIR --array=8
    [--nodes=N] [--gpus_per_node=N] [--time=LIMIT] [--config.KEY=VALUE]
    [--dry_run]

Writes a batch script to DIR/logs and submits it, from a login node. The
workdir, the working directory and this Python are on a disk that all nodes
share; a workdir may also be a URL, and --logs is a folder on that disk then.
Each shard is a task of one job array. With several nodes, or several processes
on a node, the processes of a shard run it together, on the devices of all of
them. The shard that finds all others finished writes the report, so that no
further job has to wait for them.

A run is asked to stop --grace seconds before its time limit, when it is
preempted, and by `scancel --signal=TERM JOB`. It saves its state, ends with
exit code 85, and this task alone goes back into the queue, to continue to the
bits of a run that nobody disturbed. A task whose node fails goes back as well,
by Slurm itself, and so does one that was killed by SIGKILL after it had saved
something new. A task that stops without having saved anything new goes back
five times in a row, so that a time limit that is too short does not run
forever. Any other exit code ends a task, and `scancel JOB` ends it too.
Whatever ended, the same command, given again, runs what is left.

In a checkout that is not installed, the command is `python -m launch.slurm`.
"""

from . import errors

if __name__ == '__main__':
  errors.begin('starts again')

from collections.abc import Sequence
import pathlib
import shlex
import shutil
import sys
from typing import Any

from giajax import paths
from giajax import printable
from giajax.commands import flags
from giajax.engine.remote import mirror

from . import batch_script
from . import children
from . import shards

COMMAND = 'python -m giajax.launch.slurm'
USAGE = f'{COMMAND} --config=NAME --workdir=DIR'
FLAGS = (
  *shards.FLAGS,
  flags.Flag('array', 'The number of shards.', 1, int, 1),
  flags.Flag('nodes', 'The nodes that work on a shard together.', 1, int, 1),
  flags.Flag('processes_per_node', 'The processes on each of them.', 1, int, 1),
  flags.Flag('gpus_per_node', 'The GPUs on each of them.', 0, int, 0),
  flags.Flag('cpus_per_node', 'The cores on each of them.', 0, int, 0),
  flags.Flag('time', 'The time limit, in a form that Slurm reads.'),
  flags.Flag(
    'grace', 'The seconds to save in, before the time limit.', 60, int, 1
  ),
  flags.Flag('logs', 'The folder for what tasks print; DIR/logs by default.'),
  flags.Flag('partition', 'The partition.'),
  flags.Flag('account', 'The account that pays.'),
  flags.Flag(
    'sbatch',
    'Further options of sbatch, such as --qos=low,--mem=32G.',
    [],
    list,
  ),
  shards.dry_run('the batch script'),
)


@errors.reported
def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  values = arguments.values
  place = shards.workdir(arguments)
  workdir = place.absolute() if place else None
  logs = _logs(workdir, values)
  words = shards.words(arguments, workdir=str(workdir or ''))
  there = batch_script.Places(logs, _saved(workdir, values))
  text = batch_script.text(
    words, there, _resources(values), _whole(values.sbatch)
  )
  if values.dry_run:
    print(printable.page(text), end='')
    return 0
  number = _submit(text, logs)
  print(printable.line(f'job {number}; its output goes to {logs}'))
  return 0


def _logs(workdir: pathlib.Path | None, values: Any) -> pathlib.Path:
  """Returns the folder for what tasks print, an absolute path."""
  if values.logs:
    return paths.expanded(values.logs, '--logs').absolute()
  if workdir is None:
    raise ValueError(
      f'Expected --logs with a --workdir that is a URL; got {values.workdir} '
      'alone; add --logs=DIR, a folder on a disk that all nodes share'
    )
  return workdir / 'logs'


def _saved(workdir: pathlib.Path | None, values: Any) -> str:
  """Returns where a task saves, as a word of its script."""
  if workdir:
    return shlex.quote(str(workdir))
  task = '$SLURM_ARRAY_TASK_ID' if values.array > 1 else '0'
  name = f'{mirror.prefix(values.workdir)}-{task}-of-{values.array}'
  return f'"${{XDG_CACHE_HOME:-$HOME/.cache}}/giajax/remote/{name}/run"'


def _resources(values: Any) -> batch_script.Resources:
  names = batch_script.Resources._fields
  return batch_script.Resources(*(getattr(values, name) for name in names))


def _submit(text: str, logs: pathlib.Path) -> str:
  """Submits a script, which is kept in a folder; returns the job's number.

  Raises:
    ValueError: the folder cannot be written, a job already runs there, or Slurm
      does not take the script.
  """
  if not shutil.which('sbatch'):
    raise ValueError(
      'Expected a machine from which jobs of Slurm are submitted; got one '
      'without sbatch; use a login node, or see the script by --dry_run'
    )
  script, last = logs / 'job.sh', logs / 'job'
  try:
    logs.mkdir(parents=True, exist_ok=True)
    before = last.read_text() if last.exists() else ''
    if before and _exists(before):
      raise ValueError(
        f'Expected a --workdir that no job uses; got that of {logs}, which is '
        f'that of job {before}; wait for it, or end it by scancel {before}'
      )
    script.write_text(text)
    done = children.run(['sbatch', '--parsable', str(script)])
    if done.returncode:
      reason = (done.stderr.strip().splitlines() or ['no reason'])[-1]
      raise ValueError(
        f'Expected Slurm to take {script}; got {reason}; correct the flags'
      )
    number = done.stdout.strip().partition(';')[0]  # the cluster follows
    last.write_text(number)
  except OSError as error:
    raise ValueError(
      f'Expected a --workdir that can be written; got {logs.parent} '
      f'({error.strerror}); choose another'
    ) from error
  return number


def _exists(number: str) -> bool:
  """Returns whether Slurm has a job that has not ended.

  Raises:
    ValueError: it does not say.
  """
  asked = children.run(['squeue', '-h', f'--jobs={number}'])
  # It forgets the number of a job some time after the end of this.
  if asked.returncode and 'Invalid job id' not in asked.stderr:
    reason = (asked.stderr.strip().splitlines() or ['no reason'])[-1]
    raise ValueError(
      f'Expected squeue to say whether job {number} runs; got {reason}; try '
      'again, so that no two jobs share a workdir'
    )
  return bool(asked.stdout)


def _whole(pieces: Sequence[str]) -> list[str]:
  """Joins what a comma inside of brackets has cut, as in n[1,3]."""
  joined: list[str] = []
  for piece in pieces:
    if joined and joined[-1].count('[') > joined[-1].count(']'):
      joined[-1] += f',{piece}'
    else:
      joined.append(piece)
  return joined


if __name__ == '__main__':
  sys.exit(main(sys.argv))
