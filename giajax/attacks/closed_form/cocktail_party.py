"""Cocktail party: the gradients of a layer's units are mixtures of its inputs.

Kariyappa, Guo, Maeng, Xiong, Suh, Qureshi and Lee, Cocktail Party Attack:
Breaking Aggregation-Based Privacy in Federated Learning using Independent
Component Analysis, ICML 2023, arXiv 2209.05578. For a first layer z = W x + b
of m units, the gradients over B <= m images are

  (1)  dL/dW = D' X      dL/db = D' 1      D [B, m], X [B, pixels]

so that each unit hears a mixture of all images. A signal that is linear in the
image, differences of neighbouring pixels or centred pixels, is mixed alike. The
mixtures are whitened to B rows Z of unit variance, and each image is a
direction in their space,

  (2)  S = V Z,  V [B, B] with rows of unit length

V is where the rows of S are least like mixtures:

  (3)  min over V  - n mean_i (mean_j ln cosh S_ij - c)^2
                   + d mean_{i != j} (exp(t |<V_i, V_j>|) - 1)
                   + a TV(V)

with c the mean of ln cosh of a normal variable: the first term is an estimate
of negentropy, because mixtures are nearer to normal ones than what is mixed
(Hyvarinen and Oja, Independent Component Analysis, 2000), the second keeps the
rows apart, the third is the mean size of the differences of neighbouring pixels
in the images V stands for.

S has neither the sign nor the scale of an image. The same directions in the
bias's gradient, which heard 1 where the weights' heard x, have both,

  (4)  x_i = (V K (dL/dW))_i / (V K (dL/db))_i

with K [B, m] the matrix that whitens. Nothing orders the images.

Assumed known: the model and the number of images; labels are not found. No two
images may be the same to the network. The sum of several local steps over the
same images has the form (1), too.

Differs from the authors' code: by default it whitens differences, in which
images are hardly correlated, so that their directions are nearly orthogonal;
theirs, 'pixels', finds less. V starts at random; c is subtracted;
sign and scale are (4), where theirs are those that fit the true images best;
their released code leaves negentropy out; weights and steps are
others. The inputs of a later layer, which they separate and then invert, are
not looked for.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import registry
from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import image_vectors
from giajax.attacks.parts import optimizers
from giajax.models import inspect

_TINY = 1e-30
_NORMAL = 0.374567  # the mean of ln cosh of a normal variable


class Mixtures(NamedTuple):
  """What a step needs to know of the update."""

  white: types.Array  # Z [B, signals]
  whole: types.Array  # K dL/dW [B, pixels], the same mixtures of images
  bias: types.Array  # [B], the bias's gradient in the same basis


class State(NamedTuple):
  """Where one restart stands."""

  variable: types.Array  # V [B, B] float32, up to the lengths of its rows
  optimizer: tuple
  mixtures: Mixtures  # whitened once, because that takes long


def cocktail_party(
  world: worlds.World,
  *,
  num_steps: int = 2_000,
  learning_rate: float = 0.03,
  signal: str = 'differences',
  negentropy: float = 1.0,
  decorrelation: float = 0.1,
  sharpness: float = 12.0,
  total_variation: float = 3.0,
) -> base.Attack:
  """The batch behind an MLP's gradient, by independent component analysis.

  Args:
    world: the attacker's picture of the system, with a network that begins
      with a linear layer with a bias.
    num_steps: the number of steps T >= 1; the authors take 25,000 of learning
      rate 0.001.
    learning_rate: the learning rate of Adam, in units of V; traced.
    signal: what is whitened, 'differences' or 'pixels'.
    negentropy: the weight n of (3); traced.
    decorrelation: the weight d of (3); traced.
    sharpness: the factor t of (3); traced.
    total_variation: the weight a of (3); traced.

  Raises:
    ValueError: another network, images of one pixel, an unknown signal, a first
      layer of fewer units than images, no more pixels than images, or a number
      outside its range.
  """
  require.whole(num_steps, 'num_steps', advice='raise it')
  require.positive(learning_rate, 'learning_rate', advice='use 0.01')
  hparams = {
    'negentropy': negentropy,
    'decorrelation': decorrelation,
    'sharpness': sharpness,
    'total_variation': total_variation,
  }
  for name, value in hparams.items():
    require.not_negative(value, name)
  _require_neighbours(world)
  signals = registry.lookup(_SIGNALS, signal, 'signal')
  first = inspect.first_linear(world.net)
  rows = image_vectors.to_vector(inspect.pixel_order(world.net, first))
  mixtures = functools.partial(_mixtures, world, first, rows, signals)
  _require_room(world, first)
  optimizer = optimizers.adam(optimizers.cosine_decay(num_steps, 0))
  attack = base.Attack(
    craft=base.honest,
    init=functools.partial(_init, mixtures, optimizer),
    step=functools.partial(_step, world, optimizer),
    read=functools.partial(_read, world),
    num_steps=num_steps,
    num_rounds=1,
    hparams={'learning_rate': learning_rate, **hparams},
    needs=frozenset({'model', 'batch_size'}),
    blind_start=False,
  )
  return compose.keep_best(attack)


def _require_room(world: worlds.World, first: str) -> None:
  """Requires at least as many mixtures as images, and more pixels."""
  net, b = world.net, world.batch_size
  params = trees.named_leaves(inspect.abstract_variables(net).params)
  pixels, units = params[f'{first}.kernel'].shape
  if units < b:
    raise ValueError(
      'Expected at least as many units in the first layer as images for '
      f'cocktail_party; got {units} units and batch_size={b}; widen the layer'
    )
  if pixels <= b:
    raise ValueError(
      'Expected more pixels than images for cocktail_party; got '
      f'{pixels} pixels and batch_size={b}; lower the batch size'
    )


def _init(mixtures, optimizer, key, obs, hp):
  del hp
  mixed = mixtures(obs)
  start = _unit(keys.normal(key, (len(mixed.bias),) * 2))
  return State(start, trees.strong(optimizer.init(start)), mixed)


def _step(world, optimizer, key, state, obs, hp):
  """Goes down (3) by one step of Adam."""
  del key, obs
  mixed = state.mixtures
  gradient, terms = jax.grad(
    lambda v: _objective(world, mixed, v, hp), has_aux=True
  )(state.variable)
  updates, memory = optimizer.update(gradient, state.optimizer)
  v = state.variable + hp['learning_rate'] * updates
  loss = _total(terms, hp)
  finite = jnp.isfinite(loss) & trees.all_finite((v, gradient))
  v = jnp.where(finite, v, state.variable)
  return State(v, memory, mixed), types.Info(loss, terms, finite)


def _read(world, state, obs, hp):
  """Gives the directions their signs and scales, by (4)."""
  del obs
  mixed = state.mixtures
  with jax.default_matmul_precision('highest'):
    v = _unit(state.variable)
    scale = v @ mixed.bias
    x = v @ mixed.whole / jnp.where(scale == 0, 1.0, scale)[:, None]
  x = jnp.clip(image_vectors.to_pixels(x, world.net.spec), 0.0, 1.0)
  y = jnp.full(world.batch_size, -1, jnp.int32)
  score = _total(_objective(world, mixed, state.variable, hp)[1], hp)
  return types.Reconstruction(types.Batch(x, y), scale != 0, score)


def _mixtures(world, first, rows, signals, obs) -> Mixtures:
  """Whitens the gradients of the units (1)."""
  gradient = world.client.as_gradient(obs.update.delta)
  kernel, bias = base.kernel_and_bias(gradient, first)  # [pixels, m], [m]
  kernel = kernel[rows]  # in torch's order
  b = world.batch_size
  with jax.default_matmul_precision('highest'):
    heard = signals(kernel.T, world.net.spec.image_shape)
    units, values, rows = jnp.linalg.svd(heard, full_matrices=False)
    length = math.sqrt(heard.shape[1])
    scale = length / jnp.maximum(values[:b], _TINY)
    whitening = scale[:, None] * units[:, :b].T  # K of (4)
    white = length * rows[:b]
    return Mixtures(white, whitening @ kernel.T, whitening @ bias)


def _centred(rows, image_shape):
  del image_shape
  return rows - rows.mean(1, keepdims=True)


def _require_neighbours(world: worlds.World) -> None:
  shape = world.net.spec.image_shape
  if shape[:2] == (1, 1):
    raise ValueError(
      'Expected images of more than one pixel for cocktail_party, which reads '
      f'differences of neighbours; got image_shape={shape}; use linear_layer'
    )


def _differences(rows, image_shape):
  """Maps images [N, C*H*W] to differences of neighbours, [N, ...]."""
  images = image_vectors.to_image(rows, image_shape)
  along = [jnp.diff(images, axis=axis) for axis in (1, 2)]
  return jnp.concatenate([d.reshape(len(rows), -1) for d in along], axis=1)


_SIGNALS = {'differences': _differences, 'pixels': _centred}


def _objective(world, mixed, v, hp):
  """Returns (3), [], and its terms without their weights."""
  v = _unit(v)
  with jax.default_matmul_precision('highest'):
    s, images, cosines = v @ mixed.white, v @ mixed.whole, v @ v.T
  size = trees.safe_abs(s)
  # ln cosh, without overflow.
  contrast = size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2)
  departure = contrast.mean(1) - _NORMAL
  others = 1 - jnp.eye(len(v))
  pairs = others * jnp.expm1(hp['sharpness'] * trees.safe_abs(cosines))
  slopes = trees.safe_abs(_differences(images, world.net.spec.image_shape))
  terms = {
    'negentropy': -jnp.mean(jnp.square(departure)),
    'decorrelation': pairs.sum() / jnp.maximum(others.sum(), 1),
    'total_variation': slopes.mean(),
  }
  return _total(terms, hp), terms


def _total(terms, hp):
  return sum((hp[name] * value for name, value in terms.items()), jnp.zeros(()))


def _unit(v):
  squared = jnp.square(v).sum(1, keepdims=True)
  return v / trees.safe_sqrt(squared, _TINY)
