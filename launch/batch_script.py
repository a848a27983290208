"""The batch script that Slurm runs, again and again until its run is done."""

from collections.abc import Sequence
import pathlib
import re
import shlex
from typing import NamedTuple

from . import shards

_MOST = 5  # restarts in a row of a task that saves nothing
# Slurm asks the steps of a job to stop. Its script waits for how they end.
_SCRIPT = """\
#!/bin/bash
{options}
command=({command})
job={job}
say() {{ echo "launch: $*"; }}
saved() {{  # a sum of the names of what is saved
  (cd {saved} 2> /dev/null && printf '%s\\n' parts/* checkpoints/*/*) |
    grep -E '^(parts/[0-9-]+\\.npz|checkpoints/[0-9-]+/[0-9]+)$' | cksum
}}

back() {{
  say 'back into the queue, to continue from what is saved'
  scontrol requeue "$job"
}}

trap : TERM  # scancel sends it to the script as well
idle={logs}/$job.idle  # a line for each attempt that saved nothing
before=$(saved)
{run} "${{command[@]}}"
code=$?
if [ $code = 85 ] || [ $code = 137 ]; then
  if [ "$(squeue --noheader --jobs="$job" --format=%T)" != RUNNING ]; then
    say 'cancelled; the same command runs what is left'
  elif [ "$(saved)" != "$before" ]; then
    rm -f "$idle"
    back
  elif [ $code = 85 ] && echo >> "$idle" &&
    [ "$(wc -l < "$idle")" -le {most} ]; then
    back
  else
    say "Expected a run that gets further; got exit code $code and nothing" \\
      'new that is saved; raise --time or the memory, and submit it again'
  fi
fi
exit $code
"""
_ARRAY_JOB = '"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"'
# srun is started on the first node, where process 0 is. Jobs of the same time
# have numbers near each other, and so different ports.
_COORDINATOR = '$SLURM_LAUNCH_NODE_IPADDR:$((20000 + SLURM_JOB_ID % 10000))'


class Places(NamedTuple):
  """Where the tasks of a job write."""

  logs: pathlib.Path  # what they print, an absolute path
  saved: str  # the folder of what they save, as a word of the shell


class Resources(NamedTuple):
  """What each task of a job gets, as the flags of the same names."""

  array: int = 1
  nodes: int = 1
  processes_per_node: int = 1
  gpus_per_node: int = 0
  cpus_per_node: int = 0
  grace: int = 60
  time: str = ''
  partition: str = ''
  account: str = ''


def text(
  words: Sequence[str],
  places: Places,
  resources: Resources,
  more: Sequence[str] = (),
) -> str:
  """Returns the script.

  Args:
    words: the command of a run, without shards.
    places: where its tasks write.
    resources: what each task gets.
    more: further options of sbatch.

  Raises:
    ValueError: devices that processes cannot share, or a text that a script of
      Slurm's cannot hold.
  """
  command = shlex.join(words)
  if resources.array > 1:
    command += ' ' + shards.shard('"$SLURM_ARRAY_TASK_ID"', resources.array)
  options = [*_options(places.logs, resources), *more]
  return _SCRIPT.format(
    options='\n'.join(map(_line, options)),
    command=command,
    job=_ARRAY_JOB if resources.array > 1 else '$SLURM_JOB_ID',
    saved=places.saved,
    logs=shlex.quote(str(places.logs)),
    run=_run(resources),
    most=_MOST,
  )


def _options(logs: pathlib.Path, resources: Resources) -> list[str]:
  """Returns the options of sbatch that the resources need."""
  if '%' in str(logs):
    raise ValueError(
      'Expected a --workdir without %, or --logs, as Slurm replaces it in the '
      f'names of files; got {logs}; choose another'
    )
  output = '%A_%a' if resources.array > 1 else '%j'
  options = [
    '--job-name=giajax',
    f'--chdir={pathlib.Path.cwd()}',
    f'--output={logs}/{output}.txt',
    *('--open-mode=append', '--requeue', f'--signal=TERM@{resources.grace}'),
    f'--nodes={resources.nodes}',
    f'--ntasks-per-node={resources.processes_per_node}',
  ]
  if resources.array > 1:
    options.append(f'--array=0-{resources.array - 1}')
  if resources.gpus_per_node:
    options.append(f'--gpus-per-node={resources.gpus_per_node}')
  if resources.cpus_per_node:
    options.append(f'--cpus-per-task={_share("cpus_per_node", resources)}')
  for name in ('time', 'partition', 'account'):
    if given := getattr(resources, name):
      options.append(f'--{name}={given}')
  return options


def _run(resources: Resources) -> str:
  """Returns what starts the processes of a shard, without their command."""
  each, run = resources.processes_per_node, 'srun --kill-on-bad-exit=0'
  if resources.cpus_per_node:  # srun does not take it from the job
    run += f' --cpus-per-task={_share("cpus_per_node", resources)}'
  if resources.gpus_per_node and each > 1:
    run += f' --gpus-per-task={_share("gpus_per_node", resources)}'
  if resources.nodes * each == 1:
    return run
  more = shards.process('$SLURM_PROCID', '$SLURM_NTASKS', _COORDINATOR)
  return f'{run} --label bash -c \'exec "$@" {" ".join(more)}\' process'


def _share(name: str, resources: Resources) -> int:
  """Returns the devices of each process, of those of a node."""
  count, each = getattr(resources, name), resources.processes_per_node
  if count % each:
    raise ValueError(
      f'Expected devices that the processes of a node can share; got --{name}='
      f'{count} for --processes_per_node={each}; choose a divisor of it'
    )
  return count // each


def _line(option: str) -> str:
  """Returns the line of a script that sets an option of sbatch."""
  name, equals, value = option.partition('=')
  named = re.fullmatch('--[a-z-]+', name)
  if not named or not value.isprintable() or {*value} & {'"', '\\'}:
    raise ValueError(
      'Expected options of sbatch such as --qos=low, without quotes and '
      f'backslashes; got {option!r}; correct it'
    )
  return f'#SBATCH {name}{equals}' + (f'"{value}"' if equals else '')
