"""Tests of matching_loss against a least squares model, by hand.

For L = mean_i |x_i W + b - y_i|^2 / 2 with residuals E = X W + b - Y,

  dL/dW = X' E / B        dL/db = 1' E / B

and a distance with derivatives A to dL/dW and a to dL/db has, to X,

  (E A' + X A W' + 1 a' W') / B
"""

import equinox as eqx
from flax import linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.attacks.parts import distances
from giajax.attacks.parts import matching_loss

B, D, P, R = 3, 4, 2, 5
RNG = np.random.default_rng(0)
W, BIAS = RNG.normal(size=(D, P)), RNG.normal(size=P)
X, Y = RNG.normal(size=(R, B, D)), RNG.normal(size=(B, P))
TW, TB = RNG.normal(size=(D, P)), RNG.normal(size=P)


def cosine_parts(g, t):
  """Returns cos(g, t) and its derivative to g."""
  ng, nt = np.linalg.norm(g), np.linalg.norm(t)
  cos = g @ t / (ng * nt)
  return cos, t / (ng * nt) - cos * g / ng**2


def by_hand(name, x):
  """Returns a distance at candidates [B, D] and its derivative to them."""
  e = x @ W + BIAS - Y
  g = np.concatenate([(x.T @ e / B).ravel(), e.sum(0) / B])
  t = np.concatenate([TW.ravel(), TB])
  pairs = [(g[: D * P], t[: D * P]), (g[D * P :], t[D * P :])]
  if name == 'l2':
    value, slope = 0.5 * np.sum((g - t) ** 2), g - t
  elif name == 'l2_and_norm':
    squared = np.sum((g - t) ** 2)
    value = squared + np.sqrt(squared)
    slope = (2 + 1 / np.sqrt(squared)) * (g - t)
  elif name == 'layer_l2':  # of two leaves
    value, slope = np.sum((g - t) ** 2) / 2, g - t
  elif name == 'l1':
    value, slope = np.sum(np.abs(g - t)), np.sign(g - t)
  elif name == 'gaussian':
    parts = []
    for a, b in pairs:
      kernel = np.exp(-np.sum((a - b) ** 2) / np.sum(b**2))
      parts.append((kernel, 2 * kernel * (a - b) / np.sum(b**2)))
    value = 1 - sum(kernel for kernel, _ in parts) / 2
    slope = np.concatenate([d for _, d in parts]) / 2
  elif name == 'layer_cosine':
    parts = [cosine_parts(*pair) for pair in pairs]
    value = 1 - sum(cos for cos, _ in parts) / 2
    slope = -np.concatenate([d for _, d in parts]) / 2
  else:
    cos, d = cosine_parts(g, t)
    value, slope = 1 - cos, -d
    if name == 'angular':
      value = np.arccos(cos) / np.pi
      slope = -d / np.sqrt(1 - cos**2) / np.pi
  a_w, a_b = slope[: D * P].reshape(D, P), slope[D * P :]
  return value, (e @ a_w.T + x @ a_w @ W.T + (W @ a_b)[None]) / B


def residual_loss(apply):
  def loss(params, batch):
    x, y = batch
    return 0.5 * jnp.sum((apply(params, x) - y) ** 2) / len(x)

  return loss


def plain():
  params = {'kernel': W, 'bias': BIAS}
  target = {'kernel': TW, 'bias': TB}
  return (lambda p, x: x @ p['kernel'] + p['bias']), params, target


def of_linen():
  module = linen.Dense(P)
  params = {'params': {'kernel': W, 'bias': BIAS}}
  return module.apply, params, {'params': {'kernel': TW, 'bias': TB}}


def of_equinox():
  layer = eqx.nn.Linear(D, P, key=jax.random.key(0))

  def fill(w, b):
    return eqx.tree_at(lambda m: (m.weight, m.bias), layer, (w.T, b))

  return (lambda m, x: jax.vmap(m)(x)), fill(W, BIAS), fill(TW, TB)


@pytest.fixture(params=[plain, of_linen, of_equinox])
def model(request):
  apply, params, target = request.param()
  params, target = jax.tree.map(jnp.float32, (params, target))
  return residual_loss(apply), params, target


