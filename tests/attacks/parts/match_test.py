"""Tests of giajax.attacks.parts.match, variables and the presets' arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.optimisation import dlg
from giajax.attacks.optimisation import idlg
from giajax.attacks.optimisation import inverting_gradients
from giajax.attacks.parts import compose
from giajax.attacks.parts import match
from giajax.attacks.parts import matching_loss
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.clients import fedsgd
from giajax.models.classification import convnet
from giajax.models.classification import mlp
from giajax.priors import base as priors
from giajax.tasks import classification

K = 4
TASK = classification.classification(K)
NET = mlp.mlp((4, 3, 3), K, widths=(6,), normalisation='cifar10')
WORLD = worlds.World(NET, TASK, fedsgd.fedsgd(NET, TASK), 2)
SPEC = NET.spec


def make(world=WORLD, box=True, **kwargs):
  """Returns an attack whose arguments differ from the usual by `kwargs`."""
  usual = dict(
    distance='l2', optimizer=optax.sgd(1.0), num_steps=2, keep_best=False
  )
  variable = variables.pixels(world, box=box)
  return match.match(world, variable=variable, **{**usual, **kwargs})


def total(key, batch, aux, obs):
  del key, obs
  assert aux.out.shape == (2, K)
  return jnp.sum(batch.x)


term = priors.Term(total)


@functools.cache
def observed():
  message = types.ServerMessage(NET.init(jax.random.key(0)))
  x = jax.random.uniform(jax.random.key(1), (2, *SPEC.image_shape))
  batch = types.Batch(x, jnp.array([1, 3]))
  update = WORLD.client.update(jax.random.key(2), message, batch)[0]
  return types.Observation(message, update, {'labels': batch.y})


@pytest.mark.parametrize('num_steps', [0, -1, True, 2.0, '3', None])
def test_steps_are_a_whole_number(num_steps):
  with pytest.raises(ValueError, match=r'1 to \d+ for num_steps'):
    make(num_steps=num_steps)


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'terms': {'matching': (1.0, term)}, 'matching': 1.0}, 'rename it'),
    ({'terms': {'matching': (1.0, term)}}, "term 'matching'"),
    ({'terms': {'learning_rate': (1.0, term)}}, "term 'learning_rate'"),
    (
      {'terms': {'tv': (float('nan'), term)}},
      'a finite number for tv; got tv=nan',
    ),
    ({'terms': {'tv': (True, term)}}, 'tv=True'),
    ({'terms': {'tv': ('0.1', term)}}, "tv='0.1'"),
    ({'matching': float('inf')}, 'for matching; got matching=inf'),
    ({'learning_rate': 0.0}, 'number > 0 for learning_rate'),
    ({'learning_rate': -0.1}, 'learning_rate=-0.1'),
    ({'learning_rate': float('inf')}, 'learning_rate=inf'),
  ],
)
def test_knobs_are_checked(kwargs, message):
  with pytest.raises(ValueError, match=f'^Expected.*{message}'):
    make(**kwargs)


def test_every_knob_has_one_name_and_default():
  plain = make()
  assert plain.hparams == {'learning_rate': 1.0}
  terms = {'tv': (0.5, term), 'l2': (0.0, term)}
  one = make(terms=terms, learning_rate=0.1, matching=2.0)
  assert one.hparams == {
    'learning_rate': 0.1,
    'matching': 2.0,
    'tv': 0.5,
    'l2': 0.0,
  }


def test_the_best_iterate_is_kept_unless_refused():
  """A step of rate 1e6 leads away: only the last iterate shows it."""
  obs, hp = observed(), {'learning_rate': 1e6}
  scores = {}
  for kept in (False, True):
    one = make(box=False, keep_best=kept)
    state = one.init(jax.random.key(0), obs, hp)
    first = one.read(state, obs, hp).score
    for t in range(2):
      state, _ = jax.jit(one.step)(jax.random.key(t), state, obs, hp)
    scores[kept] = float(one.read(state, obs, hp).score / first)
  assert scores[False] > 2
  assert scores[True] <= 1
  usual = dict(distance='l2', optimizer=optax.sgd(1.0), num_steps=2)
  default = match.match(WORLD, variable=variables.pixels(WORLD), **usual)
  state = default.init(jax.random.key(0), obs, default.hparams)
  assert isinstance(state, compose.Best)


@pytest.mark.parametrize('form', ['explicit', 'moments'])
@pytest.mark.parametrize('change', ['shape', 'structure'])
def test_an_update_of_another_network_is_refused_while_traced(form, change):
  one, obs = make(form=form), observed()
  leaves = trees.named_leaves(obs.update.delta)
  name = min(leaves)
  if change == 'shape':
    leaves[name] = leaves[name][:1]
  else:
    del leaves[name]
  obs = obs._replace(update=obs.update._replace(delta=trees.nested(leaves)))
  state = one.init(jax.random.key(0), obs, one.hparams)
  with pytest.raises(ValueError, match=r'structure and shapes of the candid'):
    jax.eval_shape(one.step, jax.random.key(1), state, obs, one.hparams)


def test_unknown_names():
  with pytest.raises(ValueError, match="did you mean 'cosine'"):
    make(distance='cosin')
  with pytest.raises(ValueError, match="form='implicit'"):
    make(form='implicit')
  with pytest.raises(ValueError, match="start='noise'"):
    variables.pixels(WORLD, start='noise')
  with pytest.raises(ValueError, match="'normalised', 'unit'; got space='raw'"):
    variables.pixels(WORLD, space='raw')


def test_moments_that_cannot_be_had():
  with pytest.raises(ValueError, match='use form="explicit"'):
    make(distance='l1', form='moments')
  blind = WORLD._replace(client=WORLD.client._replace(moments=None))
  with pytest.raises(ValueError, match='client with moments'):
    make(blind, form='moments')


@pytest.mark.parametrize('distance', ['l2', 'cosine', 'layer_cosine'])
def test_forms_agree(distance):
  found = {}
  for form in match.FORMS:
    one = make(distance=distance, form=form)
    state = one.init(jax.random.key(0), observed(), one.hparams)
    step = jax.jit(one.step)
    state, info = step(jax.random.key(1), state, observed(), one.hparams)
    found[form] = state.variable['x'], info.loss
  for x, loss in found.values():
    np.testing.assert_allclose(loss, found['explicit'][1], rtol=1e-4)
    np.testing.assert_allclose(x, found['explicit'][0], rtol=1e-3, atol=1e-4)


def test_one_step_by_hand():
  """One step: x <- x - rate (dD/dx + weight dterm/dx), with sgd of rate 1."""
  one = make(box=False, terms={'sum': (7.0, term)})
  obs, hp = observed(), {'learning_rate': 0.5, 'sum': 0.01}
  state = one.init(jax.random.key(0), obs, hp)
  new, info = jax.jit(one.step)(jax.random.key(1), state, obs, hp)
  labels = obs.side['labels']

  def distance(x):
    batch = types.Batch(x * jnp.array(SPEC.std) + jnp.array(SPEC.mean), labels)
    delta = WORLD.client.update(jax.random.key(0), obs.message, batch)[0].delta
    difference = jax.tree.map(jnp.subtract, delta, obs.update.delta)
    return 0.5 * sum(jnp.sum(d**2) for d in jax.tree.leaves(difference))

  value, slope = jax.jit(jax.value_and_grad(distance))(state.variable['x'])
  np.testing.assert_allclose(info.terms['matching'], value, rtol=1e-4)
  unit = state.variable['x'] * jnp.array(SPEC.std) + jnp.array(SPEC.mean)
  np.testing.assert_allclose(info.terms['sum'], unit.sum(), rtol=1e-5)
  np.testing.assert_allclose(info.loss, value + 0.01 * unit.sum(), rtol=1e-4)
  expected = state.variable['x'] - 0.5 * (slope + 0.01 * jnp.array(SPEC.std))
  np.testing.assert_allclose(new.variable['x'], expected, rtol=1e-4, atol=1e-6)
  assert info.finite


def test_a_weighted_distance_and_steps_with_noise_of_their_key():
  noise = optimizers.langevin(0.2)
  noisy = optimizers.adam(lambda count: 1.0, after=[noise])
  one = make(box=False, optimizer=noisy, matching=3.0)
  assert one.hparams == {'learning_rate': 1.0, 'matching': 3.0}
  state = one.init(jax.random.key(0), observed(), one.hparams)
  step = jax.jit(one.step)
  a, info = step(jax.random.key(1), state, observed(), one.hparams)
  np.testing.assert_allclose(info.loss, 3 * info.terms['matching'], rtol=1e-6)
  b, _ = step(jax.random.key(2), state, observed(), one.hparams)
  apart = a.variable['x'] - b.variable['x']
  np.testing.assert_allclose(apart.std(), 0.2 * 2**0.5, rtol=0.2)


def test_non_finite_steps_are_told():
  one = make()
  obs = observed()
  state = one.init(jax.random.key(0), obs, one.hparams)
  bad = jax.tree.map(lambda v: v.at[0].set(jnp.nan), obs.update.delta)
  bad = obs._replace(update=obs.update._replace(delta=bad))
  step = jax.jit(one.step)
  _, info = step(jax.random.key(1), state, obs, one.hparams)
  assert info.finite
  new, info = step(jax.random.key(1), state, bad, one.hparams)
  np.testing.assert_array_equal(new.variable['x'], state.variable['x'])
  assert not info.finite
  huge = jax.tree.map(lambda v: jnp.full_like(v, jnp.inf), state.variable)
  state = state._replace(variable=huge)
  _, info = step(jax.random.key(1), state, obs, one.hparams)
  assert not info.finite


def test_needs_tell_which_buffers_are_read():
  plain = {'model', 'batch_size', 'labels'}
  assert make().needs == plain
  normed = convnet.convnet((9, 9, 3), K, width=1)
  for train_mode in (False, True):
    client = fedsgd.fedsgd(normed, TASK, train_mode=train_mode)
    world = worlds.World(normed, TASK, client, 2)
    found = inverting_gradients.inverting_gradients(world).needs
    assert found == (plain if train_mode else plain | {'bn_buffers_before'})


# Variables.


def test_box_is_the_unit_cube_in_either_space():
  for space in ('normalised', 'unit'):
    variable = variables.pixels(WORLD, space=space)
    far = {'x': jnp.linspace(-9, 9, 72).reshape(2, 4, 3, 3)}
    batch = variable.batch(variable.project(far), observed())
    np.testing.assert_allclose(batch.x.min(), 0, atol=1e-6)
    np.testing.assert_allclose(batch.x.max(), 1, atol=1e-6)
    free = variables.pixels(WORLD, space=space, box=False)
    assert free.project(far) is far
    tree = variable.init(jax.random.key(0), observed(), {})
    inside = variable.batch(tree, observed()).x
    assert inside.min() >= -1e-6 and inside.max() <= 1 + 1e-6


@pytest.mark.parametrize(
  ('start', 'mean', 'std'),
  [('normal', 0, 1), ('uniform', 0, 3**-0.5), ('zeros', 0, 0)],
)
def test_starts(start, mean, std):
  world = WORLD._replace(batch_size=64)
  variable = variables.pixels(world, start=start, box=False)
  x = variable.init(jax.random.key(0), observed(), {})['x']
  assert x.shape == (64, 4, 3, 3) and x.dtype == jnp.float32
  np.testing.assert_allclose(x.mean(), mean, atol=0.1)
  np.testing.assert_allclose(x.std(), std, atol=0.1)
  # As the network sees them.
  seen = variable.batch({'x': x}, types.Observation(None, None, {'labels': 0}))
  normal = (seen.x - jnp.array(SPEC.mean)) / jnp.array(SPEC.std)
  np.testing.assert_allclose(normal, x, atol=1e-5)


def test_a_start_from_the_truth_has_a_knob():
  variable = variables.pixels(WORLD, start='target')
  assert variable.needs == {'labels', 'target'}
  assert variable.hparams == {'noised_fraction': 0.5}
  one = match.match(
    WORLD,
    variable=variable,
    distance='cosine',
    optimizer=optax.sgd(1.0),
    num_steps=1,
    keep_best=False,
  )
  assert one.hparams == {'learning_rate': 1.0, 'noised_fraction': 0.5}
  assert one.needs == {'model', 'batch_size', 'labels', 'target'}
  truth = jax.random.uniform(jax.random.key(0), (2, 4, 3, 3))
  obs = observed()._replace(side={'labels': jnp.arange(2), 'target': truth})
  for p in (0.0, 1.0):
    state = one.init(jax.random.key(0), obs, {'noised_fraction': p})
    apart = np.abs(variable.batch(state.variable, obs).x - truth).max()
    assert apart < 1e-5 if p == 0 else apart > 0.1


def test_joint_labels_are_soft_and_need_no_grant():
  variable = variables.pixels(WORLD, joint=True)
  assert variable.needs == frozenset()
  assert variables.pixels(WORLD).needs == {'labels'}
  obs = observed()._replace(side={})
  tree = variable.init(jax.random.key(0), obs, {})
  y = variable.batch(tree, obs).y
  assert y.shape == (2, K)
  np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
  labels = np.ravel(tree['y']['labels'])
  assert np.abs(np.ravel(tree['x'])[:8] - labels).min() > 1e-6


# Presets.


def test_presets_check_their_arguments():
  with pytest.raises(ValueError, match='batch_size=2'):
    idlg.idlg(WORLD)
  for name in ('memory_size', 'max_linesearch_steps'):
    with pytest.raises(ValueError, match=f'{name}=0'):
      dlg.dlg(WORLD, **{name: 0})
  for kwargs in (
    dict(num_steps=0),
    dict(learning_rate=-1.0),
    dict(total_variation=float('nan')),
    dict(start='nowhere'),
    dict(distance='l3'),
    dict(form='no'),
  ):
    with pytest.raises(ValueError, match='Expected'):
      inverting_gradients.inverting_gradients(WORLD, **kwargs)


def test_what_presets_need():
  one = WORLD._replace(batch_size=1)
  assert dlg.dlg(WORLD).needs == {'model', 'batch_size'}
  assert idlg.idlg(one).needs == {'model', 'batch_size'}
  geiping = inverting_gradients.inverting_gradients(WORLD)
  assert geiping.needs == {'model', 'batch_size', 'labels'}
  assert geiping.hparams == {'learning_rate': 0.1, 'total_variation': 0.2}
  assert geiping.num_steps == 24_000


def test_inverting_gradients_by_hand():
  """Three steps of Adam on signs, in numpy; the third at a tenth the rate."""
  obs = observed()
  attack = inverting_gradients.inverting_gradients(WORLD, num_steps=8)
  state = attack.init(jax.random.key(0), obs, attack.hparams)
  step = jax.jit(attack.step)
  mean, std = np.array(SPEC.mean), np.array(SPEC.std)
  loss_fn = matching_loss.matching_loss(
    lambda params, batch: jnp.mean(
      TASK.loss(NET.apply(types.Variables(params, {}), batch.x).out, batch.y)
    )
  )

  @jax.jit
  @jax.grad
  def slope(x):
    batch = types.Batch(x * std + mean, obs.side['labels'])
    params, target = obs.message.variables.params, obs.update.delta
    dx, dy = jnp.diff(x, axis=2), jnp.diff(x, axis=1)
    variation = jnp.abs(dx).sum() + jnp.abs(dy).sum()
    return loss_fn(params, batch, target) + 0.2 * variation / x.size

  x = np.asarray(state.inner.variable['x'])
  m, v = np.zeros_like(x), np.zeros_like(x)
  for t in range(3):
    sign = np.sign(slope(x))
    m, v = 0.9 * m + 0.1 * sign, 0.999 * v + 0.001 * sign**2
    rate = 0.1 if t < 2 else 0.01
    move = m / (1 - 0.9 ** (t + 1))
    move /= np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8
    x = np.clip(x - rate * move, -mean / std, (1 - mean) / std)
    x = np.float32(x)
    state, _ = step(jax.random.key(t), state, obs, attack.hparams)
    found = np.asarray(state.inner.variable['x'])
    # A slope of about 0, as where clipped neighbours agree, may go either way.
    assert np.mean(np.abs(found - x) > 1e-3) < 0.05
    x = found


def test_signed_and_decayed_as_published():
  updates, _ = optimizers.signed().update(
    {'x': jnp.array([-3.0, 0.0, 1e-9])}, ()
  )
  assert updates['x'].tolist() == [-1, 0, 1]
  rate = optimizers.step_decay(24_000)
  for step, expected in (
    (0, 1),
    (8997, 1),
    (8998, 0.1),
    (14999, 0.1),
    (15000, 0.01),
    (21014, 0.01),
    (21015, 0.001),
    (23999, 0.001),
  ):
    np.testing.assert_allclose(rate(step), expected, rtol=1e-5)
