"""Tests of giajax.ops.loop_invariants: work moves, and results do not."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax.ops import loop_invariants


def _scan(weights, x, once, steps=3):
  def body(x, t):
    inverse = jnp.linalg.inv(weights @ weights.T + jnp.eye(3))
    y = jnp.tanh(inverse @ x) + t
    return y, {'norm': jnp.sum(y**2), 'constant': jnp.sum(weights)}

  if once:
    body = loop_invariants.precompute(body, x, jnp.float32(0))
  return jax.lax.scan(body, x, jnp.arange(float(steps)))


def _inputs():
  keys = jax.random.split(jax.random.key(0))
  weights = jax.random.normal(keys[0], (3, 3))
  return weights, jax.random.normal(keys[1], (3,))


def _assert_equal(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_equal_results():
  weights, x = _inputs()
  _assert_equal(_scan(weights, x, True), _scan(weights, x, False))


def test_equal_under_jit_and_vmap():
  weights, x = _inputs()
  xs = jnp.stack([x, 2 * x])
  got, want = (
    jax.jit(jax.vmap(lambda x, once=once: _scan(weights, x, once)))(xs)
    for once in (True, False)
  )
  _assert_equal(got, want)


def test_equal_gradients_to_carry_and_closure():
  weights, x = _inputs()
  got, want = (
    jax.grad(
      lambda w, x, once=once: _scan(w, x, once)[1]['norm'].sum(), (0, 1)
    )(weights, x)
    for once in (True, False)
  )
  _assert_equal(got, want)


def test_gradient_inside_the_body():
  weights, x = _inputs()

  def scan(once):
    def body(x, _):
      value, grad = jax.value_and_grad(
        lambda x: jnp.sum(jnp.sin(weights @ weights.T @ x) ** 2)
      )(x)
      return x - 0.1 * grad, value

    if once:
      body = loop_invariants.precompute(body, x, None)
    return jax.lax.scan(body, x, None, length=3)

  _assert_equal(scan(True), scan(False))


def _loop_primitives(once):
  weights, x = _inputs()
  jaxpr = jax.make_jaxpr(lambda x: _scan(weights, x, once))(x).jaxpr
  (loop,) = [e for e in jaxpr.eqns if e.primitive.name == 'scan']
  return str(loop.params['jaxpr'])


def test_invariant_work_is_outside_the_loop():
  inside = _loop_primitives(False)
  assert 'triangular_solve' in inside or 'lu' in inside
  shortened = _loop_primitives(True)
  assert 'triangular_solve' not in shortened and 'lu' not in shortened
  assert shortened.count('dot_general') == 1  # inverse @ x
  assert 'tanh' in shortened
