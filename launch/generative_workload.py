"""Times a workload of the generative suite, and prints the figures as JSON.

python -m giajax.launch.generative_workload WORKLOAD [--steps=0]
  [--lowering=auto] [--case=FILE]

With --case, the inputs and the weights of the first step are written to an npz
file, so that a peer takes the same step.
"""

from . import errors

if __name__ == '__main__':
  errors.begin('starts again')

from collections.abc import Callable, Mapping, Sequence
import json
import math
import pathlib
import sys
import tempfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import archives
from giajax import keys
from giajax import registry
from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.commands import flags
from giajax.commands import process
from giajax.engine import build
from giajax.engine import mesh
from giajax.engine import program as programs
from giajax.engine import provenance
from giajax.engine import trainings
from giajax.engine.sources import simulated
from giajax.generative import base as generative
from giajax.generative import lti
from giajax.learners import inversion
from giajax.models import base as models
from giajax.models import convert

from . import timing
from . import workload as workloads

COMMAND = 'python -m giajax.launch.generative_workload'
USAGE = f'{COMMAND} WORKLOAD'
SETTINGS = ('steps', 'lowering')
FLAGS = (
  *(flag for flag in workloads.FLAGS if flag.name in SETTINGS),
  flags.Flag('case', 'An npz file to write, for the peer.'),
)
_PASSES, _IMAGES = 50, 64  # that running statistics are made of
_MANY = 100_000  # steps of a training whose first ones are timed


class Workload(NamedTuple):
  """A step of an attack, or of training what it needs.

  Attributes:
    network: whose update is inverted.
    attack: the entry of a config.
    count: what a step counts: restarts, candidates or updates, see `UNITS`.
    size: of the images, in pixels.
  """

  network: str
  attack: Mapping[str, Any]
  count: int
  size: int = 32


class Prepared(NamedTuple):
  """A workload whose step is compiled.

  Attributes:
    run: `(state, first, last) -> state`, the steps between two numbers, which
      take the state apart.
    state: the state before the first step.
    losses: `(state) -> [n]`, those of the last step.
    case: `(before, after) -> arrays by name`, what a peer needs, of the states
      before and after the first step.
    parameters: how many the network has, and the generator.
    count: the number of units in a step.
    seconds: those of the compilation, and of one more from the cache.
    follows: whether a peer takes the second step, too.
  """

  run: Callable[[Any, int, int], Any]
  state: Any
  losses: Callable[[Any], np.ndarray]
  case: Callable[[Any, Any], dict[str, np.ndarray]]
  parameters: tuple[int, int]
  count: int
  seconds: list[float]
  follows: bool = False


# What is counted, by attack.
UNITS = {'ci_net': 'restart-step', 'ggl': 'evaluation', 'lti': 'gradient'}
_CI_NET = {'name': 'ci_net'}
_LTI = {
  'name': 'lti',
  'generator': {'name': 'lti', 'hashed': 4096, 'width': 1024},
}
_GGL = {'name': 'ggl', 'generator': {'name': 'conditional_dcgan', 'width': 16}}
WORKLOADS = {
  'ci_net:lenet:1': Workload('lenet', _CI_NET, 1),
  'ci_net:lenet:4': Workload('lenet', _CI_NET, 4),
  'ci_net:resnet20:1': Workload('resnet20', _CI_NET, 1),
  'ci_net:resnet20:4': Workload('resnet20', _CI_NET, 4),
  'lti:lenet': Workload('lenet', _LTI, 64),
  'ggl:lenet': Workload('lenet', _GGL, 50),
}


@errors.reported
def main(argv: Sequence[str]) -> int:
  """Times the workload of a command line and returns the exit code."""
  arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  own = registry.lookup(WORKLOADS, arguments.words[0], 'workload')
  process.use_machine()  # as `giajax` does
  values = arguments.values
  with process.devices():
    figures, case = measure(own, values.steps, values.lowering)
  if values.case:
    archives.write(values.case, case)
  print(json.dumps(figures))
  return 0


