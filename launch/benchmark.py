"""Measures the speed of a restart-step, against a matrix product and a peer.

  python -m giajax.launch.benchmark
  python -m giajax.launch.benchmark --peer=/path/to/python
  python -m giajax.launch.benchmark --only=resnet18:1 --restarts=64 --json
  python -m giajax.launch.benchmark --suite=zoo --rounds=1 --out=zoo.jsonl
    --peer=/path/to/python
  python -m giajax.launch.benchmark --only=resnet20:1 --local_steps=8

A workload is Inverting Gradients on one update of random numbers. Its images
have 32x32 pixels unless its name says `network:batch:size`. Each workload runs
in a process of its own, through the engine's compiled chunk, which is compiled
with an empty cache and once more from it. Times are medians over --rounds
repetitions.

With --peer, the two run alternately, and the ratio compares processor time per
restart-step. The peer is breaching by default. For the zoo, which is every
architecture at 32x32 and 224x224, it is the same step written in PyTorch
(`tests/golden/torch_speed.py` of a checkout), which needs an interpreter with
torch and torchvision. Both have the cores that this command may use, which
`taskset` limits, and the peer's threads sleep while they wait.

Run it on an idle machine. What other programs use meanwhile is measured: a
repetition with more than a twentieth of the machine is tried again, and the row
is marked if that does not help. The zoo takes hours: with --out, a command that
was stopped continues where it was. In a checkout that is not installed, the
command is `python -m launch.benchmark`.
"""

from . import errors

if __name__ == '__main__':
  errors.begin('starts again; what --out holds is not measured again')

from collections.abc import Sequence
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
from typing import Any

from giajax import models
from giajax import printable
from giajax import registry
from giajax.commands import flags
from giajax.models import precision as precisions
from giajax.ops import convolution

from . import children
from . import timing
from . import workload

COMMAND = 'python -m giajax.launch.benchmark'
# Network, batch, steps of the peer.
WORKLOADS = {
  'lenet:1': 200,
  'lenet:8': 100,
  'resnet20:1': 40,
  'resnet18:1': 10,
  'resnet18:8': 4,
  'convnet64:1': 10,
  'convnet64:8': 3,
}
_SIZES, _BATCHES = (32, 224), (1, 8)  # of the zoo
# Networks made for small images: these, and the ResNets of three stages.
_SMALL = (
  'cnn6',
  'convnet',
  'lenet',
  'lenet_relu',
  'mlp',
  'resnet20',
  'resnet32',
  'resnet44',
  'resnet56',
)
FLAGS = (
  flags.Flag(
    'only', 'Workloads: network:batch or network:batch:size.', [], list
  ),
  flags.Flag('suite', 'Workloads: main or zoo.', 'main'),
  *workload.FLAGS,
  flags.Flag('rounds', 'Repetitions, whose medians are shown.', 3, int, 1),
  flags.Flag(
    'tries',
    'How often a repetition is tried until other programs leave it alone.',
    3,
    int,
    1,
  ),
  flags.Flag('peer', "The peer's Python interpreter."),
  flags.Flag(
    'peer_script',
    'The script that times the peer.',
    str(pathlib.Path(__file__).with_name('breaching_speed.py')),
  ),
  flags.Flag('json', 'Prints one JSON object per workload.', False, bool),
  flags.Flag(
    'out',
    'A file that results are added to, as JSON. Workloads whose results it '
    'holds are not run again.',
  ),
)
_TORCH = pathlib.Path(__file__).parents[1] / 'tests/golden/torch_speed.py'
# Key, title, width, digits.
_COLUMNS = (
  ('ms_per_step', 'wall ms', 8, 2),
  ('cpu_ms_per_step', 'cpu ms', 8, 2),
  ('restarts_per_second', 'steps/s', 8, 1),
  ('compile_seconds', 'compile s', 9, 1),
  ('cached_seconds', 'cached s', 8, 1),
  ('peak_gb', 'peak GB', 7, 2),
  ('matmul_share', 'of matmul', 9, 2),
  ('peer_cpu_ms_per_step', 'peer cpu', 8, 1),
  ('ratio', 'ratio', 5, 2),
)
_LOAD = 'other load'
_WIDTH = 24  # columns of a workload's name


