"""Tests of giajax.attacks.parts.optimizers: each part by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage

from giajax.attacks.parts import optimizers

HP = {'learning_rate': 0.5}


def image(seed, shape=(1, 8, 6, 2)):
  return jax.random.normal(jax.random.key(seed), shape)


def update(part, gradient, params=None, state=None, key=0, **extra):
  """Returns one update of a part, and its state."""
  part = optax.with_extra_args_support(part)
  state = part.init(gradient) if state is None else state
  key = jax.random.key(key)
  return part.update(gradient, state, params, key=key, hp=HP, **extra)


def test_soft_signs_become_the_gradient():
  part = optimizers.soft_signed(4)
  g = {'x': jnp.array([-3.0, 0.0, 0.2, 5.0])}
  state = part.init(g)
  for t in range(6):  # beyond the end as at it
    s = max(1, 4 - t) / 4
    found, state = update(part, g, state=state)
    np.testing.assert_allclose(found['x'], np.tanh(s * g['x']) / s, rtol=1e-5)


def test_cosine_decay_rises_first():
  rate = optimizers.cosine_decay(100, 10)
  np.testing.assert_allclose(rate(0), 0.1, rtol=1e-6)
  np.testing.assert_allclose(rate(4), 0.5 * np.cos(np.pi * 0.02) ** 2, 1e-5)
  np.testing.assert_allclose(rate(50), 0.5, rtol=1e-5)
  np.testing.assert_allclose(rate(100), 0, atol=1e-6)
  assert optimizers.cosine_decay(100, 0)(0) == 1
  with pytest.raises(ValueError, match='warmup_steps=-1'):
    optimizers.cosine_decay(100, -1)


@pytest.mark.parametrize('steps', [24, 25, 26])
def test_stages_begin_again_together(steps):
  shares = optimizers.shares(steps, 3)
  assert sum(shares) == steps and max(shares) - min(shares) <= 1
  rate = optimizers.repeated(lambda n: lambda t: t, shares)
  part = optimizers.coarse_to_fine([4, 2, 1], steps)
  state = part.init(image(0))
  stages, rates = [], []
  for t in range(steps):
    found, state = update(part, image(0), state=state)
    stages.append(len(np.unique(found)))
    rates.append(int(rate(t)))
  assert [*dict.fromkeys(stages)] == [2 * 2 * 2, 4 * 3 * 2, 8 * 6 * 2]
  begins = [t for t in range(steps) if not t or stages[t] != stages[t - 1]]
  assert begins == [t for t in range(steps) if rates[t] == 0]


def test_coarse_steps_are_those_of_small_images():
  """Adam on blocks of an image is Adam on an image of that resolution."""
  wanted = image(1)

  def large(x):
    return jnp.sum((x - wanted) ** 3)

  def small(z):
    return large(jnp.repeat(jnp.repeat(z, 2, axis=1), 2, axis=2))

  def run(value, x, *before):
    part = optimizers.adam(
      optimizers.cosine_decay(9, 2), before=[*before, optimizers.signed()]
    )
    state = part.init(x)
    for _ in range(4):
      step, state = update(part, jax.grad(value)(x), x, state)
      x = x + 0.1 * step
    return x

  z = image(2, (1, 4, 3, 2))
  x = jnp.repeat(jnp.repeat(z, 2, axis=1), 2, axis=2)
  found = run(large, x, optimizers.coarse_to_fine([2, 1], 8))
  expected = run(small, z)
  np.testing.assert_allclose(found[:, ::2, ::2], expected, rtol=1e-5)
  np.testing.assert_allclose(found[:, 1::2, 1::2], expected, rtol=1e-5)


def test_medians():
  x = image(3)
  footprint = np.zeros((1, 3, 3, 1)) + 1
  # 'mirror' leaves the border pixel out, as numpy's 'reflect' does.
  expected = scipy.ndimage.median_filter(
    np.asarray(x), footprint=footprint, mode='mirror'
  )
  np.testing.assert_array_equal(optimizers.medians(x), expected)


def test_median_filter_every_third_step():
  part = optimizers.median_filter(3)
  x = {'x': image(4), 'y': jnp.ones((2, 3))}
  state = part.init(x)
  for t in range(1, 7):
    step, state = update(part, {'x': image(5), 'y': x['y']}, x, state)
    moved = x['x'] + 0.5 * step['x']
    plain = x['x'] + 0.5 * image(5)
    expected = optimizers.medians(plain) if t % 3 == 0 else plain
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(step['y'], x['y'])
  with pytest.raises(ValueError, match='median_every=-1'):
    optimizers.median_filter(-1)


def test_langevin_noise_is_of_the_key_and_the_schedule():
  g = {'x': jnp.zeros((40, 40)), 'y': jnp.zeros((40, 40))}
  part = optimizers.langevin(0.3)
  noise, _ = update(part, g)
  for leaf in noise.values():
    np.testing.assert_allclose(leaf.std(), 0.3, rtol=0.1)
    np.testing.assert_allclose(leaf.mean(), 0, atol=0.03)
  assert np.abs(noise['x'] - noise['y']).max() > 0.1
  assert np.abs(update(part, g, key=1)[0]['x'] - noise['x']).max() > 0.1
  np.testing.assert_array_equal(update(part, g)[0]['x'], noise['x'])
  whole = optimizers.adam(lambda count: 0.25, after=[part])
  found, _ = update(whole, g)
  np.testing.assert_allclose(found['x'], -0.25 * noise['x'], rtol=1e-6)


def test_flat_is_the_derivative_of_the_penalised_objective():
  def value(x, key=None, hp=None):
    del key, hp
    return jnp.sum(jnp.cos(x) * jnp.arange(1.0, 5.0))

  def penalised(x):
    return value(x) + 0.5 * 1e-2 * jnp.linalg.norm(jax.grad(value)(x))

  x = jnp.array([0.3, -1.0, 2.0, 0.7])
  part = optimizers.flat(0.5, 1e-2)
  found, _ = update(part, jax.grad(value)(x), x, value_fn=value)
  expected = jax.grad(penalised)(x)
  np.testing.assert_allclose(found, expected, atol=3e-4)
  assert np.abs(found - jax.grad(value)(x)).max() > 5e-3
  with pytest.raises(ValueError, match=r'fraction in \[0, 1\]'):
    optimizers.flat(1.5, 0.1)
  with pytest.raises(ValueError, match=r'radius=0\.0'):
    optimizers.flat(0.5, 0.0)


def test_rmsprop_by_hand():
  part = optimizers.rmsprop(0.99, 0.9)
  gradients = [np.array([3.0, -0.5, 0.0]), np.array([1.0, 2.0, 0.0])]
  state, square, sum_ = part.init({'x': jnp.zeros(3)}), 0.0, 0.0
  for g in gradients:
    found, state = update(part, {'x': jnp.asarray(g)}, state=state)
    square = 0.99 * square + 0.01 * g**2
    sum_ = 0.9 * sum_ + g / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(found['x'], -sum_, rtol=1e-5)
  assert found['x'][2] == 0  # what has no gradient does not move
  for wrong in ((1.0, 0.9), (0.9, -0.1)):
    with pytest.raises(ValueError, match=r'^Expected (decay|momentum) in'):
      optimizers.rmsprop(*wrong)


def test_adam_begins_again_in_each_stage():
  """Its first step is a whole one in both, and what has no gradient rests."""
  part = optimizers.adam_in_stages(
    lambda count: lambda t: 1.0 - t / count, [3, 4]
  )
  x = {'a': jnp.zeros(2), 'b': jnp.zeros(2)}
  first = {'a': jnp.array([3.0, -1e-3]), 'b': jnp.zeros(2)}
  second = {'a': first['b'], 'b': first['a']}
  state, steps = part.init(x), []
  for t in range(7):
    gradient = first if t < 3 else second
    step, state = update(part, gradient, x, state)
    steps.append(step)
  for t, (name, rate) in {
    0: ('a', 1.0),
    1: ('a', 2 / 3),
    3: ('b', 1.0),
    6: ('b', 1 / 4),
  }.items():
    np.testing.assert_allclose(
      steps[t][name], -rate * np.sign(first['a']), rtol=1e-3
    )
    other = {'a': 'b', 'b': 'a'}[name]
    np.testing.assert_array_equal(steps[t][other], np.zeros(2))


def test_ramps_rise_and_fall():
  rate = optimizers.ramps(100, 0.05, 0.25)
  np.testing.assert_allclose(rate(0), 0.2, rtol=1e-5)
  np.testing.assert_allclose([rate(4), rate(75)], 1.0, rtol=1e-5)
  np.testing.assert_allclose(rate(100 - 12.5), 0.5, rtol=1e-5)
  np.testing.assert_allclose(rate(100), 0.0, atol=1e-6)


@pytest.mark.parametrize(
  ('schedule', 'steady'),
  [
    (optimizers.step_decay(800), optimizers.STEADY),
    (optimizers.ramps(800, 0.05, 0.25), (0.05, 0.75)),
    (
      optimizers.repeated(optimizers.step_decay, [300, 500]),
      optimizers.steady_in_last(optimizers.STEADY, [300, 500]),
    ),
  ],
)
def test_when_rates_are_highest(schedule, steady):
  rates = np.array([schedule(t) for t in range(800)])
  begin, end = (round(800 * share) for share in steady)
  np.testing.assert_allclose(rates[begin : end - 1], rates.max(), rtol=1e-5)
  assert rates[end + 1 :].max() < rates.max()


def test_entries_may_have_rates_of_their_own():
  part = optimizers.at_rates({'a': 'slow'})
  hp = {'learning_rate': 0.5, 'slow': 0.1}
  step = {'a': jnp.ones(2), 'b': jnp.ones(2)}
  found, _ = part.update(step, part.init(step), step, hp=hp)
  np.testing.assert_allclose(0.5 * found['a'], 0.1, rtol=1e-6)
  np.testing.assert_array_equal(found['b'], step['b'])
