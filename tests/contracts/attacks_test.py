"""What every row of ATTACKS promises. A row without a setup here fails."""

import functools
import inspect
from typing import Any, NamedTuple

from contracts import attack_setups
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax import threat
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import ATTACKS
from giajax.attacks import base
from giajax.clients import aggregate
from giajax.ops import loop_invariants
from giajax.tasks import classification

RESTARTS = 3


class Trace(NamedTuple):
  """All that one restart shows."""

  start: Any
  end: Any
  infos: Any
  first: types.Reconstruction
  last: types.Reconstruction


class Case:
  """A row at work: its attack, what it sees, and its compiled restarts."""

  def __init__(self, name):
    assert name in attack_setups.SETUPS, f'give {name!r} a row in SETUPS'
    setup = attack_setups.SETUPS[name]
    self.name, self.setup, self.slots = name, setup, setup.slots
    net, task = setup.net(), classification.classification(4)

    def train(net):
      client = setup.client(net, task=task, train_mode=setup.train_mode)
      return aggregate.aggregate(client, setup.clients)

    self.world = worlds.World(net, task, train(net), setup.batch_size)
    self.attack = ATTACKS[name](self.world, **dict(setup.kwargs))
    x = jax.random.uniform(
      jax.random.key(1), (setup.batch_size, *net.spec.image_shape)
    )
    self.batch = types.Batch(x, jnp.arange(setup.batch_size) + 1)
    needs, alter = self.attack.needs, self.attack.on_net
    given = net if alter is None else alter(net)
    self.message = types.ServerMessage(given.init(jax.random.key(2)))
    self.side = threat.side(needs, self.batch, 4, lambda: self.batch.x[::-1])
    update = jax.jit(train(given).update)
    self.history = ()
    for _ in range(self.attack.num_rounds):
      message = self.craft(jax.random.key(5))
      sent = update(jax.random.key(3), message, self.batch)[0]
      seen = threat.observed(needs, message, sent)
      self.history += (types.Observation(*seen, self.side),)
    self.obs = self.attack.merge(self.history)
    self.hp = {n: jnp.float32(v) for n, v in self.attack.hparams.items()}
    self.keys = jax.random.split(jax.random.key(4), RESTARTS)
    self.traces = 0
    among = jax.vmap(self.restart, (0, None, None), axis_name=worlds.RESTARTS)
    self.run = jax.jit(among)

  def craft(self, key):
    """What the server sends, in the round after `history`."""
    return self.attack.craft(key, self.message, self.side, self.history)

  def restart(self, key, obs, hp):
    self.traces += 1
    start = self.attack.init(keys.named(key, 'init'), obs, hp)
    end, infos = start, ()
    if self.attack.num_steps:
      body = self.body(key, obs, hp)
      end, infos = jax.lax.scan(body, start, jnp.arange(self.setup.steps))
    read = self.attack.read
    return Trace(start, end, infos, read(start, obs, hp), read(end, obs, hp))

  @functools.cached_property
  def single(self):
    """The attack for one restart: a group of one where it needs a group."""
    attack = self.attack
    if not attack.group:
      return attack

    def alone(function, axes):
      among = jax.vmap(function, axes, axis_name=worlds.RESTARTS, axis_size=1)

      def one(*args):
        args = [
          arg if axis is None else jax.tree.map(lambda v: v[None], arg)
          for arg, axis in zip(args, axes)
        ]
        return jax.tree.map(lambda v: v[0], among(*args))

      return one

    return attack._replace(
      step=alone(attack.step, (None, 0, None, None)),
      read=alone(attack.read, (0, None, None)),
    )

  def body(self, key, obs, hp):
    return lambda state, t: self.attack.step(keys.at(key, t), state, obs, hp)

  @functools.cached_property
  def trace(self):
    return self.run(self.keys, self.obs, self.hp)

  @property
  def steps(self):
    if not self.attack.num_steps:
      pytest.skip('a closed form takes no steps')
    return self.attack.num_steps


@pytest.fixture(scope='module', params=sorted(ATTACKS))
def case(request):
  return Case(request.param)


def avals(tree):
  return jax.tree.map(
    lambda leaf: (leaf.shape, leaf.dtype, jax.typeof(leaf).weak_type), tree
  )


def close(a, b, rtol=1e-3, atol=1e-4):
  jax.tree.map(
    lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=atol), a, b
  )


def test_every_row_has_a_setup():
  assert set(attack_setups.SETUPS) == set(ATTACKS)


