"""SPEAR: whole batches, exactly, from the zeros that ReLU leaves in a gradient.

Dimitrov, Baader, Mueller and Vechev, SPEAR: Exact Gradient Inversion of
Batches in Federated Learning, NeurIPS 2024, arXiv 2403.03945. For a first
layer z = W x + b behind which ReLU follows, the gradients over B images are

  dL/dW = D X      dL/db = D 1      D [m, B], X [B, pixels]

where D, the loss's derivative to z, is zero wherever ReLU was: in about half
of its m rows for each image. A basis L [m, B] of dL/dW's columns is one of
D's, and the columns are its directions L q of most zeros. A direction that
solves B - 1 rows of L is the column of image i if that image left all these
rows at zero, one draw of rows in 2^(B - 1). Each step draws some, brings them
to more zeros, and keeps the sparsest basis seen: the independent directions of
most zeros, which a greedy choice finds, as independent sets are a matroid. X
and the scale of each column follow by least squares from both gradients.

Assumed known: the model and the number of images, of which no two are the same
to the network, as dL/dW has to have rank B. What several local steps over
the same images add up to has this form too, with other zeros. Images that
leave much the same units at zero, as those of a network that does not normalise
its input, make sparse directions rare.

Against the authors: drawn directions are starts, from which reweighted least
squares descend to sparse ones (Chartrand and Yin, Iteratively Reweighted
Algorithms for Compressive Sensing, ICASSP 2008, eq. 5, with p = 0), so that
hundreds of draws do for 2^(B - 1); with `descents=0` they are kept as drawn.
(Bakarsky et al., SPEAR++, 2025, arXiv 2510.24200, have dictionary learning in
that place.) No threshold says which directions are kept, because the basis is
chosen among all. Their score, the share of D's entries that are zero where the
found images leave the layer active, or the other way round, is reported and
does not steer. A label is the class whose gradient for a found image is most
like its column of D.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.clients import base as clients
from giajax.models import inspect

_TINY = 1e-30
# Below this share of a column's root mean square, an entry counts as zero;
# rounding leaves about 1e-5.
_ZERO = 1e-3
# A direction is new if so much of it, unit length, lies outside the others.
_NEW = 1e-2


class State(NamedTuple):
  """The sparsest basis so far."""

  directions: types.Array  # [B, B] float32, unit rows


class Factors(NamedTuple):
  """What a step needs to know of the update."""

  basis: types.Array  # [m, B], orthonormal columns of the weight gradient
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
    num_steps: T >= 1.
    samples: draws of rows a step, at least 1.
    descents: iterations that bring each of them to more zeros; with 0, finding
      B images takes 2^(B - 1) ln(B) draws and more.

  Raises:
    ValueError: another network, a first layer without more units than images,
      fewer pixels than images, or a number outside its range.
  """
  net, b = world.net, world.batch_size
  if min(num_steps, samples) < 1 or descents < 0:
    raise ValueError(
      'Expected num_steps and samples of at least 1, and descents of at least '
      f'0; got num_steps={num_steps}, samples={samples}, descents={descents}; '
      'raise them'
    )
  first = inspect.first_linear(net)
  link = inspect.chain(net)[0]
  units = link.output[-1]
  if link.slope != 0:
    raise ValueError(
      'Expected ReLU behind the first layer for spear; got '
      f'{net.spec.name}, whose slope below zero is {link.slope}; use r_gap or '
      'linear_layer for single images'
    )
  if units <= b:
    raise ValueError(
      f'Expected more units in the first layer than images for spear; got '
      f'{units} units and batch_size={b}; widen the layer'
    )
  pixels = math.prod(net.spec.image_shape)
  if pixels < b:
    raise ValueError(
      'Expected at least as many pixels as images for spear; got '
      f'{pixels} pixels and batch_size={b}; lower the batch size'
    )

  def gradients(obs):
    """Returns the first layer's: [m, pixels] and [m]."""
    leaves = trees.named_leaves(world.client.as_gradient(obs.update.delta))
    return leaves[f'{first}.kernel'].T, leaves[f'{first}.bias']

  def factors(obs):
    kernel, bias = gradients(obs)
    held = trees.named_leaves(obs.message.variables.params)
    basis = jnp.linalg.svd(kernel, full_matrices=False)[0][:, :b]
    response = (basis.T @ kernel) @ held[f'{first}.kernel']
    return Factors(basis, response, basis.T @ bias, held[f'{first}.bias'])

  def init(key, obs, hp):
    return State(jnp.linalg.qr(keys.normal(key, (b, b)))[0])

  def step(key, state, obs, hp):
    with jax.default_matmul_precision('highest'):
      known = factors(obs)
      drawn = _draw(key, known.basis, samples)
      drawn = _descended(drawn, known.basis, descents)
      found = jnp.concatenate([state.directions, drawn])
      best = _sparsest(found, _zeros(found @ known.basis.T))
      before = _disagreement(state.directions, known)
    finite = trees.all_finite((known, best))
    kept = jnp.where(finite, best, state.directions)
    terms = {'disagreement': before}
    return State(kept), types.Info(before, terms, finite)

  def read(state, obs, hp):
    with jax.default_matmul_precision('highest'):
      return _read(state, obs)

  def _read(state, obs):
    known = factors(obs)
    directions = _refined(state.directions, known.basis)
    columns = known.basis @ directions.T
    columns = jnp.where(_small(columns.T).T, 0.0, columns)
    kernel, bias = gradients(obs)
    both = jnp.concatenate([kernel, bias[:, None]], axis=1)
    scaled = jnp.linalg.lstsq(columns, both)[0]
    scale = scaled[:, -1:]
    x = scaled[:, :-1] / jnp.where(scale == 0, 1.0, scale)
    h, w, c = net.spec.image_shape
    x = jnp.moveaxis(x.reshape(b, c, h, w), 1, -1)
    x = x * jnp.asarray(net.spec.std) + jnp.asarray(net.spec.mean)
    x = jnp.clip(x, 0.0, 1.0)
    y = classes(obs.message.variables, x, (columns * scale[:, 0]).T)
    score = _disagreement(directions, known)
    return types.Reconstruction(types.Batch(x, y), scale[:, 0] != 0, score)

  def classes(variables, x, columns):
    """Returns the classes [B] whose gradients are most like the columns."""
    leaves = trees.named_leaves(variables.params)
    name = f'{first}.bias'

    def gradient(bias, x, y):
      params = trees.like(variables.params, {**leaves, name: bias})
      output = net.apply(variables._replace(params=params), x[None])
      return clients.loss(world.task, output, y[None])

    every = jnp.arange(net.spec.num_classes)
    over_classes = jax.vmap(jax.grad(gradient), (None, None, 0))
    over_images = jax.vmap(over_classes, (None, 0, None))
    each = _unit(over_images(leaves[name], x, every))
    likeness = jnp.einsum('bkm,bm->bk', each, columns)
    return jnp.argmax(likeness, axis=1).astype(jnp.int32)

  return base.Attack(
    craft=base.honest,
    init=init,
    step=step,
    read=read,
    num_steps=num_steps,
    num_rounds=1,
    hparams={},
    needs=frozenset({'model', 'batch_size'}),
  )


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
  """Says which entries of columns [..., m] are zeros."""
  mean = jnp.mean(jnp.square(columns), axis=-1, keepdims=True)
  return jnp.abs(columns) <= _ZERO * jnp.sqrt(mean)


