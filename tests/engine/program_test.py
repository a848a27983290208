"""Tests of the compiled part: keys, frozen restarts, devices."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import mesh
from giajax.engine import plan
from giajax.engine import program as programs
from giajax.engine.sources import simulated

_COLLECTIVES = re.compile(
  r'all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter'
)


def test_keys_are_by_identity():
  where = mesh.layout(3, 4, 4)
  drawn = programs.seeds(0, [5, 7, 5], [False, False, True], where)
  assert drawn.shape[:2] == (3, 4)
  assert len({tuple(key) for key in drawn.reshape(12, -1)}) == 12
  alone = programs.seeds(0, [7], [False], mesh.layout(1, 2, 1))
  np.testing.assert_array_equal(alone[0], drawn[1, :2])
  other = programs.seeds(1, [7], [False], mesh.layout(1, 2, 1))
  assert not np.array_equal(other, alone)


def _counting(fails_at):
  """An attack that counts; restarts whose count begins odd fail."""

  def init(key, obs, hp):
    odd = jax.random.bernoulli(key)
    return {'count': jnp.float32(0), 'odd': odd}

  def step(key, state, obs, hp):
    count = state['count'] + hp['rate']
    bad = state['odd'] & (count > fails_at)
    count = jnp.where(bad, jnp.nan, count)
    info = types.Info(count, {}, jnp.isfinite(count))
    return {**state, 'count': jnp.where(bad, state['count'], count)}, info

  def read(state, obs, hp):
    x = jnp.full((1, 2, 2, 1), state['count'])
    batch = types.Batch(x, jnp.zeros(1, jnp.int32))
    return types.Reconstruction(batch, jnp.ones(1, bool), state['count'])

  return base.Attack(
    base.honest, init, step, read, 9, 1, {'rate': 1.0}, frozenset()
  )


@pytest.mark.parametrize('together', [False, True])
def test_restarts_that_fail_are_frozen(together, monkeypatch):
  if together:  # as on a GPU
    monkeypatch.setattr(programs, '_mapped', programs._vmapped)
  where = mesh.layout(2, 8, 3)
  item, both = mesh.P(mesh.ITEM), mesh.P(mesh.ITEM, mesh.RESTART)
  seen = types.Observation(
    types.NO_MESSAGE, {'g': np.zeros((2, 3), np.float32)}, {}
  )
  inputs = (
    mesh.put({'w': np.zeros(3, np.float32)}, where, mesh.P()),
    mesh.put(seen, where, item),
    mesh.put({'rate': np.float32([1, 2])}, where, item),
    mesh.put(programs.seeds(0, [0, 1], [False] * 2, where), where, both),
  )
  program = programs.compiled(programs.program(_counting(4.0), where), *inputs)
  carry = program.init(*inputs)
  odd = np.asarray(carry.state['odd'])
  assert 0 < odd.sum() < odd.size
  for t0, t1 in ((0, 3), (3, 9)):
    bounds = mesh.put((np.int32(t0), np.int32(t1)), where, mesh.P())
    carry = program.chunk(*inputs, carry, *bounds)
  np.testing.assert_array_equal(np.asarray(carry.alive), ~odd)
  expected = np.where(odd, 4.0, [[9.0], [18.0]])
  np.testing.assert_array_equal(np.asarray(carry.loss), expected)
  found = program.read(*inputs[:3], carry)
  np.testing.assert_array_equal(np.asarray(found.score), expected)


def _agreeing():
  """An attack whose restarts go half of the way to their mean."""

  def init(key, obs, hp):
    return {'x': jax.random.normal(key)}

  def step(key, state, obs, hp):
    mean = jax.lax.pmean(state['x'], worlds.RESTARTS)
    x = state['x'] + hp['rate'] * (mean - state['x'])
    return {'x': x}, types.Info(x, {}, jnp.isfinite(x))

  def read(state, obs, hp):
    mean = jax.lax.pmean(state['x'], worlds.RESTARTS)
    batch = types.Batch(jnp.full((1, 2, 2, 1), mean), jnp.zeros(1, jnp.int32))
    return types.Reconstruction(batch, jnp.ones(1, bool), state['x'])

  return base.Attack(
    base.honest, init, step, read, 4, 1, {'rate': 0.5}, frozenset(), group=True
  )


@pytest.mark.parametrize('vmapped', [False, True])
def test_restarts_that_work_together(vmapped, monkeypatch):
  if vmapped:  # as on a GPU
    monkeypatch.setattr(programs, '_mapped', programs._vmapped)
  where = mesh.layout(2, 5, 2, together=True)
  item, both = mesh.P(mesh.ITEM), mesh.P(mesh.ITEM, mesh.RESTART)
  seen = types.Observation(
    types.NO_MESSAGE, {'g': np.zeros((2, 3), np.float32)}, {}
  )
  inputs = (
    mesh.put({'w': np.zeros(3, np.float32)}, where, mesh.P()),
    mesh.put(seen, where, item),
    mesh.put({'rate': np.float32([0.5, 0.25])}, where, item),
    mesh.put(programs.seeds(0, [0, 1], [False] * 2, where), where, both),
  )
  program = programs.compiled(programs.program(_agreeing(), where), *inputs)
  carry = program.init(*inputs)
  start = np.asarray(carry.state['x'])
  for t0, t1 in ((0, 1), (1, 4)):  # in pieces, as when it is resumed
    bounds = mesh.put((np.int32(t0), np.int32(t1)), where, mesh.P())
    carry = program.chunk(*inputs, carry, *bounds)
  mean = start.mean(axis=1, keepdims=True)
  left = np.array([[0.5**4], [0.75**4]])
  expected = mean + left * (start - mean)
  np.testing.assert_allclose(carry.state['x'], expected, rtol=1e-4, atol=1e-6)
  found = program.read(*inputs[:3], carry).batch.x[:, :, 0, 0, 0, 0]
  np.testing.assert_allclose(
    found, np.broadcast_to(mean, (2, 5)), rtol=1e-4, atol=1e-6
  )


# A convolution at batch 1: what `jit` over devices silently gets wrong. On 8
# devices it is XLA's own, on one the default lowering: that is a flag, too.
_SCRIPT = """
import sys, tempfile
from flax import nnx
import numpy as np
import tiny
from giajax.attacks import ATTACKS
from giajax.attacks.parts import match, optimizers, variables
from giajax.engine import program, run
from giajax.priors import group_consistency
from giajax.models import MODELS, base, from_nnx, layers
class Net(nnx.Module):
  def __init__(self, rngs):
    self.conv = layers.Conv(3, 4, 3, 1, 1, rngs=rngs)
    self.fc = layers.Linear(4 * 8 * 8, 16, rngs=rngs)
  def __call__(self, x):
    return self.fc(layers.flatten(nnx.sigmoid(self.conv(x))))
