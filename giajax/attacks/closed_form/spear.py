"""SPEAR: whole batches, exactly, from the zeros that ReLU leaves in a gradient.

Dimitrov, Baader, Mueller and Vechev, SPEAR: Exact Gradient Inversion of
Batches in Federated Learning, NeurIPS 2024, arXiv 2403.03945. For a first
layer z = W x + b that ReLU follows, the gradients over B images are

  (1)  dL/dW = D X      dL/db = D 1      D [m, B], X [B, pixels]

where D, the loss's derivative to z, is zero wherever ReLU was: in about half
of its m rows for each image. A basis L [m, B] of dL/dW's columns is one of
D's, and the columns are its directions

  (2)  L q

of most zeros. A direction that solves B - 1 rows of L is the column of image i
if that image left all these rows at zero, one draw of rows in 2^(B - 1). Each
step draws some, brings them to more zeros, and keeps the sparsest basis seen:
the independent directions of most zeros, which a greedy choice finds, because
independent sets form a matroid. X and the scale of each column follow by least
squares from both gradients (1).

Assumed known: the model and the number of images. No two of the images may be
the same to the network, because dL/dW must have rank B. The sum of several
local steps over the same images has this form too, with other zeros. Images
that leave nearly the same units at zero, as in a network that does not
normalise its input, make sparse directions rare.

Differs from the authors: drawn directions are starts, from which reweighted
least squares descend to sparse ones (Chartrand and Yin, Iteratively Reweighted
Algorithms for Compressive Sensing, ICASSP 2008, eq. 5, with p = 0), so that
hundreds of draws replace 2^(B - 1); with `descents=0` they are kept as drawn.
(Bakarsky et al., SPEAR++, 2025, arXiv 2510.24200, use dictionary learning
instead.) No threshold says which directions are kept, because the basis is
chosen among all. Their score, the share of D's entries that are zero where the
images that came back leave the layer active, or the other way round, is
reported and does not steer. A label is the class whose gradient for such an
image is most like its column of D.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import bias_gradients
from giajax.attacks.parts import image_vectors
from giajax.models import inspect

_TINY = 1e-30
# Below this share of a column's root mean square, an entry counts as zero;
# rounding leaves about 1e-5.
_ZERO = 1e-3
# A direction of unit length is new if this much of it is outside the span of
# the others.
_NEW = 1e-2


class State(NamedTuple):
  """The sparsest basis so far."""

  directions: types.Array  # [B, B] float32, unit rows


class Factors(NamedTuple):
  """What a step needs to know of the update."""

  basis: types.Array  # L [m, B], orthonormal columns of the weight gradient
  response: types.Array  # [B, m], what the layer makes of its other factor
  bias: types.Array  # [B], the bias gradient in the basis
  offset: types.Array  # [m], the layer's bias


def spear(
  world: worlds.World,
  *,
  num_steps: int = 16,
  samples: int = 256,
  descents: int = 100,
) -> base.Attack:
  """The whole batch of an MLP, exactly, by the sparsest basis of its gradient.

  Args:
    world: the attacker's picture of the system, with a network that begins
      with a linear layer with a bias and ReLU.
    num_steps: the number of steps T >= 1.
    samples: the number of draws of rows per step, at least 1.
    descents: the iterations that bring each draw to more zeros; with 0, finding
      B images takes 2^(B - 1) ln(B) draws and more.

  Raises:
    ValueError: another network, a first layer without more units than images,
      fewer pixels than images, or a number outside its range.
  """
  require.whole(num_steps, 'num_steps', advice='raise it')
  require.whole(samples, 'samples', advice='raise it')
  require.whole(descents, 'descents', least=0, advice='use 0 for draws alone')
  first = inspect.first_linear(world.net)
  order = inspect.pixel_order(world.net, first)
  _require_sparsity(world)

  return base.Attack(
    craft=base.honest,
    init=functools.partial(_init, world.batch_size),
    step=functools.partial(_step, world, first, samples, descents),
    read=functools.partial(_read, world, first, order),
    num_steps=num_steps,
    num_rounds=1,
    hparams={},
    needs=frozenset({'model', 'batch_size'}),
    blind_start=False,
  )


def _require_sparsity(world: worlds.World) -> None:
  """Requires ReLU after a first layer that leaves room for B columns."""
  net, b = world.net, world.batch_size
  link = inspect.chain(net)[0]
  units, pixels = link.output[-1], math.prod(net.spec.image_shape)
  if link.slope != 0:
    raise ValueError(
      'Expected ReLU after the first layer for spear; got '
      f'{net.spec.name}, whose slope below zero is {link.slope}; use r_gap or '
      'linear_layer for single images'
    )
  if units <= b:
    raise ValueError(
      f'Expected more units in the first layer than images for spear; got '
      f'{units} units and batch_size={b}; widen the layer'
    )
  if pixels < b:
    raise ValueError(
      'Expected at least as many pixels as images for spear; got '
      f'{pixels} pixels and batch_size={b}; lower the batch size'
    )


def _init(batch_size, key, obs, hp):
  del obs, hp
  normal = keys.normal(key, (batch_size, batch_size))
  return State(jnp.linalg.qr(normal)[0])


def _step(world, first, samples, descents, key, state, obs, hp):
  """Draws directions, brings them to more zeros, keeps the sparsest basis."""
  del hp
  with jax.default_matmul_precision('highest'):
    factors = _factors(world, first, obs)
    directions = _draw(key, factors.basis, samples)
    directions = _descended(directions, factors.basis, descents)
    directions = jnp.concatenate([state.directions, directions])
    best = _sparsest(directions, _zeros(directions @ factors.basis.T))
    before = _disagreement(state.directions, factors)
  finite = trees.all_finite((factors, best))
  directions = jnp.where(finite, best, state.directions)
  return State(directions), types.Info(before, {'disagreement': before}, finite)


def _read(world, first, order, state, obs, hp):
  """Solves for the images and the scale of the columns, then for the labels."""
  del hp
  with jax.default_matmul_precision('highest'):
    factors = _factors(world, first, obs)
    directions = _refined(state.directions, factors.basis)
    columns = factors.basis @ directions.T  # (2)
    columns = jnp.where(_small(columns.T).T, 0.0, columns)
    # (1): [X, 1] by least squares, up to a factor of each row.
    kernel, bias = _gradients(world, first, obs)
    both = jnp.concatenate([kernel, bias[:, None]], axis=1)
    rows = jnp.linalg.lstsq(columns, both)[0]
    scale = rows[:, -1:]
    x = rows[:, :-1] / jnp.where(scale == 0, 1.0, scale)
    x = jnp.clip(image_vectors.to_pixels(x, world.net.spec, order), 0.0, 1.0)
    columns = (columns * scale[:, 0]).T
    y = _classes(world, first, obs.message.variables, x, columns)
    score = _disagreement(directions, factors)
    return types.Reconstruction(types.Batch(x, y), scale[:, 0] != 0, score)


def _gradients(world, first, obs):
  """Returns the gradients of the first layer, [m, pixels] and [m]."""
  gradient = world.client.as_gradient(obs.update.delta)
  kernel, bias = base.kernel_and_bias(gradient, first)
  return kernel.T, bias


def _factors(world, first, obs) -> Factors:
  kernel, bias = _gradients(world, first, obs)
  weights, offset = base.kernel_and_bias(obs.message.variables.params, first)
  basis = jnp.linalg.svd(kernel, full_matrices=False)[0]
  basis = basis[:, : world.batch_size]
  return Factors(basis, (basis.T @ kernel) @ weights, basis.T @ bias, offset)


def _classes(world, first, variables, x, columns):
  """Returns the classes [B] whose gradients are most like the columns.

  Targets that are no classes cannot be tried in turn: they are -1, none.
  """
  if not world.task.exclusive:
    return jnp.full(world.batch_size, -1, jnp.int32)
  gradients = bias_gradients.bias_gradients(world, first, variables)
  over_classes = jax.vmap(gradients, (None, 0))
  over_images = jax.vmap(over_classes, (0, None))
  each = _unit(over_images(x, jnp.arange(world.net.spec.num_classes)))
  likeness = jnp.einsum('bkm,bm->bk', each, columns)
  return jnp.argmax(likeness, axis=1).astype(jnp.int32)


def _draw(key, basis, samples):
  """Returns [samples, B] directions, each of which solves B - 1 rows."""
  m, b = basis.shape
  each = m // max(b - 1, 1)  # disjoint draws of one shuffle
  count = -(-samples // each)
  shuffles = jax.random.split(keys.named(key, 'rows'), count)
  rows = jax.vmap(lambda k: jax.random.permutation(k, m))(shuffles)
  rows = rows[:, : each * (b - 1)].reshape(count * each, b - 1)[:samples]
  other = keys.normal(keys.named(key, 'other'), (len(rows), 1, b))
  # The last of an orthonormal basis is orthogonal to all rows but that one.
  system = jnp.concatenate([basis[rows], other], axis=1)
  return jnp.linalg.qr(jnp.swapaxes(system, 1, 2))[0][..., -1]


def _descended(directions, basis, descents):
  """Returns directions [S, B] of more zeros.

  Each iteration minimises sum_i (L q)_i^2 / (v_i^2 + e^2) with v the column so
  far, by one inverse iteration, and e shrinks to what counts as zero.
  """
  m, b = basis.shape
  products = (basis[:, :, None] * basis[:, None, :]).reshape(m, b * b)
  ridge = 1e-6 * jnp.eye(b)  # float32 must not find the system singular

  def step(i, directions):
    share = i / max(descents - 1, 1)
    # Squared entries of a unit column are 1 / m on average.
    e = _ZERO ** (2 * share) / m
    weights = e / (jnp.square(directions @ basis.T) + e)
    systems = (weights @ products).reshape(-1, b, b) + ridge
    return _unit(jnp.linalg.solve(systems, directions[..., None])[..., 0])

  return jax.lax.fori_loop(0, descents, step, directions)


def _small(columns):
  """Returns which entries of columns [..., m] are zeros."""
  mean = jnp.mean(jnp.square(columns), axis=-1, keepdims=True)
  return jnp.abs(columns) <= _ZERO * jnp.sqrt(mean)


def _zeros(columns):
  return _small(columns).sum(-1)


def _sparsest(directions, zeros):
  """Returns the B independent directions of most zeros, [B, B].

  Args:
    directions: unit rows that span everything, [S, B].
    zeros: the number of zeros of each direction, [S].
  """

  def take(rest, _):
    lengths = trees.safe_sqrt(jnp.square(rest).sum(1))
    # If no direction is new, the one that is closest to new is taken.
    i = jnp.argmax(jnp.where(lengths > _NEW, zeros, lengths - 1))
    axis = rest[i] / lengths[i]
    return rest - jnp.outer(rest @ axis, axis), i

  _, rows = jax.lax.scan(take, directions, None, directions.shape[1])
  return directions[rows]


def _refined(directions, basis):
  """Solves all rows that a direction brings to zero, if they determine it."""
  last_but_one = max(basis.shape[1] - 2, 0)

  def one(direction):
    small = _small(basis @ direction)
    _, values, axes = jnp.linalg.svd(
      basis * small[:, None], full_matrices=False
    )
    return jnp.where(values[last_but_one] > _NEW, axes[-1], direction)

  return jax.vmap(one)(directions)


def _disagreement(directions, factors):
  """Returns the share of D whose zeros are not those of the images."""
  scale = jnp.linalg.solve(directions.T, factors.bias)
  scale = jnp.where(scale == 0, 1.0, scale)[:, None]
  outputs = jnp.linalg.solve(directions.T, factors.response) / scale
  active = outputs + factors.offset > 0
  return jnp.mean(active == _small(directions @ factors.basis.T))


def _unit(v):
  squared = jnp.square(v).sum(-1, keepdims=True)
  return v / trees.safe_sqrt(squared, _TINY)