def measure(
  workload: Workload, steps: int = 0, lowering: str = 'auto'
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Returns the figures of a workload, and what a peer needs.

  Args:
    workload: what is timed.
    steps: the number of steps; 0 takes about two seconds.
    lowering: name of the convolution lowering.

  Raises:
    ValueError: an unknown network or lowering.
  """
  jax.block_until_ready(jnp.zeros(()) + 1)  # the device is up
  asked = timing.now()
  kind = workload.attack['name']
  ready = _KINDS[kind](workload, lowering)

  def run(state, first, last):
    return jax.block_until_ready(ready.run(state, first, last))

  before = _host(ready.state)
  state = run(ready.state, 0, 1)
  case = ready.case(before, _host(state))
  losses = [ready.losses(state).tolist()]
  began = timing.now()
  state = run(state, 1, 2)
  steps = steps or max(3, math.ceil(2 / timing.since(began).wall))
  if ready.follows:
    losses.append(ready.losses(state).tolist())
  began = timing.now()
  run(state, 2, 2 + steps)
  took = timing.since(began)
  done = steps * ready.count
  figures = {
    'unit': UNITS[kind],
    'units_per_step': ready.count,
    'parameters': ready.parameters[0],
    'generator_parameters': ready.parameters[1],
    'losses': losses,
    'steps': steps,
    'ms_per_unit': 1e3 * took.wall / done,
    'cpu_ms_per_unit': 1e3 * took.cpu / done,
    'units_per_second': done / took.wall,
    'compile_seconds': ready.seconds[0],
    'cached_seconds': ready.seconds[-1],
    # Of the steps, and of all that was timed: compilations are longer.
    'other_load': timing.most([took.other, timing.since(asked).other]),
    'device': provenance.device(),
  }
  return figures, {'kind': np.asarray(kind), **case}


def _ci_net(workload: Workload, lowering: str) -> Prepared:
  """Restarts that change the weights of an untrained generator."""

  def case(before, after):
    del after
    tree = _only(before.state.inner.variable)
    arrays = {'z': tree['z']}
    for i in range(len(tree['z'])):
      weights = types.Variables(tree['params'], tree['stats'])
      own = jax.tree.map(lambda leaf, i=i: leaf[i], weights)
      arrays |= _named(f'generator.{i}', own)
    return arrays

  config = _config(workload, workload.attack, lowering)
  ready = _attack(config, workload.count, case)
  tree = _only(ready.state.state.inner.variable)
  count = sum(leaf[0].size for leaf in jax.tree.leaves(tree['params']))
  return ready._replace(parameters=(ready.parameters[0], count), follows=True)


def _ggl(workload: Workload, lowering: str) -> Prepared:
  """Populations of latents of a trained generator."""
  entry: dict[str, Any] = {**workload.attack, 'population': workload.count}
  config = _config(workload, entry, lowering)
  generator = trainings.of_generator(config, split='').generator
  variables = settled(generator)
  arrays = convert.to_state_dict(variables)

  def case(before, after):
    del before
    z = np.random.default_rng(0).standard_normal(
      (workload.count, *generator.spec.latent_shape), np.float32
    )
    z[0] = _only(after.state.variable['z'])[0, 0]  # the one of lowest loss
    return {'z': z, **_named('generator', variables)}

  with tempfile.TemporaryDirectory() as folder:
    path = str(pathlib.Path(folder) / 'generator.npz')
    archives.write(path, arrays)
    entry['generator'] = {**workload.attack['generator'], 'path': path}
    ready = _attack(_config(workload, entry, lowering), 1, case)
  return ready._replace(
    parameters=(ready.parameters[0], models.count(variables)),
    count=ready.count * workload.count,
  )


def _attack(
  config: Mapping[str, Any],
  restarts: int,
  case: Callable[[Any, Any], dict[str, np.ndarray]],
) -> Prepared:
  """Compiles an attack on the update of a photograph, as the engine does."""
  setup = build.setup(config)
  batch = simulated.item(setup, 0).batch
  message = types.ServerMessage(setup.variables)
  update, _ = jax.jit(setup.client.update)(jax.random.key(0), message, batch)
  width = programs.restarts_per_batch(setup.world)
  where = mesh.layout(1, restarts, width, together=setup.attack.group)
  program = programs.program(setup.attack, where, setup.products)
  arguments = workloads.inputs(setup, batch, where, update)

  def bounds(*steps):
    return mesh.put(tuple(map(np.int32, steps)), where, mesh.P())

  carry = program.init(*arguments)
  chunk, seconds = workloads.compiled_twice(
    program.chunk, *arguments, carry, *bounds(0, 1)
  )
  own = {
    **_victim(config, setup.client, setup.variables),
    'y': np.asarray(batch.y),
    **_named('observed', types.Variables(update.delta, {})),
  }
  return Prepared(
    run=lambda carry, *steps: chunk(*arguments, carry, *bounds(*steps)),
    state=carry,
    losses=lambda carry: np.asarray(_only(carry.loss)),
    case=lambda before, after: {**own, **case(before, after)},
    parameters=(models.count(setup.variables), 0),
    count=where.restarts,
    seconds=seconds,
  )


def _lti(workload: Workload, lowering: str) -> Prepared:
  """Training of a network that inverts updates, on images of noise."""
  config = _config(workload, workload.attack, lowering)
  training = trainings.of_generator(config, split='')
  spec, count = training.net.spec, workload.count
  learner = inversion.inversion(
    training.world,
    training.generator,
    training.message,
    num_steps=_MANY,
    batch_size=count,
  )
  draws = np.random.default_rng(0)
  x = draws.random((count, *spec.image_shape), np.float32)
  y = draws.integers(spec.num_classes, size=count, dtype=np.int32)

  def step(state, number, batch):
    key = jax.random.fold_in(jax.random.key(0), number)
    return learner.step(key, state[0], batch)

  # The images are an argument, lest their updates are compiled to constants.
  batch = types.Batch(jnp.asarray(x), jnp.asarray(y))
  state = jax.jit(learner.init)(jax.random.key(0)), {'mse': jnp.zeros(())}
  compiled, seconds = workloads.compiled_twice(
    jax.jit(step, donate_argnums=0), state, np.int32(0), batch
  )

  def run(state, first, last):
    for number in range(first, last):
      state = compiled(state, np.int32(number), batch)
    return state

  def case(before, after):
    del after
    return {
      **_victim(config, training.world.client, training.variables),
      'x': x,
      'y': y,
      **_named('generator', before[0].variables),
      **sums(training.variables, workload.attack['generator']['hashed']),
    }

  return Prepared(
    run=run,
    state=state,
    losses=lambda state: np.asarray(state[1]['mse'])[None],
    case=case,
    parameters=(
      models.count(training.variables),
      models.count(state[0].variables),
    ),
    count=count,
    seconds=seconds,
    follows=True,
  )


_KINDS = {'ci_net': _ci_net, 'ggl': _ggl, 'lti': _lti}


def settled(generator: generative.Generator) -> types.Variables:
  """Returns fresh weights with the running statistics that belong to them.

  Without these, the images of a fresh generator hardly depend on its latents.

  Args:
    generator: a generator that takes labels.
  """
  y = jnp.arange(_IMAGES) % generator.spec.num_classes

  def passed(stats, key):
    z = jax.random.normal(key, (_IMAGES, *generator.spec.latent_shape))
    own = fresh._replace(stats=stats)
    return generator.apply(own, z, y, train=True).stats, None

  root = jax.random.key(0)
  fresh = generator.init(keys.named(root, 'generator'))
  each = jax.random.split(keys.named(root, 'z'), _PASSES)
  return fresh._replace(stats=jax.lax.scan(passed, fresh.stats, each)[0])


def sums(variables: types.Variables, size: int) -> dict[str, np.ndarray]:
  """Returns which entries of a gradient `generative.lti` adds up.

  Args:
    variables: those of the network.
    size: the number m of sums, smaller than the number n of parameters.

  Returns:
    'entries', [ceil(n / m), m] places in the gradient as torch has it, its
    tensors in the order of their names; and 'factors', as many, which are 0
    where a sum has fewer entries.
  """
  leaves = trees.named_leaves(variables.params)
  names = sorted(leaves)
  ends = np.cumsum([leaves[name].size for name in names])
  numbers = np.split(np.arange(ends[-1]), ends[:-1])
  ours = {n: k.reshape(leaves[n].shape) for n, k in zip(names, numbers)}
  numbered = types.Variables(trees.nested(ours), {})
  theirs = convert.to_state_dict(numbered)
  order = np.concatenate([theirs[name].ravel() for name in sorted(theirs)])
  # The slope of sum_j j v_j says to which v_j an entry is added, and how.
  weights = jnp.arange(1.0, size + 1)
  slope = jax.grad(lambda u: lti.sketch(u[None], size)[0] @ weights)(
    jnp.zeros(len(order))
  )
  slope = np.asarray(slope)[order]
  scale = math.sqrt(size / len(order))
  places = np.round(np.abs(slope) / scale).astype(int) - 1
  entries = np.zeros((-(-len(order) // size), size), np.int32)
  factors = np.zeros(entries.shape, np.float32)
  filled = np.zeros(size, int)
  for entry, place in enumerate(places):
    entries[filled[place], place] = entry
    factors[filled[place], place] = scale * np.sign(slope[entry])
    filled[place] += 1
  return {'entries': entries, 'factors': factors}


def _config(
  workload: Workload, attack: Mapping[str, Any], lowering: str
) -> dict[str, Any]:
  images = {'name': 'photographs', 'size': workload.size}
  return build.resolve(
    {
      'dataset': images,
      'auxiliary': images,
      'model': {'name': workload.network},
      'attack': attack,
      'threat': {'level': 'D', 'grants': ('labels',)},
      'noise_controls': 0,
      'run': {'lowering': lowering},
    }
  )


def _victim(
  config: Mapping[str, Any], client: clients.Client, variables: types.Variables
) -> dict[str, np.ndarray]:
  """Returns what a peer needs to know of the network and its client."""
  spec = client.net.spec
  return {
    'network': np.asarray(config['model']['name']),
    'image_shape': np.asarray(spec.image_shape),
    'num_classes': np.asarray(spec.num_classes),
    'mean': np.asarray(spec.mean, np.float32),
    'std': np.asarray(spec.std, np.float32),
    'train_mode': np.asarray(client.train_mode),
    **_named('victim', variables),
  }


def _named(prefix: str, variables: types.Variables) -> dict[str, np.ndarray]:
  """Returns torch's state dict of variables, under a prefix."""
  arrays = convert.to_state_dict(variables)
  return {f'{prefix}.{name}': array for name, array in arrays.items()}


def _only(tree: types.Tree) -> types.Tree:
  """Returns the arrays of the one item, whose restarts come first then."""
  return jax.tree.map(lambda leaf: leaf[0], tree)


def _host(tree: types.Tree) -> types.Tree:
  return jax.tree.map(np.array, tree)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
