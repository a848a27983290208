"""Times one workload of the benchmark, and prints the figures as JSON.

python -m giajax.launch.workload NETWORK:BATCH [--restarts=0] [--steps=0]
  [--lowering=auto] [--local_steps=0]
"""

import collections
from collections.abc import Callable, Sequence
import json
import math
import resource
import sys
import tempfile
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import threat
from giajax import trees
from giajax import types
from giajax.commands import flags
from giajax.commands import process
from giajax.engine import build
from giajax.engine import experiment
from giajax.engine import mesh
from giajax.engine import program as programs
from giajax.engine.sources import simulated
from giajax.models import base as models
from giajax.models import inspect
from giajax.ops import convolution
from giajax.ops import geometries

COMMAND = 'python -m giajax.launch.workload'
USAGE = f'{COMMAND} NETWORK:BATCH'
FLAGS = (
  flags.Flag(
    'restarts', 'The number of restarts; 0 fills every device.', 0, int, 0
  ),
  flags.Flag(
    'steps', 'The number of steps; 0 takes about two seconds.', 0, int, 0
  ),
  flags.Flag('lowering', 'The lowering of the convolutions.', 'auto'),
  flags.Flag(
    'local_steps',
    'Local steps of a FedAvg client, each on the whole batch; 0 is FedSGD.',
    0,
    int,
    0,
  ),
)
_MODELS = {'convnet64': {'name': 'convnet', 'width': 64}}
_PASSES = 7  # forward passes that cost as much as a matching step


class Workload(NamedTuple):
  """One update to attack: `batch` images of `size` x `size` pixels."""

  network: str
  batch: int
  size: int


def parse(name: str) -> Workload:
  """Returns the workload that `network:batch` or `network:batch:size` names.

  Raises:
    ValueError: the name has another form.
  """
  network, *numbers = name.split(':')
  if len(numbers) not in (1, 2) or not all(n.isdigit() for n in numbers):
    raise ValueError(
      'Expected network:batch or network:batch:size; got '
      f'{name!r}; write, for instance, resnet18:8'
    )
  batch, size = (*map(int, numbers), 32)[:2]
  return Workload(network, batch, size)


def main(argv: Sequence[str]) -> int:
  """Times the workload of a command line and returns the exit code."""
  try:
    arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
    if arguments.help:
      print(flags.help_text(__doc__, FLAGS))
      return 0
    process.use_machine()  # as `giajax` does
    figures = _time(parse(arguments.words[0]), arguments.values)
  except ValueError as error:
    if not str(error).startswith('Expected'):
      raise
    print(f'launch: {error}', file=sys.stderr)
    return 2
  print(json.dumps(figures))
  return 0


