"""Measures the speed of a restart-step, against a matrix product and a peer.

  python -m giajax.launch.benchmark
  python -m giajax.launch.benchmark --peer=/path/to/python
  python -m giajax.launch.benchmark --only=resnet18:1 --restarts=64 --json
  python -m giajax.launch.benchmark --suite=zoo --rounds=1 --out=zoo.jsonl
    --peer=/path/to/python
  python -m giajax.launch.benchmark --only=resnet20:1 --local_steps=8
  python -m launch.benchmark --suite=generative --peer=/path/to/python
  python -m launch.benchmark --suite=detection --peer=/path/to/python

A workload is Inverting Gradients on one update of random numbers. Its images
have 32x32 pixels unless its name says `network:batch:size`. Each workload runs
in a process of its own, through the engine's compiled chunk, which is compiled
with an empty cache and once more from it. Times are medians over --rounds
repetitions.

With --peer, the two run alternately, and the ratio compares processor time per
restart-step. The peer is breaching by default. For the zoo, which is every
classifier at 32x32 and 224x224, and for detectors at 256x256, whose targets are
boxes of two classes, it is the same step written in PyTorch
(`tests/golden/torch_speed.py` of a checkout), which needs an interpreter with
torch and torchvision. Both have the cores that this command may use, which
`taskset` limits, and the peer's threads sleep while they wait.

The generative suite times CI-Net's restart-steps, the training of LTI, per
gradient that it learns from, and GGL's search, per candidate that it evaluates.
Its peer (`tests/golden/torch_generative_speed.py`) begins with the same weights
and is refused if the losses of the first steps differ. It computes gradients
one by one, as the authors do, and for the last two under `torch.func.vmap` as
well: these are the columns `vmap`.

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
import tempfile
from typing import Any

import numpy as np

from giajax import printable
from giajax import registry
from giajax.commands import flags
from giajax.models import precision as precisions
from giajax.ops import convolution

from . import children
from . import suites
from . import timing
from . import workload

COMMAND = 'python -m giajax.launch.benchmark'
FLAGS = (
  flags.Flag(
    'only',
    'Workloads: network:batch or network:batch:size; of the generative suite, '
    'its own names.',
    [],
    list,
  ),
  flags.Flag('suite', 'Workloads: main, zoo or generative.', 'main'),
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
_LOAD = 'other load'
_WIDTH = 24  # columns of a workload's name
# How a peer computes gradients, as in its keys: one by one, or under vmap.
_FORMS = ('', 'vmap_')
_FIRST, _CHANGE = 1e-3, 0.25  # see `same_losses`


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
  suite = registry.lookup(suites.SUITES, values.suite, 'suite')
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
    suite.check(name)
  for flag in workload.FLAGS:
    value = getattr(values, flag.name)
    if flag.name not in suite.settings and value != flag.default:
      raise ValueError(
        f'Expected no --{flag.name} with --suite={values.suite}; got '
        f'--{flag.name}={value}; leave it out'
      )
  if values.local_steps and values.peer:
    raise ValueError(
      'Expected no --peer with --local_steps, which the peers do not take; got '
      'both; leave one out'
    )
  if values.peer and suite.script and not suite.script.is_file():
    raise ValueError(
      f'Expected a checkout, which has the peer of --suite={values.suite}; got '
      f'no {suite.script}; run python -m launch.benchmark in one'
    )
  return list(values.only or suite.names)


def _run(
  names: Sequence[str], results: dict[str, dict[str, Any]], values: Any
) -> list[str]:
  """Runs and shows the workloads, and returns the names of failed ones."""
  suite = suites.SUITES[values.suite]
  if not values.json:
    _head(suite)
  failed, marked = [], False
  for name in names:
    key = _key(name, values)
    try:
      result = results.get(key) or {'key': key, **_measure(name, suite, values)}
    except subprocess.CalledProcessError as error:
      failed.append(name)
      _failed(name, error)
      continue
    if values.out and key not in results:
      with open(values.out, 'a') as file:
        file.write(json.dumps(result) + '\n')
    _show(name, suite, result, values.json)
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


def _measure(name: str, suite: suites.Suite, values: Any) -> dict[str, Any]:
  """Runs one workload and the peer's, alternately."""
  ours, theirs = [], []
  with tempfile.TemporaryDirectory() as folder:
    case = os.path.join(folder, 'case.npz')
    own, peer = (
      make(name, suite, case, values) for make in (_own_command, _peer_command)
    )
    for _ in range(values.rounds):
      ours.append(_undisturbed(own, values.tries))
      if values.peer:
        theirs.append(_undisturbed(peer, values.tries))
        _require_same(name, suite, ours[-1], theirs[-1])
  loads = [run.pop('other_load', None) for run in (*ours, *theirs)]
  result = dict(ours[0])
  for key, value in ours[0].items():
    if isinstance(value, float):
      result[key] = statistics.median(run[key] for run in ours)
  for form in _FORMS:
    of_form = [run for run in theirs if f'{form}cpu_ms_per_{suite.unit}' in run]
    for clock in ('ms', 'cpu_ms'):
      key = f'{form}{clock}_per_{suite.unit}'
      result[f'peer_{key}'] = _median(of_form, key)
    cpu = result[f'peer_{form}cpu_ms_per_{suite.unit}']
    own_cpu = result[f'cpu_ms_per_{suite.unit}']
    result[f'{form}ratio'] = cpu / own_cpu if of_form else None
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
  name: str, suite: suites.Suite, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
  """Ends the command if the peer does something else."""
  for key in suite.same:
    if ours[key] != theirs[key]:
      raise SystemExit(
        f'launch: Expected the same network of the peer for {name}; got {key} '
        f'of {theirs[key]:,}, not {ours[key]:,}; fix {suite.script}'
      )
  for form in _FORMS if suite.shares else ():
    # Not every workload has another form.
    if f'{form}losses' in theirs or not form:
      own, other = ours['losses'], theirs[f'{form}losses']
      if not same_losses(own, other):
        raise SystemExit(
          f'launch: Expected the same losses of the peer for {name}; got '
          f'{form}losses={other}, not {own}; fix {suite.script}'
        )


