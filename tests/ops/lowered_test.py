"""Convolutions of foreign functions: the same values, another lowering."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.ops import convolution
from giajax.ops import geometries
from giajax.ops import lowered

KEY = jax.random.key(0)
# 'patches' has no convolution of XLA's own in it.
OURS = 'patches'


def convolve(x, kernel, layout=('NHWC', 'HWIO', 'NHWC'), **more):
  more = {'window_strides': (1, 1), 'padding': 'SAME', **more}
  return lax.conv_general_dilated(x, kernel, dimension_numbers=layout, **more)


def jitted(x, k):
  return jax.jit(convolve)(x, k) + jax.jit(lambda y: y * 2)(x)


def remat(x, k):
  return jax.checkpoint(lambda x: jnp.sin(convolve(x, k)))(x)


def scan(x, k):
  def body(carry, scale):
    carry = jnp.tanh(convolve(carry, k)) * scale
    return carry, carry.mean()

  carry, means = lax.scan(body, x, jnp.arange(1.0, 4.0), reverse=True)
  return carry * means.sum()


def cond(x, k):
  return lax.cond(x.sum() > 0, convolve, lambda x, k: x + k.sum(), x, k)


def switch(x, k):
  branches = [lambda x: x, lambda x: convolve(x, k)]
  return lax.switch(jnp.int32(1), branches, x)


@jax.custom_jvp
def twice_the_tangent(x, k):
  return convolve(x, k)


@twice_the_tangent.defjvp
def _(primals, tangents):
  (x, k), (dx, dk) = primals, tangents
  y = twice_the_tangent(x, k)
  return y, 2 * (convolve(dx, k) + convolve(x, dk))


@jax.custom_vjp
def half_the_cotangent(x, k):
  return convolve(x, k)


half_the_cotangent.defvjp(
  lambda x, k: (convolve(x, k), (x, k)),
  lambda saved, y: jax.tree.map(
    lambda leaf: leaf / 2, jax.vjp(convolve, *saved)[1](y)
  ),
)


def nested(x, k):
  return scan(jax.jit(remat)(x, k), k) + twice_the_tangent(jnp.sin(x), k)


def nchw(x, k):
  y = convolve(x.transpose(0, 3, 1, 2), k.transpose(3, 2, 0, 1), None)
  return y.transpose(0, 2, 3, 1)


def odd_layout(x, k):
  layout = ('WCNH', 'OWIH', 'CHNW')
  x, k = x.transpose(2, 3, 0, 1), k.transpose(3, 1, 2, 0)
  return convolve(x, k, layout).transpose(2, 1, 3, 0)


def strided(x, k):
  return convolve(x, k, window_strides=(2, 1), rhs_dilation=(1, 2))


def grouped(x, k):
  return convolve(x, k[:, :, :1], feature_group_count=2)


def one_axis(x, k):
  layout = 'NWC', 'WIO', 'NWC'
  return convolve(x[:, 0], k[0], layout, window_strides=(2,))


FUNCTIONS = {
  f.__name__: f
  for f in (
    *(convolve, jitted, remat, scan, cond, switch, nested, nchw, odd_layout),
    *(strided, grouped, one_axis),
    *(twice_the_tangent, half_the_cotangent),
  )
}


def arrays():
  x, k = (
    jax.random.normal(jax.random.fold_in(KEY, i), shape) / 4
    for i, shape in enumerate([(2, 6, 5, 2), (3, 3, 2, 2)])
  )
  return x + 0.1, k


def convolutions(fn, *args):
  return str(jax.make_jaxpr(fn)(*args)).count('conv_general_dilated')


def second(fn):
  """Returns the gradient to images of a loss of the gradient to kernels."""

  def loss(x, k):
    gradient = jax.grad(lambda k: jnp.sin(fn(x, k)).sum())(k)
    return jnp.square(gradient).sum()

  return jax.vmap(jax.grad(loss), (0, None))


@pytest.mark.parametrize('name', FUNCTIONS)
def test_values_and_derivatives_are_those_of_the_function(name):
  fn, (x, k) = FUNCTIONS[name], arrays()
  ours = lowered.lowered(fn, 'bundles' if fn is grouped else OURS)
  assert convolutions(fn, x, k) and not convolutions(ours, x, k)
  np.testing.assert_allclose(ours(x, k), fn(x, k), rtol=1e-5, atol=1e-6)
  several = jnp.stack([x, 2 * x, -x])
  found, expected = (jax.jit(second(f))(several, k) for f in (ours, fn))
  scale = np.abs(expected).max()
  assert scale > 1e-3
  np.testing.assert_allclose(found, expected, atol=2e-5 * scale)
  assert not convolutions(second(ours), several, k)


def test_a_loop_without_a_known_length():
  x, k = arrays()

  def fn(x, k):
    def step(state):
      i, y = state
      return i + 1, jnp.tanh(convolve(y, k))

    limit = convolve(x, k).sum() * 0 + 3
    return lax.while_loop(lambda s: s[0] < limit, step, (0.0, x))[1]

  ours = lowered.lowered(fn, OURS)
  np.testing.assert_allclose(ours(x, k), fn(x, k), rtol=1e-5, atol=1e-6)
  assert not convolutions(ours, x, k)


@pytest.mark.parametrize(
  'more',
  [
    dict(lhs_dilation=(2, 2), padding=((1, 1), (1, 1))),
    dict(batch_group_count=2),
    dict(preferred_element_type=jnp.float64),
  ],
)
def test_others_are_left_alone(more):
  x, k = arrays()
  with jax.enable_x64(True):
    fn = functools.partial(convolve, **more)
    ours = lowered.lowered(fn, OURS)
    assert convolutions(ours, x, k) == convolutions(fn, x, k) == 1
    np.testing.assert_array_equal(ours(x, k), fn(x, k))


def test_a_lowering_that_was_chosen_stays():
  x, k = arrays()

  def fn(x, k, name):
    geometry = geometries.Geometry(padding=((1, 1), (1, 1)))
    y = convolution.convolve(x, k, geometry, name)
    return jax.grad(lambda k: convolution.convolve(y, k, geometry, name).sum())(
      k
    )

  for name in ('lax', 'direct'):
    own = functools.partial(fn, name=name)
    assert convolutions(own, x, k) > 0
    ours = lowered.lowered(own, OURS)
    assert convolutions(ours, x, k) == convolutions(own, x, k)


def test_branches_of_one_platform_are_left_alone():
  x, k = arrays()

  def fn(x, k):
    return lax.platform_dependent(
      x, cuda=lambda x: x, default=lambda x: conv(x)
    )

  def conv(x):
    return convolve(x, k)

  ours = lowered.lowered(fn, OURS)
  np.testing.assert_array_equal(ours(x, k), fn(x, k))
  assert 'branches_platforms=None' not in str(jax.make_jaxpr(ours)(x, k))


def test_a_rule_that_asks_what_is_differentiated_is_left_alone():
  x, k = arrays()

  @jax.custom_vjp
  def fn(x, k):
    return convolve(x, k)

  def forward(x, k):
    if k.perturbed:
      raise NotImplementedError
    return convolve(x.value, k.value), k.value

  fn.defvjp(forward, lambda k, y: (jnp.ones_like(x), None), symbolic_zeros=True)
  slope = jax.grad(lambda x: lowered.lowered(fn, OURS)(x, k).sum())(x)
  np.testing.assert_array_equal(slope, np.ones_like(x))


def test_of_three_axes_too():
  x, k = jnp.ones((1, 3, 3, 3, 2)), jnp.ones((2, 2, 2, 2, 1))
  fn = functools.partial(convolve, layout=('NDHWC', 'DHWIO', 'NDHWC'))
  fn = functools.partial(fn, window_strides=(1, 1, 1))
  assert convolutions(lowered.lowered(fn), x, k) == 1


def test_arguments_and_results_are_any_trees():
  x, k = arrays()

  def fn(params, batch, *, scale=1.0):
    """Says what it does."""
    y = convolve(batch['x'], params['k']) * scale
    return {'y': y, 'none': None, 'constant': 3, 'same': batch['x']}

  ours = lowered.lowered(fn)
  assert ours.__doc__ == fn.__doc__
  found, expected = (f({'k': k}, {'x': x}, scale=2.0) for f in (ours, fn))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
    found,
    expected,
  )
  assert found['none'] is None


def test_tracers_of_other_transformations_may_be_inside():
  x, k = arrays()

  def loss(x, wrap):
    inner = wrap(lambda k: convolve(x, k).sum())
    return jnp.square(jax.grad(inner)(k)).sum()

  found, expected = (
    jax.grad(functools.partial(loss, wrap=wrap))(x)
    for wrap in (functools.partial(lowered.lowered, lowering=OURS), lambda f: f)
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