@errors.reported
def main(argv: Sequence[str]) -> int:
  """Runs the workloads of a command line and returns the exit code."""
  arguments = flags.read(COMMAND, COMMAND, FLAGS, argv[1:])
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  values = arguments.values
  names = _names(values)
  results = _results(values.out) if values.out else {}
  failed = _run(names, results, values)
  if failed:
    print(
      f'launch: {len(failed)} of {len(names)} workloads failed: '
      f'{", ".join(failed)}',
      file=sys.stderr,
    )
  return 1 if failed else 0


def _names(values: Any) -> list[str]:
  """Returns the workloads that the flags ask for.

  Raises:
    ValueError: a name of another form, flags that exclude each other, or a
      peer that cannot be run.
  """
  registry.lookup({'main': None, 'zoo': None}, values.suite, 'suite')
  whole = values.suite == 'zoo'
  registry.lookup(
    {'auto': None, **convolution.LOWERINGS}, values.lowering, 'lowering'
  )
  registry.lookup(precisions.PRECISIONS, values.precision, 'precision')
  if values.peer and not shutil.which(values.peer):
    raise ValueError(
      f'Expected a Python interpreter; got --peer={values.peer}, which cannot '
      'be run; correct the path'
    )
  if values.peer and not os.path.isfile(values.peer_script):
    raise ValueError(
      f'Expected a script; got --peer_script={values.peer_script}, which is no '
      'file; correct the path'
    )
  for name in values.only:
    workload.parse(name)
  if values.local_steps and values.peer:
    raise ValueError(
      'Expected no --peer with --local_steps, which the peers do not take; got '
      'both; leave one out'
    )
  if whole and values.peer and not _TORCH.is_file():
    raise ValueError(
      f'Expected a checkout, which has the peer of the zoo; got no {_TORCH}; '
      'run python -m launch.benchmark in one'
    )
  return values.only or (zoo(_BATCHES) if whole else list(WORKLOADS))


def zoo(batches: Sequence[int]) -> list[str]:
  """Returns every architecture at every size, small ones first.

  Args:
    batches: the numbers of images behind an update.
  """
  return [
    f'{network}:{batch}:{size}'
    for size in _SIZES
    for batch in batches
    for network in models.MODELS
    if size == 32 or network not in _SMALL
  ]


def _run(
  names: Sequence[str], results: dict[str, dict[str, Any]], values: Any
) -> list[str]:
  """Runs and shows the workloads, and returns the names of failed ones."""
  if not values.json:
    _head()
  failed, marked = [], False
  for name in names:
    key = _key(name, values)
    try:
      result = results.get(key) or {'key': key, **_measure(name, values)}
    except subprocess.CalledProcessError as error:
      failed.append(name)
      _failed(name, error)
      continue
    if values.out and key not in results:
      with open(values.out, 'a') as file:
        file.write(json.dumps(result) + '\n')
    _show(name, result, values.json)
    marked |= timing.disturbed(result.get('other_load'))
  if marked and not values.json:
    print(f'\n{timing.NOTE}')
  return failed


def _key(name: str, values: Any) -> str:
  """Returns the flags that a result depends on."""
  peer = [f'--suite={values.suite}', '--peer'] if values.peer else []
  settings = [f'--only={name}', *_settings(values)]
  return ' '.join([*settings, f'--rounds={values.rounds}', *peer])


def _results(path: str) -> dict[str, dict[str, Any]]:
  """Returns the results that a file holds, by key; it is made if need be.

  Raises:
    ValueError: the file holds something else, or cannot be written.
  """
  try:
    with open(path, 'a+') as file:
      file.seek(0)
      rows = [json.loads(line) for line in file]
    return {row['key']: row for row in rows}
  except OSError as error:
    raise ValueError(
      f'Expected a file that can be written; got --out={path} '
      f'({error.strerror}); choose another'
    ) from error
  except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'Expected results of this command in --out={path}; got '
      f'{type(error).__name__}: {error}; use another file'
    ) from error


