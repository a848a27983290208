"""Runs an experiment on a slice of Cloud TPUs, on all of its hosts together.

  python -m giajax.launch.tpu --config=NAME --workdir=/mnt/bucket/run
    --tpu=SLICE --zone=ZONE --wheel=giajax.whl [--project=PROJECT]
    [--shard=I/N] [--config.KEY=VALUE] [--dry_run]
  python -m giajax.launch.tpu ... --stop

The slice exists already. Its hosts get the wheel, which `make wheel` makes in a
checkout (build/wheel), and a config file of your own, in the folder giajax_run
of the home there; the wheel is installed into an environment in it, by
--python, which is Python 3.11 or later. Then one process a host runs the
experiment, on all chips of the slice. Several slices can each take one shard.

The workdir is gs://BUCKET/RUN, which the service account of the hosts may write
to, or a path at which all hosts see one disk, such as a bucket that Cloud
Storage FUSE has mounted. Other files that the experiment reads have to be on
such a disk, by the names that the config has for them.

What ends one of the processes ends all. Where this command itself is stopped,
the run may go on: with --stop, it is asked to save and to end. Whatever ended,
the same command continues it.

With --dry_run, the commands are printed, which needs neither gcloud nor
credentials. What the hosts are told was run with an imitation of gcloud and of
the metadata server, and never on a TPU. In a checkout that is not installed,
the command is `python -m launch.tpu`.
"""

from . import errors

if __name__ == '__main__':
  errors.begin('starts again, and --stop ends what runs on the slice')

from collections.abc import Sequence
import pathlib
import re
import shlex
import shutil
import sys
from typing import Any

from giajax import paths
from giajax import printable
from giajax.commands import flags
from giajax.commands import process
from giajax.engine.remote import store

from . import children
from . import shards

COMMAND = 'python -m giajax.launch.tpu'
USAGE = (
  f'{COMMAND} --config=NAME --workdir=DIR --tpu=SLICE --zone=ZONE --wheel=FILE'
)
FLAGS = (
  *shards.FLAGS,
  flags.Flag('tpu', 'The name of the slice.'),
  flags.Flag('zone', 'The zone of the slice.'),
  flags.Flag('project', 'The project of the slice, if not that of gcloud.'),
  flags.Flag('wheel', 'The wheel of giajax, a file of this machine.'),
  flags.Flag('python', 'The Python of the hosts.', 'python3'),
  flags.Flag('shard', 'The part of the work for this slice, I of N.', '0/1'),
  flags.Flag('stop', 'Asks a run on the slice to save and end.', False, bool),
  shards.dry_run('the commands'),
)
_FOLDER = 'giajax_run'
_CONFIG = 'config.py'
_PORT = 8476
_INSTALL = """\
{python} -m venv {folder}/venv &&
  {folder}/venv/bin/pip install --quiet {wheel}'[{extras}]' &&
  {folder}/venv/bin/pip install --quiet --no-deps --force-reinstall {wheel}"""
# The metadata of a host have its number and all addresses, of which each may be
# the last of three parts with colons between them.
_RUN = """\
cd {folder} || exit
told() {{
  curl --silent --show-error --fail --header 'Metadata-Flavor: Google' \\
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}}
hosts=$(told worker-network-endpoints) || exit
own=$(told agent-worker-number) || exit
count=$(echo "$hosts" | tr , '\\n' | grep -c .)
first=${{hosts%%,*}}
echo $$ > pid
exec {command}"""
# The number may be that of another process by now.
_STOP = f'''\
pid=$(cat {_FOLDER}/pid) &&
  grep -q giajax "/proc/$pid/cmdline" &&
  kill -TERM "$pid" || echo "no run of giajax to stop"'''
_FORMS = {
  'tpu': '[a-z]([-a-z0-9]{0,61}[a-z0-9])?',
  'zone': '[a-z]+-[a-z]+[0-9]+-[a-z]',
  'project': '([a-z0-9][-a-z0-9.:]*)?',
  'python': '[A-Za-z0-9_./~][-A-Za-z0-9_./]*',
}


@errors.reported
def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  _check(arguments)
  plan = commands(arguments)
  if arguments.values.dry_run:
    for command in plan:
      print(printable.page(shlex.join(command)))
    return 0
  if not shutil.which('gcloud'):
    raise ValueError(
      'Expected gcloud, which reaches the slice; got a machine without it; '
      'install it, or see the commands by --dry_run'
    )
  for command in plan:
    if code := children.wait(children.start(command)):
      return code if code > 0 else 128 - code
  return 0


def commands(arguments: flags.Arguments) -> list[list[str]]:
  """Returns the commands of gcloud, in order."""
  values = arguments.values
  if values.stop:
    return [_ssh(values, _STOP)]
  wheel = pathlib.Path(values.wheel).expanduser()
  there = shlex.quote(f'{_FOLDER}/{wheel.name}')
  driver = store.extra(values.workdir.lower())
  text = _INSTALL.format(
    python=values.python,
    folder=_FOLDER,
    wheel=there,
    extras=f'tpu,{driver}' if driver else 'tpu',
  )
  plan = [
    _ssh(values, f'mkdir -p {_FOLDER}'),
    _gcloud(values, 'scp', str(wheel), f'{values.tpu}:{_FOLDER}/'),
    _ssh(values, text),
  ]
  file = shards.config_file(arguments)
  config = _CONFIG + shards.config_argument(arguments) if file else ''
  if file:
    target = f'{values.tpu}:{_FOLDER}/{_CONFIG}'
    plan.insert(2, _gcloud(values, 'scp', str(file), target))
  words = shards.words(arguments, config=config, python='venv/bin/python')
  command = shlex.join([*words, f'--shard={values.shard}'])
  more = shards.process('$own', '$count', f'"${{first##*:}}":{_PORT}')
  text = _RUN.format(folder=_FOLDER, command=f'{command} {" ".join(more)}')
  return [*plan, _ssh(values, text)]


def _ssh(values: Any, text: str) -> list[str]:
  """Returns the command that has all hosts run a text in their shells."""
  return _gcloud(values, 'ssh', values.tpu, f'--command={text}')


def _gcloud(values: Any, what: str, *words: str) -> list[str]:
  project = [f'--project={values.project}'] if values.project else []
  where = [f'--zone={values.zone}', '--worker=all', *project]
  return ['gcloud', 'compute', 'tpus', 'tpu-vm', what, *words, *where]


def _check(arguments: flags.Arguments) -> None:
  """Raises ValueError for what a host or gcloud would refuse."""
  values = arguments.values
  for name, form in _FORMS.items():
    text = getattr(values, name)
    if not re.fullmatch(form, text, re.ASCII):
      raise ValueError(
        f'Expected a --{name} of the form {form}; got --{name}={text}; correct '
        'it'
      )
  index, count = process.shard(values.shard)
  if index >= count:
    raise ValueError(
      f'Expected --shard=I/N with I below N; got --shard={values.shard}; '
      'number the slices from 0'
    )
  workdir = shards.workdir(arguments)
  if workdir and not values.workdir.startswith('/'):
    raise ValueError(
      'Expected a --workdir that is the same on all hosts, from / on; got '
      f'{values.workdir}; write the path at which their common disk is mounted'
    )
  wheel = paths.expanded(values.wheel, '--wheel')
  if wheel.suffix != '.whl' or not wheel.is_file():
    raise ValueError(
      f'Expected a --wheel that is a file; got {values.wheel}; make one by '
      'make wheel, in a checkout'
    )
  shards.check_files(arguments, str(workdir.parent) if workdir else '')


if __name__ == '__main__':
  sys.exit(main(sys.argv))