def _zeros(columns):
  return _small(columns).sum(-1)


def _sparsest(directions, zeros):
  """Returns the B independent directions of most zeros, [B, B].

  Args:
    directions: [S, B] unit rows that span everything.
    zeros: [S] counts.
  """

  def take(rest, _):
    lengths = trees.safe_sqrt(jnp.square(rest).sum(1))
    # Where none is new, the one that is most so.
    i = jnp.argmax(jnp.where(lengths > _NEW, zeros, lengths - 1))
    axis = rest[i] / lengths[i]
    return rest - jnp.outer(rest @ axis, axis), i

  _, taken = jax.lax.scan(take, directions, None, directions.shape[1])
  return directions[taken]


def _refined(directions, basis):
  """Solves all rows that a direction brings to zero, if they determine it."""
  last = max(basis.shape[1] - 2, 0)  # but one

  def one(direction):
    small = _small(basis @ direction)
    _, values, axes = jnp.linalg.svd(
      basis * small[:, None], full_matrices=False
    )
    return jnp.where(values[last] > _NEW, axes[-1], direction)

  return jax.vmap(one)(directions)


def _disagreement(directions, known):
  """Returns the share of D whose zeros are not those of the found images."""
  scale = jnp.linalg.solve(directions.T, known.bias)
  scale = jnp.where(scale == 0, 1.0, scale)[:, None]
  outputs = jnp.linalg.solve(directions.T, known.response) / scale
  active = outputs + known.offset > 0
  return jnp.mean(active == _small(directions @ known.basis.T))


def _unit(v):
  squared = jnp.square(v).sum(-1, keepdims=True)
  return v / trees.safe_sqrt(squared, _TINY)