def _time(workload: Workload, values: Any) -> dict[str, Any]:
  """Returns the figures of a workload; `values` are those of `FLAGS`."""
  config = _config(workload, values)
  setup = build.setup(config)
  hp = build.hparams(config['attack'], setup.attack)
  message, obs = _observation(setup, simulated.item(setup, 0).batch)
  width = programs.restarts_per_batch(setup.world)
  restarts = values.restarts or width * jax.device_count()
  where = mesh.layout(1, restarts, width, together=setup.attack.group)
  program = programs.program(setup.attack, where, setup.products)
  item, both = mesh.P(mesh.ITEM), mesh.P(mesh.ITEM, mesh.RESTART)
  inputs = (
    mesh.put(message, where, mesh.P()),
    mesh.put(jax.tree.map(lambda a: np.asarray(a)[None], obs), where, item),
    mesh.put({k: np.stack([v]) for k, v in hp.items()}, where, item),
    mesh.put(programs.seeds(0, [0], [False], where), where, both),
  )

  def bounds(steps):
    return mesh.put((np.int32(0), np.int32(steps)), where, mesh.P())

  carry = program.init(*inputs)
  chunk, seconds = _compiled(program.chunk, *inputs, carry, *bounds(1))

  def run(carry, steps):
    return jax.block_until_ready(chunk(*inputs, carry, *bounds(steps)))

  carry = run(carry, 1)
  began = time.time()
  carry = run(carry, 1)
  steps = values.steps or max(3, math.ceil(2 / (time.time() - began)))
  wall, cpu = time.time(), time.process_time()
  run(carry, steps)
  wall, cpu = time.time() - wall, time.process_time() - cpu
  done = steps * where.restarts
  convolutions, dense = _forward_flops(setup)
  flops = _PASSES * (dense + convolutions) * max(1, values.local_steps)
  return {
    **workload._asdict(),
    'local_steps': values.local_steps,
    'parameters': sum(
      leaf.size for leaf in jax.tree.leaves(setup.variables.params)
    ),
    'convolution_flops': convolutions,
    'lowerings': _lowerings(setup.net, workload.batch, values.lowering),
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


def _config(workload: Workload, values: Any) -> dict[str, Any]:
  client: dict[str, Any] = {'name': 'fedsgd'}
  if values.local_steps:
    client = {'name': 'fedavg', 'epochs': values.local_steps}
  network = workload.network
  return build.resolve(
    {
      'dataset': {'name': 'photographs', 'size': workload.size},
      'cases': {'batch_size': workload.batch},
      'model': _MODELS.get(network, {'name': network}),
      'client': client,
      'noise_control': False,
      'run': {'lowering': values.lowering},
    }
  )


def _compiled(chunk: Any, *inputs: Any) -> tuple[Callable[..., Any], list]:
  """Compiles with an empty cache, and once more from it.

  Returns:
    The compiled function, and the seconds of both compilations.
  """
  seconds = []
  # As `giajax` compiles; it keeps programs that took a second or more.
  with tempfile.TemporaryDirectory() as folder:
    jax.config.update('jax_compilation_cache_dir', folder)
    for _ in range(2):
      began = time.time()
      compiled = chunk.lower(*inputs).compile()
      seconds.append(time.time() - began)
      jax.clear_caches()
  return compiled, seconds


def _observation(
  setup: experiment.Setup, batch: types.Batch
) -> tuple[types.ServerMessage, types.Observation]:
  """Returns what an attacker sees of a batch, with an update of noise."""
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


def _lowerings(net: models.Net, batch: int, lowering: str) -> dict[str, int]:
  """Returns the number of convolutions with each lowering, at a batch size."""
  params = trees.named_leaves(inspect.abstract_variables(net).params)

  def chosen(path, site):
    if lowering != 'auto':
      return lowering
    images = (batch, *site.input.shape[1:])
    kernel = params[f'{path}.kernel'].shape
    return convolution.choose(geometries.Shapes(images, kernel, site.geometry))

  sites = inspect.sites(net).items()
  return dict(
    collections.Counter(
      chosen(path, site) for path, site in sites if site.kind == 'conv'
    )
  )


def _forward_flops(setup: experiment.Setup) -> tuple[int, int]:
  """Returns the FLOP of a forward pass: of convolutions, and of all else."""
  net, shapes = setup.net, {}
  probe = net.probe
  assert probe  # every row of MODELS has one
  x = jax.ShapeDtypeStruct((1, *net.spec.image_shape), jnp.float32)

  def visit(variables, x):
    shapes.update(probe(variables, x, None)[2])

  variables = inspect.abstract_variables(net)
  jax.eval_shape(visit, variables, x)
  params = trees.named_leaves(variables.params)
  dense = convolutions = 0
  for path, out in shapes.items():
    kernel = params.get(f'{path}.kernel')
    if kernel is None:
      continue
    flops = 2 * math.prod(out.shape) * math.prod(kernel.shape[:-1])
    if len(kernel.shape) == 4:
      convolutions += flops
    else:
      dense += flops
  return convolutions * setup.world.batch_size, dense * setup.world.batch_size


def _matmul_rate() -> float:
  """Returns the FLOP/s of a 2,048-square float32 matmul here."""
  a = jnp.ones((2048, 2048))
  product = jax.jit(jnp.matmul)
  product(a, a).block_until_ready()
  began = time.time()
  for _ in range(5):
    product(a, a).block_until_ready()
  return 5 * 2 * 2048**3 / (time.time() - began)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