@pytest.mark.parametrize('name', ATTACKS)
def test_its_file_says_what_is_known_and_what_differs(name):
  row = ATTACKS[name]
  text = inspect.getmodule(getattr(row, 'func', row)).__doc__
  assert 'Assumed known' in text and 'Differs from' in text


def test_needs_are_grants(case):
  assert isinstance(case.attack.needs, frozenset)
  assert case.attack.needs <= set(threat.GRANTS)
  assert {'model', 'batch_size'} <= case.attack.needs


def test_counts_are_whole(case):
  assert type(case.attack.num_steps) is int and case.attack.num_steps >= 0
  assert type(case.attack.num_rounds) is int and case.attack.num_rounds >= 1


def test_server_that_is_not_honest_says_so(case):
  attack = case.attack
  crafts, alters = attack.craft is not base.honest, attack.on_net is not None
  assert crafts == ('alter_parameters' in attack.needs)
  assert alters == ('alter_architecture' in attack.needs)
  assert bool(case.obs.message.each) <= ('individual_models' in attack.needs)


def test_what_is_sent_is_deterministic(case):
  sent, again = (case.craft(jax.random.key(0)) for _ in range(2))
  jax.tree.map(np.testing.assert_array_equal, sent, again)
  assert avals(sent._replace(each=())) == avals(case.message)
  assert trees.all_finite(sent)


def test_abstract_init_and_fixed_point_of_step(case):
  def begin(key, obs, hp):
    state = case.single.init(key, obs, hp)
    seen['start'] = avals(state)
    return state

  def go_on(key, state, obs, hp):
    state, info = case.single.step(key, state, obs, hp)
    seen['end'], seen['info'] = avals(state), avals(info)
    return state

  seen = {}
  state = jax.eval_shape(begin, case.keys[0], case.obs, case.hp)
  assert case.steps > 0
  # Python numbers as knobs must not weaken the types either.
  for hp in (case.hp, dict(case.attack.hparams)):
    jax.eval_shape(go_on, case.keys[0], state, case.obs, hp)
    assert seen['end'] == seen['start']
  assert seen['info'].loss == ((), jnp.float32, False)
  assert seen['info'].finite[:2] == ((), jnp.bool_)
  assert all(shape == () for shape, *_ in seen['info'].terms.values())


def test_fixed_point_of_step_in_float64(case):
  """Reference runs in float64 need no other code."""

  def wide(leaf):
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(
      leaf.shape, jnp.float64 if floating else leaf.dtype
    )

  assert case.steps
  jax.config.update('jax_enable_x64', True)
  try:
    obs, hp = jax.tree.map(wide, (case.obs, case.hp))
    key = case.keys[0]
    state = jax.eval_shape(case.single.init, key, obs, hp)
    end, info = jax.eval_shape(case.single.step, key, state, obs, hp)
  finally:
    jax.config.update('jax_enable_x64', False)
  assert avals(end) == avals(state)
  assert info.loss.dtype in (jnp.float32, jnp.float64)


def test_vmap_of_a_scan_equals_a_loop_of_hoisted_ones(case):
  """Neither sharing a program nor hoisting the loop's invariants matters."""
  if case.attack.group:
    pytest.skip('restarts of a group depend on each other')

  @jax.jit
  def alone(key, obs, hp):
    start = case.attack.init(keys.named(key, 'init'), obs, hp)
    end, infos = start, ()
    if case.attack.num_steps:
      body = case.body(key, obs, hp)
      body = loop_invariants.precompute(body, start, jnp.int32(0))
      end, infos = jax.lax.scan(body, start, jnp.arange(case.setup.steps))
    return infos, case.attack.read(end, obs, hp)

  for r in range(RESTARTS):
    infos, last = alone(case.keys[r], case.obs, case.hp)
    among = jax.tree.map(lambda leaf, r=r: leaf[r], case.trace)
    close((infos, last), (among.infos, among.last))


def test_the_key_decides(case):
  again = case.run(case.keys, case.obs, case.hp)
  jax.tree.map(np.testing.assert_array_equal, again, case.trace)
  if case.steps:
    x = case.trace.first.batch.x
    assert np.abs(x[0] - x[1]).max() > 1e-3


def test_jit_equals_no_jit(case):
  state, first = jax.tree.map(
    lambda leaf: leaf[0], (case.trace.start, case.trace.first)
  )
  attack, obs, hp = case.single, case.obs, case.hp
  with jax.disable_jit():
    init = attack.init(keys.named(case.keys[0], 'init'), obs, hp)
    # What has steps reads its objective, whose loops are compiled anyway.
    found = first if attack.num_steps else attack.read(state, obs, hp)
  close(init, state, atol=1e-6)
  close(found, first)


