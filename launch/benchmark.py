"""How fast a restart-step is, beside the machine's matmul rate and a peer.

  python -m launch.benchmark
  python -m launch.benchmark --peer=/path/to/python --peer_script=SCRIPT
  python -m launch.benchmark --only=resnet18:1 --restarts=64 --json
  python -m launch.benchmark --suite=zoo --rounds=1 --peer=/path/to/python \
    --out=zoo.jsonl
  python -m launch.benchmark --only=resnet20:1 --local_steps=8

A workload is Inverting Gradients on one update of random numbers, of images of
32x32 pixels unless it says `network:batch:size`. Each runs in a process of its
own, through the engine's compiled chunk, compiled with an empty cache and once
more from it; times are medians over `--rounds`. With `--peer`, the two run
alternately and the ratio compares processor time a restart-step: with breaching
by default, and for the zoo, every architecture at 32x32 and 224x224, with the
same step written in PyTorch (`tests/golden/torch_speed.py`, for an interpreter
with torch and torchvision). Run it on an idle machine. The zoo takes hours:
with `--out`, a command that was stopped goes on where it was.
"""

from collections.abc import Sequence
import json
import math
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app
from absl import flags

_ONLY = flags.DEFINE_list(
  'only', None, 'Workloads as network:batch or network:batch:size.'
)
_SUITE = flags.DEFINE_enum('suite', 'main', ['main', 'zoo'], 'Workloads.')
_RESTARTS = flags.DEFINE_integer('restarts', 0, 'R; 0: a full batch a device.')
_STEPS = flags.DEFINE_integer('steps', 0, 'T; 0: about two seconds.')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Repetitions; medians are shown.')
_PEER = flags.DEFINE_string('peer', None, "The peer's interpreter.")
_PEER_SCRIPT = flags.DEFINE_string(
  'peer_script', '../shared/peers/breaching_speed.py', 'Times the peer.'
)
_LOCAL_STEPS = flags.DEFINE_integer(
  'local_steps', 0, 'Of a FedAvg client, each on the whole batch; 0: FedSGD.'
)
_LOWERING = flags.DEFINE_string('lowering', 'auto', 'Of convolutions.')
_JSON = flags.DEFINE_bool('json', False, 'One object a workload.')
_OUT = flags.DEFINE_string(
  'out', None, 'Results are added to it, as JSON; what it holds is not rerun.'
)
_WORKER = flags.DEFINE_bool('worker', False, 'Run one workload here.')

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
# Made for small images: these, and the ResNets of three stages.
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
_TORCH = pathlib.Path(__file__).parents[1] / 'tests' / 'golden'
_MODELS = {'convnet64': {'name': 'convnet', 'width': 64}}
_PASSES = 7  # forward passes of arithmetic in a matching step
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
_WIDTH = 24  # of a workload's name


def main(argv: Sequence[str]) -> None:
  """Runs the workloads."""
  names = _ONLY.value or (_zoo() if _SUITE.value == 'zoo' else list(WORKLOADS))
  for name in names:
    numbers = name.split(':')[1:]
    if len(numbers) not in (1, 2) or not all(n.isdigit() for n in numbers):
      raise app.UsageError(
        'Expected network:batch or network:batch:size, such as '
        f'{", ".join(WORKLOADS)}; got {name}'
      )
  if _LOCAL_STEPS.value and _PEER.value:
    raise app.UsageError(
      'Expected no --peer with --local_steps, which the peers do not take; got '
      'both; leave one out'
    )
  if _WORKER.value:
    print(json.dumps(_work(*_split(names[0]))))
    return
  known = _known(_OUT.value) if _OUT.value else {}
  if not _JSON.value:
    _head()
  failed = []
  for name in names:
    key = _key(name)
    try:
      result = known.get(key) or {'key': key, **_measure(name)}
    except subprocess.CalledProcessError as error:
      failed.append(name)
      _failed(name, error)
      continue
    if _OUT.value and key not in known:
      with open(_OUT.value, 'a') as file:
        file.write(json.dumps(result) + '\n')
    _show(name, result)
  if failed:
    raise SystemExit(
      f'Expected {len(names)} workloads to succeed; {len(failed)} failed: '
      f'{", ".join(failed)}; run the commands above alone'
    )