def small(image_shape, num_classes, *, lowering):
  spec = base.make_spec('small', image_shape, num_classes, 'none')
  return from_nnx.from_nnx(lambda rngs: Net(rngs), spec, lowering)
MODELS['small'] = small
def grouped(world):
  return match.match(
    world, variable=variables.pixels(world), distance='cosine', num_steps=6,
    terms={'group': (0.5, group_consistency.group_consistency(world))},
    optimizer=optimizers.signed_adam(6), form='explicit',
    learning_rate=0.1, keep_best=False)
ATTACKS['grouped'] = grouped
texts = []
compiled = program.compiled
def spy(*args):
  made = compiled(*args)
  texts.append(made.chunk.as_text())
  return made
program.compiled = spy
config = tiny.config(model=dict(name='small'), restarts=3)
config.dataset.size = 8
config.attack = dict(
  name='inverting_gradients', num_steps=6, form='explicit'
)
config.noise_controls = 0
config.run.lowering = sys.argv[2]
run.audit(config, sys.argv[1])
config.attack = dict(name='grouped')
run.audit(config, sys.argv[1] + '/group')
open(sys.argv[1] + '/hlo.txt', 'w').write(texts[0])
open(sys.argv[1] + '/group/hlo.txt', 'w').write(texts[1])
"""


@pytest.fixture(scope='module')
def by_devices(tmp_path_factory):
  """Returns the workdirs of one run on 1 and on 8 devices."""
  folder = tmp_path_factory.mktemp('devices')
  for count, lowering in ((1, 'auto'), (8, 'lax')):
    subprocess.run(
      [sys.executable, '-c', _SCRIPT, str(folder / str(count)), lowering],
      cwd=tiny.ROOT / 'tests',
      env={
        **os.environ,
        'JAX_PLATFORMS': 'cpu',
        'JAX_NUM_CPU_DEVICES': str(count),
      },
      check=True,
      timeout=300,
    )
    meta = json.loads((folder / str(count) / 'config.json').read_text())
    assert meta['device'].endswith(f'x{count}')
  return folder


@pytest.mark.parametrize('run', ['.', 'group'])
def test_eight_devices_give_the_same_reconstructions(by_devices, run):
  with (
    np.load(by_devices / '1' / run / 'recon.npz') as one,
    np.load(by_devices / '8' / run / 'recon.npz') as eight,
  ):
    assert one.files == eight.files
    assert np.abs(one['0000/x_hat'] - one['0000/x_start']).max() > 0.1
    for name in one.files:
      np.testing.assert_allclose(
        eight[name], one[name], atol=1e-4, rtol=1e-4, err_msg=name
      )


@pytest.mark.parametrize('run', ['.', 'group'])
@pytest.mark.parametrize('devices', [1, 8])
def test_compiled_chunk_has_no_collectives(by_devices, devices, run):
  text = (by_devices / str(devices) / run / 'hlo.txt').read_text()
  assert 'while' in text
  assert not _COLLECTIVES.search(text)


def test_restarts_fit_the_memory(monkeypatch):
  world = build.setup(build.resolve(tiny.config())).world
  plenty = programs.restarts_per_batch(world)
  assert plenty > 1
  assert programs.items_together(world, 4) is None
  monkeypatch.setattr(programs, '_device_bytes', lambda: 1.0)
  assert programs.restarts_per_batch(world) == 1


def test_a_state_that_exceeds_the_memory_is_refused(monkeypatch):
  cohort, *_ = plan.cohorts(build.experiment(tiny.config()))
  where = mesh.layout(1, 2, 1)
  jitted = programs.program(cohort.setup.attack, where)

  class Lowered:
    out_info = jax.ShapeDtypeStruct((1, 2, 2**48), np.float32)

  jitted = jitted._replace(init=Lowered)
  monkeypatch.setattr(Lowered, 'lower', lambda *_: Lowered, raising=False)
  with pytest.raises(ValueError, match=r'^Expected an attack that fits .* GB'):
    programs.compiled(jitted, (), (), {}, np.zeros((1, 2, 2), np.uint32))


@pytest.mark.parametrize(
  'error',
  [
    MemoryError('no room'),
    jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: no room'),
  ],
)
def test_memory_that_cannot_be_had_is_one_line(error):
  words = r'^Expected work that .*no room'
  with pytest.raises(ValueError, match=words), programs.memory():
    raise error


def test_other_errors_of_jax_stay_what_they_are():
  error = jax.errors.JaxRuntimeError
  with pytest.raises(error, match='another'), programs.memory():
    raise error('another')


def test_items_that_run_together_fit_an_accelerator(monkeypatch):
  setup = build.setup(build.resolve(tiny.config(cases__count=9)))
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  cpu = jax.local_devices()[0]
  assert programs._device_bytes() == 2e9, f'{cpu} says nothing of its memory'
  # float32: copies of both layers' inputs, and of a gradient.
  weights = 12 * 12 * 3 * 8 + 8 + 8 * 16 + 16
  one = 4 * (16 * (12 * 12 * 3 + 8) + 3 * weights)
  monkeypatch.setattr(programs, '_device_bytes', lambda: 7.5 * one)
  assert programs.fitting(setup.world) == 7
  assert programs.restarts_per_batch(setup.world) == 7
  assert programs.items_together(setup.world, 2) == 3 * jax.device_count()
  assert programs.items_together(setup.world, 16) == jax.device_count()
  part, *_ = plan.parts(
    [plan.cohorts(build.experiment(tiny.config(cases__count=9)))[0]], {}
  )
  assert len(part.work) <= 3 * jax.device_count()


@pytest.mark.parametrize('products', ['highest', 'tensorfloat32'])
def test_products_are_as_exact_as_they_are_asked_to_be(products):
  setup = build.setup(build.resolve(tiny.config()))
  where = mesh.layout(1, 2, 2)
  program = programs.program(setup.attack, where, products)
  item = simulated.item(setup, 0)
  obs = exchange.observer(setup, exchange.player(setup))([item])
  hp = {
    name: np.float32([value]) for name, value in setup.attack.hparams.items()
  }
  seeds = programs.seeds(0, [0], [False], where)
  inputs = (obs.message, obs._replace(message=types.NO_MESSAGE), hp, seeds)
  with jax.default_matmul_precision('bfloat16'):  # which it is not to inherit
    carry = jax.eval_shape(program.init, *inputs)
    bounds = np.int32(0), np.int32(1)
    text = program.chunk.lower(*inputs, carry, *bounds).as_text()
  exact = set(re.findall(r'precision = \[(\w+), (\w+)\]', text))
  wanted = {'highest': 'HIGHEST', 'tensorfloat32': 'HIGH'}[products]
  assert (wanted, wanted) in exact
  assert exact <= {(wanted, wanted), ('HIGHEST', 'HIGHEST')}