@pytest.mark.parametrize('name', sorted(distances.DISTANCES))
def test_value_and_derivative_by_hand(model, name):
  loss_fn, params, target = model
  loss = matching_loss.matching_loss(loss_fn, name)

  @jax.jit
  def run(x):
    def each(x):
      return loss(params, (x, jnp.float32(Y)), target)

    return jax.vmap(jax.value_and_grad(each))(x)

  values, slopes = run(jnp.float32(X))
  assert values.shape == (R,) and values.dtype == jnp.float32
  for r in range(R):
    value, slope = by_hand(name, X[r])
    np.testing.assert_allclose(values[r], value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(slopes[r], slope, rtol=1e-3, atol=1e-5)


def test_derivative_by_hand_is_that_of_the_value_by_hand():
  for name in distances.DISTANCES:
    direction = RNG.normal(size=(B, D))
    step = 1e-6 * direction
    rise = by_hand(name, X[0] + step)[0] - by_hand(name, X[0] - step)[0]
    slope = np.sum(by_hand(name, X[0])[1] * direction)
    np.testing.assert_allclose(rise / 2e-6, slope, rtol=1e-5)


def test_convolutions_are_lowered_as_ours():
  """So narrow ones are blocks or patches, without XLA's in any derivative."""
  x, y = jnp.ones((2, 6, 5, 3)), jnp.ones((2, 6, 5, 2))
  module = linen.Conv(2, (3, 3))
  params = module.init(jax.random.key(0), x)
  layer = eqx.nn.Conv2d(3, 2, 3, padding=1, key=jax.random.key(0))

  def of_equinox(layer, x):
    return jax.vmap(layer)(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)

  for apply, own in ((module.apply, params), (of_equinox, layer)):
    loss_fn = residual_loss(apply)
    loss = jax.grad(matching_loss.matching_loss(loss_fn), argnums=1)
    plain = jax.make_jaxpr(jax.grad(loss_fn))(own, (x, y))
    assert 'conv_general_dilated' in str(plain)
    made = jax.make_jaxpr(loss)(own, (x, y), own)
    assert 'conv_general_dilated' not in str(made)


def test_zero_at_the_truth(model):
  loss_fn, params, _ = model
  batch = jnp.float32(X[0]), jnp.float32(Y)
  target = jax.grad(loss_fn)(params, batch)
  assert abs(matching_loss.matching_loss(loss_fn)(params, batch, target)) < 1e-6


def test_own_distance_and_default(model):
  loss_fn, params, target = model
  batch = jnp.float32(X[0]), jnp.float32(Y)
  found = matching_loss.matching_loss(loss_fn)(params, batch, target)
  np.testing.assert_allclose(found, by_hand('cosine', X[0])[0], rtol=1e-4)
  count = distances.Distance(lambda g, t: jnp.float32(len(jax.tree.leaves(g))))
  assert matching_loss.matching_loss(loss_fn, count)(params, batch, target) == 2


def test_unknown_distance():
  with pytest.raises(
    ValueError, match=r'angular, cosine, gaussian, l1, l2.*l3'
  ):
    matching_loss.matching_loss(lambda p, b: 0.0, 'l3')


def test_other_structure(model):
  loss_fn, params, target = model
  batch = jnp.float32(X[0]), jnp.float32(Y)
  loss = matching_loss.matching_loss(loss_fn)
  with pytest.raises(ValueError, match='structure and shapes of params'):
    loss(params, batch, jax.tree.leaves(target))


@pytest.mark.parametrize('name', sorted(distances.DISTANCES))
def test_other_shapes_do_not_broadcast(name):
  apply, params, target = plain()
  params, target = jax.tree.map(jnp.float32, (params, target))
  target['bias'] = target['bias'][:1]
  loss = matching_loss.matching_loss(residual_loss(apply), name)
  with pytest.raises(
    ValueError, match=r'structure and shapes of params; got target.*bias'
  ):
    loss(params, (jnp.float32(X[0]), jnp.float32(Y)), target)