def _zoo() -> list[str]:
  """Returns every architecture at every size and batch, small ones first."""
  from giajax import models

  return [
    f'{network}:{batch}:{size}'
    for size in _SIZES
    for batch in _BATCHES
    for network in models.MODELS
    if size == 32 or network not in _SMALL
  ]


def _key(name: str) -> str:
  """Returns what a result depends on, of the flags."""
  peer = [f'--suite={_SUITE.value}', '--peer'] if _PEER.value else []
  return ' '.join([*_settings(name), f'--rounds={_ROUNDS.value}', *peer])


def _known(path: str) -> dict[str, dict[str, Any]]:
  """Returns the results that a file holds, by key; none without a file."""
  try:
    with open(path) as file:
      rows = [json.loads(line) for line in file]
    return {row['key']: row for row in rows}
  except FileNotFoundError:
    return {}
  except (json.JSONDecodeError, KeyError, TypeError) as error:
    raise app.UsageError(
      f'Expected results of this command in --out={path}; got '
      f'{type(error).__name__}: {error}; use another file'
    ) from error


def _measure(name: str) -> dict[str, Any]:
  """Runs one workload, and the peer's, alternately."""
  ours, theirs = [], []
  for _ in range(_ROUNDS.value):
    ours.append(_spawn(_own_command(name)))
    if _PEER.value:
      theirs.append(_spawn(_peer_command(name, _PEER.value)))
      if _SUITE.value == 'zoo':
        _require_same(name, ours[-1], theirs[-1])
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
  return result