def same_losses(
  own: Sequence[Sequence[float]], other: Sequence[Sequence[float]]
) -> bool:
  """Returns whether losses are those of the same steps.

  Those of the first step agree within a thousandth, and what later steps change
  within a quarter: Adam's first step takes the signs of a gradient, some of
  which rounding decides.

  Args:
    own: the losses of the first steps, [steps, n].
    other: the peer's, of as many steps or more.
  """
  ours, theirs = np.asarray(own), np.asarray(other[: len(own)])
  if ours.shape != theirs.shape:
    return False
  first = ours[0]
  bound = _FIRST * np.abs(first) + _CHANGE * np.abs(ours - first)
  return bool((np.abs(ours - theirs) <= bound).all())


def _own_command(
  name: str, suite: suites.Suite, case: str, values: Any
) -> list[str]:
  worker = [sys.executable, '-m', f'{__package__}.{suite.worker}', name]
  shared = [f'--case={case}'] if suite.shares and values.peer else []
  return [*worker, *_settings(values), *shared]


def _settings(values: Any) -> list[str]:
  """Returns the flags that a workload's figures depend on."""
  names = suites.SUITES[values.suite].settings
  return [f'--{name}={getattr(values, name)}' for name in names]


def _peer_command(
  name: str, suite: suites.Suite, case: str, values: Any
) -> list[str]:
  script = str(suite.script or values.peer_script)
  return [values.peer, script, *suite.words(name, case)]


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


def _head(suite: suites.Suite) -> None:
  """Prints the titles of the table, which is Markdown."""
  columns, remark = suite.columns, suite.remark[0]
  titles = [f'{column.title:>{column.width}}' for column in columns]
  rules = ['-' * (column.width - 1) + ':' for column in columns]
  rule = '-' * (len(_LOAD) - 1) + ':'
  _line([f'{"workload":{_WIDTH}}', *titles, _LOAD, remark])
  _line(['-' * _WIDTH, *rules, rule, '-' * len(remark)])


def _show(
  name: str, suite: suites.Suite, result: dict[str, Any], as_json: bool
) -> None:
  if as_json:
    print(json.dumps(result), flush=True)
    return
  cells = []
  for key, _, width, digits in suite.columns:
    value = result[key]
    text = '–' if value is None else f'{value:.{digits}f}'
    cells.append(f'{text:>{width}}')
  # Results of earlier versions lack it.
  cells.append(f'{timing.shown(result.get("other_load")):>{len(_LOAD)}}')
  _line([f'{name:{_WIDTH}}', *cells, suite.remark[1](result) or '–'])


def _line(cells: Sequence[str]) -> None:
  print(f'| {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