def _measure(name: str, values: Any) -> dict[str, Any]:
  """Runs one workload and the peer's, alternately."""
  ours, theirs = [], []
  for _ in range(values.rounds):
    ours.append(_undisturbed(_own_command(name, values), values.tries))
    if values.peer:
      theirs.append(_undisturbed(_peer_command(name, values), values.tries))
      if values.suite == 'zoo':
        _require_same(name, ours[-1], theirs[-1])
  loads = [run.pop('other_load', None) for run in (*ours, *theirs)]
  result = dict(ours[0])
  for key, value in ours[0].items():
    if isinstance(value, float):
      result[key] = statistics.median(run[key] for run in ours)
  result['peer_ms_per_step'] = _median(theirs, 'ms_per_step')
  result['peer_cpu_ms_per_step'] = _median(theirs, 'cpu_ms_per_step')
  result['ratio'] = (
    result['peer_cpu_ms_per_step'] / result['cpu_ms_per_step']
    if theirs
    else None
  )
  result['other_load'] = timing.most(loads)
  return result


def _undisturbed(command: list[str], tries: int) -> dict[str, Any]:
  """Runs a command until other programs leave it alone.

  Returns:
    Its figures: if they never did, those of the try with the least other load.
  """
  runs = []
  for _ in range(tries):
    figures = _spawn(command)
    load = figures.get('other_load')  # a script of the user's may lack it
    if load is None or not timing.disturbed(load):
      return figures
    runs.append(figures)
  return min(runs, key=lambda figures: figures['other_load'])


def _require_same(
  name: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
  """Ends the command if the peer of the zoo has another network."""
  for key in ('parameters', 'convolution_flops'):
    if ours[key] != theirs[key]:
      raise SystemExit(
        f'launch: Expected the same network of the peer for {name}; got {key} '
        f'of {theirs[key]:,}, not {ours[key]:,}; fix tests/golden/torch_nets.py'
      )


def _own_command(name: str, values: Any) -> list[str]:
  worker = [sys.executable, '-m', f'{__package__}.workload', name]
  return [*worker, *_settings(values)]


def _settings(values: Any) -> list[str]:
  """Returns the flags that a workload's figures depend on."""
  names = workload.Options._fields
  return [f'--{name}={getattr(values, name)}' for name in names]


def _peer_command(name: str, values: Any) -> list[str]:
  network, batch, size = workload.parse(name)
  script = _TORCH if values.suite == 'zoo' else values.peer_script
  return [
    values.peer,
    str(script),
    f'--network={network}',
    f'--batch={batch}',
    f'--size={size}',
    f'--steps={WORKLOADS.get(name, 3)}',
  ]


def _spawn(command: list[str]) -> dict[str, Any]:
  """Runs a command and returns the JSON object on its last line."""
  done = children.run(command, {**os.environ, **timing.threads()})
  done.check_returncode()
  return json.loads(done.stdout.strip().splitlines()[-1])


def _failed(name: str, error: subprocess.CalledProcessError) -> None:
  """Says on stderr what failed; a killed process usually lacked memory."""
  tail = error.stderr.strip().splitlines()[-1:] or ['nothing on stderr']
  how = f'exit code {error.returncode}'
  if error.returncode < 0:
    how = f'killed by {signal.Signals(-error.returncode).name}'
  line = f'{name}: {how}: {tail[0]}: {" ".join(error.cmd)}'
  print(printable.line(line), file=sys.stderr, flush=True)


def _median(runs: Sequence[dict[str, Any]], key: str) -> float | None:
  return statistics.median(run[key] for run in runs) if runs else None


def _head() -> None:
  """Prints the titles of the table, which is Markdown."""
  titles = [f'{title:>{width}}' for _, title, width, _ in _COLUMNS]
  rules = ['-' * (width - 1) + ':' for _, _, width, _ in _COLUMNS]
  rule = '-' * (len(_LOAD) - 1) + ':'
  _line([f'{"workload":{_WIDTH}}', *titles, _LOAD, 'lowerings'])
  _line(['-' * _WIDTH, *rules, rule, '-' * len('lowerings')])


def _show(name: str, result: dict[str, Any], as_json: bool) -> None:
  if as_json:
    print(json.dumps(result), flush=True)
    return
  cells = []
  for key, _, width, digits in _COLUMNS:
    value = result[key]
    text = '–' if value is None else f'{value:.{digits}f}'
    cells.append(f'{text:>{width}}')
  # Results of earlier versions lack it.
  cells.append(f'{timing.shown(result.get("other_load")):>{len(_LOAD)}}')
  lowerings = ', '.join(f'{n} {k}' for k, n in result['lowerings'].items())
  _line([f'{name:{_WIDTH}}', *cells, lowerings or '–'])


def _line(cells: Sequence[str]) -> None:
  print(f'| {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