def _require_same(
  name: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
  """Ends the command if the peer of the zoo has another network."""
  for key in ('parameters', 'convolution_flops'):
    if ours[key] != theirs[key]:
      raise SystemExit(
        f'Expected the same network of the peer for {name}; got {key} of '
        f'{theirs[key]:,} for {ours[key]:,}; mend tests/golden/torch_nets.py'
      )


def _work(network: str, batch: int, size: int) -> dict[str, Any]:
  """Times one workload in this process."""
  import jax
  import numpy as np

  from giajax.commands import process
  from giajax.engine import build
  from giajax.engine import mesh
  from giajax.engine import program as programs
  from giajax.engine.sources import simulated

  process.use_machine()  # as `giajax` does
  config = build.resolve(
    {
      'dataset': {'name': 'photographs', 'size': size},
      'cases': {'batch_size': batch},
      'model': _MODELS.get(network, {'name': network}),
      'client': {'name': 'fedavg', 'epochs': _LOCAL_STEPS.value}
      if _LOCAL_STEPS.value
      else {'name': 'fedsgd'},
      'noise_control': False,
      'run': {'lowering': _LOWERING.value},
    }
  )
  setup = build.setup(config)
  hp = build.hparams(config['attack'], setup.attack)
  message, seen = _seen(setup, simulated.item(setup, 0).batch)
  width = programs.restarts_per_batch(setup.world)
  restarts = _RESTARTS.value or width * jax.device_count()
  where = mesh.layout(1, restarts, width, together=setup.attack.group)
  compiled = programs.program(setup.attack, where)
  item, both = mesh.P(mesh.ITEM), mesh.P(mesh.ITEM, mesh.RESTART)
  inputs = (
    mesh.put(message, where, mesh.P()),
    mesh.put(jax.tree.map(lambda a: np.asarray(a)[None], seen), where, item),
    mesh.put({k: np.stack([v]) for k, v in hp.items()}, where, item),
    mesh.put(programs.seeds(0, [0], [False], where), where, both),
  )

  def bounds(steps):
    return mesh.put((np.int32(0), np.int32(steps)), where, mesh.P())

  carry = compiled.init(*inputs)
  # As `giajax` compiles, which keeps what took a second or more.
  with tempfile.TemporaryDirectory() as folder:
    jax.config.update('jax_compilation_cache_dir', folder)
    seconds = []
    for _ in range(2):
      began = time.time()
      chunk = compiled.chunk.lower(*inputs, carry, *bounds(1)).compile()
      seconds.append(time.time() - began)
      jax.clear_caches()

  def run(carry, steps):
    return jax.block_until_ready(chunk(*inputs, carry, *bounds(steps)))

  carry = run(carry, 1)
  began = time.time()
  carry = run(carry, 1)
  steps = _STEPS.value or max(3, math.ceil(2 / (time.time() - began)))
  wall, cpu = time.time(), time.process_time()
  run(carry, steps)
  wall, cpu = time.time() - wall, time.process_time() - cpu
  done = steps * where.restarts
  convolutions, dense = _forward_flops(setup)
  flops = _PASSES * (dense + convolutions) * max(1, _LOCAL_STEPS.value)
  return {
    'network': network,
    'batch': batch,
    'size': size,
    'local_steps': _LOCAL_STEPS.value,
    'parameters': sum(
      leaf.size for leaf in jax.tree.leaves(setup.variables.params)
    ),
    'convolution_flops': convolutions,
    'lowerings': _lowerings(setup.net, batch),
    'restarts': where.restarts,
    'restarts_per_batch': where.restarts_per_batch,
    'steps': steps,
    'ms_per_step': 1e3 * wall / done,
    'cpu_ms_per_step': 1e3 * cpu / done,
    'restarts_per_second': done / wall,
    'compile_seconds': seconds[0],
    'cached_seconds': seconds[1],
    'peak_gb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    'matmul_share': flops * done / wall / _matmul_rate(),
    'device': f'{jax.devices()[0].device_kind} x{jax.device_count()}',
  }


def _seen(setup: Any, batch: Any) -> tuple[Any, Any]:
  """Returns what an attacker sees of a batch, the update drawn at random."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from giajax import threat
  from giajax import types

  variables, draw = setup.variables, np.random.default_rng(0).normal
  delta = jax.tree.map(
    lambda a: draw(size=a.shape).astype(a.dtype), variables.params
  )
  size = jnp.asarray(len(batch.y), jnp.int32)
  classes = setup.net.spec.num_classes
  update = types.Update(delta, variables.stats, size)
  message = types.ServerMessage(variables)
  shown, update = threat.observed(setup.granted, message, update)
  side = threat.side(setup.granted, batch, classes, lambda: batch.x)
  return shown, types.Observation(types.NO_MESSAGE, update, side)


def _lowerings(net: Any, batch: int) -> dict[str, int]:
  """Returns how many convolutions have which lowering, at a batch size."""
  import collections

  from giajax import trees
  from giajax.models import inspect
  from giajax.ops import convolution
  from giajax.ops import geometries

  params = trees.named_leaves(inspect.abstract_variables(net).params)
  return dict(
    collections.Counter(
      _LOWERING.value
      if _LOWERING.value != 'auto'
      else convolution.choose(
        geometries.Shapes(
          (batch, *site.input.shape[1:]),
          params[f'{path}.kernel'].shape,
          site.geometry,
        )
      )
      for path, site in inspect.sites(net).items()
      if site.kind == 'conv'
    )
  )


def _forward_flops(setup: Any) -> tuple[int, int]:
  """Returns the FLOP of a forward pass: of convolutions, and of all else."""
  import jax
  import jax.numpy as jnp

  from giajax.models import inspect

  net, shapes = setup.net, {}
  x = jax.ShapeDtypeStruct((1, *net.spec.image_shape), jnp.float32)

  def visit(variables, x):
    shapes.update(net.probe(variables, x, None)[2])

  variables = inspect.abstract_variables(net)
  jax.eval_shape(visit, variables, x)
  dense = convolutions = 0
  for path, out in shapes.items():
    node = variables.params
    for part in path.split('.'):
      node = node[part]
    if 'kernel' in node:
      kernel = node['kernel'].shape
      flops = 2 * math.prod(out.shape) * math.prod(kernel[:-1])
      if len(kernel) == 4:
        convolutions += flops
      else:
        dense += flops
  return convolutions * setup.world.batch_size, dense * setup.world.batch_size


def _matmul_rate() -> float:
  """Returns the FLOP/s of a 2,048-square float32 matmul here."""
  import jax
  import jax.numpy as jnp

  a = jnp.ones((2048, 2048))
  product = jax.jit(jnp.matmul)
  product(a, a).block_until_ready()
  began = time.time()
  for _ in range(5):
    product(a, a).block_until_ready()
  return 5 * 2 * 2048**3 / (time.time() - began)


def _split(name: str) -> tuple[str, int, int]:
  network, *numbers = name.split(':')
  batch, size = (*map(int, numbers), 32)[:2]
  return network, batch, size


def _own_command(name: str) -> list[str]:
  worker = [sys.executable, '-m', 'launch.benchmark', '--worker']
  return [*worker, *_settings(name)]


def _settings(name: str) -> list[str]:
  """Returns the flags that a worker's figures depend on."""
  return [
    f'--only={name}',
    f'--restarts={_RESTARTS.value}',
    f'--steps={_STEPS.value}',
    f'--lowering={_LOWERING.value}',
    f'--local_steps={_LOCAL_STEPS.value}',
  ]


def _peer_command(name: str, python: str) -> list[str]:
  network, batch, size = _split(name)
  steps = WORKLOADS.get(name, 3)
  script = str(_PEER_SCRIPT.value)
  if _SUITE.value == 'zoo':
    script = str(_TORCH / 'torch_speed.py')
  return [
    python,
    script,
    f'--network={network}',
    f'--batch={batch}',
    f'--size={size}',
    f'--steps={steps}',
  ]


def _spawn(command: list[str]) -> dict[str, Any]:
  """Runs a command and returns the JSON object on its last line."""
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return json.loads(done.stdout.strip().splitlines()[-1])


def _failed(name: str, error: subprocess.CalledProcessError) -> None:
  """Says on stderr what failed; a killed process most often lacked memory."""
  tail = error.stderr.strip().splitlines()[-1:] or ['nothing on stderr']
  how = f'exit code {error.returncode}'
  if error.returncode < 0:
    how = f'killed by {signal.Signals(-error.returncode).name}'
  line = f'{name}: {how}: {tail[0]}: {" ".join(error.cmd)}'
  print(line, file=sys.stderr, flush=True)


def _median(runs: Sequence[dict[str, Any]], key: str) -> float | None:
  return statistics.median(run[key] for run in runs) if runs else None


def _head() -> None:
  """Prints the titles of the table, which is Markdown."""
  titles = [f'{title:>{width}}' for _, title, width, _ in _COLUMNS]
  rules = ['-' * (width - 1) + ':' for _, _, width, _ in _COLUMNS]
  _line([f'{"workload":{_WIDTH}}', *titles, 'lowerings'])
  _line(['-' * _WIDTH, *rules, '-' * len('lowerings')])


def _show(name: str, result: dict[str, Any]) -> None:
  if _JSON.value:
    print(json.dumps(result), flush=True)
    return
  cells = []
  for key, _, width, digits in _COLUMNS:
    value = result[key]
    text = '–' if value is None else f'{value:.{digits}f}'
    cells.append(f'{text:>{width}}')
  lowerings = ', '.join(f'{n} {k}' for k, n in result['lowerings'].items())
  _line([f'{name:{_WIDTH}}', *cells, lowerings or '–'])


def _line(cells: Sequence[str]) -> None:
  print(f'| {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
  app.run(main)
