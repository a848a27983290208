"""Runs an experiment on Kubernetes: a JobSet for GPUs or TPUs of GKE.

  python -m giajax.launch.gke --config=NAME --workdir=/data/run --image=IMAGE
    --claim=CLAIM --accelerator=nvidia-l4 [--devices=N] [--pods=N] [--shards=N]
    [--kind=tpu --topology=AxB] [--config.KEY=VALUE] [--dry_run]

Each shard is a Job of the set, and each of its pods a process. The pods of a
shard run it together, which is how a slice of TPUs with several hosts is used.
The shard that finds all others finished writes the report.

A pod that is asked to stop saves its state and ends with exit code 85. It is
started again, and so is one whose node is lost; neither counts as one of the
--retries of a Job. The other pods of a run that lost one end with exit code 2,
and these count: --retries are counted for each pod. A mistake, which is exit
code 2 of a pod that is alone, ends its Job at once. What ends a Job ends the
set. Whatever ended, the same command runs what is left, once `kubectl delete
jobset NAME` has removed the old set.

The image has a `python` with giajax, and with JAX for the accelerator. The
workdir lies below --mount, where the pods see the volume of CLAIM: a
PersistentVolumeClaim which all nodes may write to. Where the workdir is a URL,
--claim may be left out, and pods have the rights of --service_account, or the
variables of --secret, to reach it. A config file of your own
travels in the manifest. All other files that the experiment reads have to be in
the image or on the volume, by the names that the config has for them.

With --dry_run, the manifest is printed, which needs neither a cluster nor
credentials. Otherwise `kubectl create` is given it. Manifests were checked
against the schema of JobSet 0.12, and none was run on a cluster. In a checkout
that is not installed, the command is `python -m launch.gke`.
"""

from . import errors

if __name__ == '__main__':
  errors.begin('starts again')

from collections.abc import Sequence
import pathlib
import shutil
import sys
import tempfile
from typing import Any

import yaml

from giajax import printable
from giajax.commands import flags

from . import children
from . import jobset
from . import shards

COMMAND = 'python -m giajax.launch.gke'
USAGE = (
  f'{COMMAND} --config=NAME --workdir=DIR --image=IMAGE --accelerator=NAME'
)
FLAGS = (
  *shards.FLAGS,
  flags.Flag('image', 'The container image.'),
  flags.Flag('claim', 'The claim of the volume that the workdir lies on.'),
  flags.Flag('service_account', 'The account of Kubernetes that pods have.'),
  flags.Flag('secret', 'The secret whose entries are variables of pods.'),
  flags.Flag('mount', 'Where pods see the volume.', '/data'),
  flags.Flag('kind', 'The kind of the accelerator: gpu or tpu.', 'gpu'),
  flags.Flag('accelerator', 'Its name in GKE, as nvidia-l4 or tpu-v6e-slice.'),
  flags.Flag('topology', 'The chips of a slice of TPUs, as 4x4.'),
  flags.Flag('devices', 'The GPUs, or chips, of each pod.', 1, int, 1),
  flags.Flag('pods', 'The pods that work on a shard together.', 1, int, 1),
  flags.Flag('shards', 'The number of shards.', 1, int, 1),
  flags.Flag('retries', 'How often a Job starts failed pods again.', 3, int, 0),
  flags.Flag('grace', 'The seconds that a pod has to save in.', 60, int, 1),
  flags.Flag('name', 'The name of the JobSet.', 'giajax'),
  flags.Flag('namespace', 'The namespace.', 'default'),
  shards.dry_run('the manifest'),
)


@errors.reported
def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  values = arguments.values
  names = jobset.Needs._fields
  needs = jobset.Needs(*(getattr(values, name) for name in names))
  _check_workdir(shards.workdir(arguments), values)
  file = shards.config_file(arguments)
  there = jobset.CONFIG + shards.config_argument(arguments) if file else ''
  words = shards.words(arguments, config=there, python='python')
  shards.check_files(arguments, values.mount if values.claim else '')
  config = file.read_text('utf-8') if file else ''
  manifests = jobset.manifests(words, needs, config)
  text = yaml.safe_dump_all(manifests, sort_keys=False)
  if values.dry_run:
    print(printable.page(text), end='')
    return 0
  print(printable.line(_create(text)))
  return 0


def _check_workdir(workdir: pathlib.Path | None, values: Any) -> None:
  mount = values.mount
  if workdir is None:
    return
  if not values.claim:
    raise ValueError(
      f'Expected a --claim, or a --workdir that is a URL; got {workdir} alone; '
      'name the claim of the volume that it lies on'
    )
  if not workdir.is_relative_to(mount) or '..' in workdir.parts:
    raise ValueError(
      f'Expected a --workdir below --mount={mount}, on the volume; got '
      f'{workdir}; write, for instance, {mount}/run'
    )


def _create(text: str) -> str:
  """Has kubectl create what a manifest describes; returns what it says.

  Raises:
    ValueError: there is no kubectl, or it refuses.
  """
  if not shutil.which('kubectl'):
    raise ValueError(
      'Expected kubectl, which creates the set; got a machine without it; '
      'install it, or use --dry_run and create what is printed elsewhere'
    )
  with tempfile.NamedTemporaryFile('w', suffix='.yaml') as file:
    file.write(text)
    file.flush()
    done = children.run(['kubectl', 'create', f'--filename={file.name}'])
  if done.returncode:
    reason = ' '.join(done.stderr.split()) or 'no reason'
    raise ValueError(
      f'Expected Kubernetes to take the manifest; got {reason}; correct it'
    )
  return ', '.join(done.stdout.splitlines())


if __name__ == '__main__':
  sys.exit(main(sys.argv))