def test_reconstruction(case):
  spec = case.world.net.spec
  for found in (case.trace.first, case.trace.last):
    r, m = found.valid.shape
    assert r == RESTARTS and m >= (case.slots or case.world.batch_size)
    assert found.valid.dtype == bool and found.valid.all()
    assert found.batch.x.shape == (r, m, *spec.image_shape)
    assert found.batch.x.dtype == jnp.float32
    assert found.batch.x.min() >= 0 and found.batch.x.max() <= 1
    assert found.batch.y.shape == (r, m)
    assert found.batch.y.dtype == jnp.int32
    assert found.batch.y.min() >= -1  # an attack may claim no label
    assert found.batch.y.max() < spec.num_classes
    assert found.score.shape == (r,) and found.score.dtype == jnp.float32
    assert np.isfinite(found.score).all()


def test_steps_lower_the_score(case):
  assert case.steps
  assert (case.trace.last.score < case.trace.first.score).all()
  assert case.trace.infos.finite.all()
  assert np.isfinite(case.trace.infos.loss).all()


def test_non_finite_steps_say_so_and_change_nothing(case):
  assert case.steps
  bad = jax.tree.map(lambda v: v * jnp.nan, case.obs.update.delta)
  obs = case.obs._replace(update=case.obs.update._replace(delta=bad))
  trace = case.run(case.keys, obs, case.hp)
  assert not trace.infos.finite.any()
  # The program reads the same state twice, with roundings of its own.
  np.testing.assert_allclose(trace.last.batch.x, trace.first.batch.x, atol=1e-6)


def test_knobs_are_traced_and_turn_something(case):
  reference = case.trace
  before = case.traces
  for name in case.hp:
    hp = {**case.hp, name: case.hp[name] * 20}
    other = case.run(case.keys, case.obs, hp)
    assert np.abs(other.last.batch.x - reference.last.batch.x).max() > 0, name
  assert case.traces == before


def test_a_knob_that_is_an_argument_is_no_other_number(case):
  """Its value goes into `hparams` alone, and never into the program."""
  names = set(inspect.signature(ATTACKS[case.name]).parameters)
  values = {
    name: default * 0.5 + 0.25 * (i + 1)
    for i, (name, default) in enumerate(case.attack.hparams.items())
    if name in names
  }
  given = {**dict(case.setup.kwargs), **values}
  other = ATTACKS[case.name](case.world, **given)
  assert {name: other.hparams[name] for name in values} == values
  assert set(other.hparams) == set(case.attack.hparams)

  def program(attack):
    def restart(key, obs, hp):
      state = attack.init(key, obs, hp)
      return attack.step(key, state, obs, hp)

    among = jax.vmap(restart, (0, None, None), axis_name=worlds.RESTARTS)
    return str(jax.make_jaxpr(among)(case.keys, case.obs, case.hp))

  if values:
    assert program(other) == program(case.attack)


def test_ungranted_knowledge_changes_nothing(case):
  """Side knowledge beyond `needs` may lie there and is not looked at."""
  wrong = {
    name: jnp.full(case.world.batch_size, 3, jnp.int32)
    for name in threat.GRANTS
    if name not in case.obs.side
  }
  assert set(case.obs.side) <= case.attack.needs
  obs = case.obs._replace(side={**wrong, **case.obs.side})

  def one_step(key, obs, hp):
    state = case.single.init(key, obs, hp)
    if case.attack.num_steps:
      state, _ = case.single.step(key, state, obs, hp)
    return case.single.read(state, obs, hp)

  def send(key, side):
    history = tuple(obs._replace(side=side) for obs in case.history)
    return case.attack.craft(key, case.message, side, history[:-1])

  # The same equations whatever lies beside: compiled once, and exact.
  def texts(obs):
    traced = (
      jax.make_jaxpr(lambda k: one_step(k, obs, case.hp)),
      jax.make_jaxpr(lambda k: send(k, obs.side)),
    )
    return [str(trace(case.keys[0])) for trace in traced]

  assert texts(obs) == texts(case.obs)


def test_state_is_made_of_arrays(case):
  leaves = jax.tree.leaves(case.trace.start)
  assert all(isinstance(leaf, jax.Array) for leaf in leaves)
  assert bool(trees.all_finite(case.trace.last))
