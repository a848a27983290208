"""Questions about a network's layers, answered without running it."""

from collections.abc import Callable
import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import layers
from giajax.ops import moments


def sites(net: base.Net) -> dict[str, moments.Site]:
  """Returns the layers with parameters, in the order of a forward pass.

  Inputs are shapes of a batch of one image.

  Raises:
    ValueError: the network cannot report its layers.
  """
  if net.probe is None:
    raise _foreign(net, 'layers', 'build it of giajax.models.layers')
  shape = (1, *net.spec.image_shape)
  return dict(_sites(net.probe, net.init, shape, jnp.result_type(float)))


def abstract_variables(net: base.Initialised) -> types.Variables:
  """Returns the shapes of a network's variables."""
  return _abstract_variables(net.init, jnp.result_type(float))


def leaf_names(net: base.Net) -> frozenset[str]:
  """Returns the dotted names of the parameters that a client trains."""
  return frozenset(trees.named_leaves(abstract_variables(net).params))


def in_order(net: base.Net) -> list[str]:
  """Returns the names of `leaf_names` from the first layer to the last.

  Raises:
    ValueError: the network cannot report its layers.
  """
  paths = [*sites(net)]
  within = ['kernel', 'scale', 'value', 'bias']

  def place(name):
    path, _, leaf = name.rpartition('.')
    return paths.index(path), within.index(leaf)

  return sorted(leaf_names(net), key=place)


def classifier(net: base.Net) -> str:
  """Returns the path of the last linear layer, the classifier.

  Raises:
    ValueError: a network without one.
  """
  path = _last_linear(net)
  if path is None:
    raise ValueError(
      f'Expected a network with a linear classifier; got {net.spec.name}; '
      'choose a label rule or an attack that does not read it'
    )
  return path


def head(net: base.Net) -> str:
  """Returns the path of a classifier whose kernel the client trains.

  Raises:
    ValueError: a network without one, or whose client does not train it.
  """
  path = classifier(net)
  if f'{path}.kernel' not in leaf_names(net):
    raise ValueError(
      f'Expected an update that covers the classifier {path!r}; got one '
      'where it is frozen; choose an attack that does not read it'
    )
  return path


def num_features(net: base.Net) -> int:
  """Returns how many numbers the classifier of `head` reads of an image.

  Raises:
    ValueError: see `head`.
  """
  params = trees.named_leaves(abstract_variables(net).params)
  return params[f'{head(net)}.kernel'].shape[0]


def features(net: base.Net) -> str | None:
  """Returns the tap of what the classifier reads, trained or frozen.

  None for a network that cannot report its layers or has no linear classifier.
  """
  path = None if net.probe is None else _last_linear(net)
  return None if path is None else f'{path}.input'


def has_bias(net: base.Net, path: str) -> bool:
  """Returns whether a layer has a bias."""
  return f'{path}.bias' in leaf_names(net)


def has_batch_norm(net: base.Net) -> bool:
  """Returns whether a network keeps running statistics."""
  return bool(jax.tree.leaves(abstract_variables(net).stats))


def draws(net: base.Net, tap: str | None = None, *, train: bool) -> bool:
  """Returns whether a pass draws random numbers, as dropout does.

  Args:
    net: the network.
    tap: the activation that the random numbers have to reach; the logits if
      None.
    train: whether the pass is one of training.
  """

  def run(key, variables, x):
    taps = () if tap is None else (tap,)
    output = net.apply(variables, x, train=train, taps=taps, key=key)
    return output.out if tap is None else output.taps[tap]

  # Two images: BatchNorm may see a single pixel of each.
  x = jax.ShapeDtypeStruct((2, *net.spec.image_shape), jnp.float32)
  traced = jax.make_jaxpr(run)(jax.random.key(0), abstract_variables(net), x)
  needed = _variables(traced.jaxpr.outvars)
  for equation in reversed(traced.jaxpr.eqns):
    if needed & _variables(equation.outvars):
      needed |= _variables(equation.invars)
  return traced.jaxpr.invars[0] in needed


def norms(net: base.Net) -> list[str]:
  """Returns the paths of the normalisation layers, in a pass's order.

  `net.apply(..., taps=[f'{path}.input' for path in norms(net)])` gives what
  each of them normalises.
  """
  return [path for path, site in sites(net).items() if site.kind == 'scale']


def momenta(net: base.Net) -> dict[str, float]:
  """Returns the momentum of each BatchNorm layer that is not frozen, by path.

  Raises:
    ValueError: the network cannot report its layers.
  """
  if net.momenta is None:
    raise _foreign(net, 'momentum', 'state it')
  still = base.frozen_layers(abstract_variables(net))
  return {path: m for path, m in net.momenta.items() if path not in still}


def first_linear(net: base.Net) -> str:
  """Returns the path of a first layer that is linear, with a bias.

  Raises:
    ValueError: a network that does not begin with one.
  """
  path, site = next(iter(sites(net).items()))
  pixels = math.prod(net.spec.image_shape)
  if (
    site.kind != 'linear'
    or site.input.shape[-1] != pixels
    or not {f'{path}.kernel', f'{path}.bias'} <= leaf_names(net)
  ):
    raise ValueError(
      'Expected a network whose first layer is linear over all pixels, with a '
      f'bias; got {net.spec.name}, which begins with {path!r}; use mlp'
    )
  return path


def positions(net: base.Net, who: str) -> str:
  """Returns the path of the learned position embedding, [1, T, D].

  Args:
    net: the network.
    who: the attack that asks.

  Raises:
    ValueError: a network without one, or whose client does not train it.
  """
  for path, site in sites(net).items():
    if site.kind == 'value' and site.input.ndim == 3:
      batch, tokens, _ = site.input.shape
      if batch == 1 < tokens and f'{path}.value' in leaf_names(net):
        return path
  raise ValueError(
    f'Expected learned positions, which the client trains, for {who}; got '
    f'{net.spec.name} without them; use a ViT, and train pos_embedding'
  )


class Link(NamedTuple):
  """A layer of a chain.

  Attributes:
    path: its path.
    site: where it meets its input.
    output: the shape of its output for a batch of one image.
    slope: the next layer reads z for an output z > 0, and slope * z for others;
      1 if it reads all outputs unchanged, as after the last layer.
  """

  path: str
  site: moments.Site
  output: tuple[int, ...]
  slope: float


def chain(net: base.Net) -> list[Link]:
  """Returns the layers of a network that has one path, and no pools.

  Each is a convolution or a linear layer, and reads the output of the one
  before it through ReLU, LeakyReLU or nothing. Activations do not know their
  names, so a random image is passed through random weights.

  Raises:
    ValueError: another network.
  """
  links = sites(net)
  kinds = {path: site.kind for path, site in links.items()}
  odd = [p for p, kind in kinds.items() if kind not in ('conv', 'linear')]
  if odd:
    raise _no_chain(net, odd[0], 'is neither a convolution nor linear')
  taps = [name for path in links for name in (path, f'{path}.input')]

  def run(variables, x):
    return net.apply(variables, x, taps=taps).taps

  image = jax.ShapeDtypeStruct((1, *net.spec.image_shape), jnp.float32)
  shapes = jax.eval_shape(run, abstract_variables(net), image)
  pairs = list(itertools.pairwise(links))
  for before, after in pairs:
    if shapes[before].size != shapes[f'{after}.input'].size:
      raise _no_chain(net, after, f'does not read all that {before!r} gives')
  draw, init = jax.random.split(jax.random.key(0))
  passed = jax.jit(run)(net.init(init), jax.random.uniform(draw, image.shape))
  slopes = dict.fromkeys(links, 1.0)
  for before, after in pairs:
    z, x = passed[before], passed[f'{after}.input']
    z = layers.flatten(z) if z.ndim > x.ndim else z
    falling = jnp.minimum(z, 0)
    if not falling.any():
      raise _no_chain(net, before, 'gave nothing below zero to show its slope')
    slope = jnp.vdot(falling, x) / jnp.vdot(falling, falling)
    expected = jnp.where(z > 0, z, slope * z)
    if not (z.shape == x.shape and jnp.allclose(x, expected, 1e-4, 1e-6)):
      raise _no_chain(
        net, after, f'reads no ReLU or LeakyReLU of what {before!r} gives'
      )
    slopes[before] = round(float(slope), 6)
  return [
    Link(path, site, shapes[path].shape, slopes[path])
    for path, site in links.items()
  ]


def _foreign(net: base.Net, what: str, advice: str) -> ValueError:
  return ValueError(
    f'Expected a network made of giajax layers; got {net.spec.name}, which '
    f'cannot report its {what}; {advice}'
  )


def _variables(atoms) -> set[core.Var]:
  return {atom for atom in atoms if isinstance(atom, core.Var)}


def _no_chain(net, path, why):
  return ValueError(
    'Expected a chain of convolutions and linear layers with ReLU or '
    f'LeakyReLU between, without pools; got {net.spec.name}, where {path!r} '
    f'{why}; use cnn6 or mlp'
  )


def _last_linear(net: base.Net) -> str | None:
  """The last linear layer that is not a low-rank adapter of another."""
  linear = [
    path
    for path, site in sites(net).items()
    if site.kind == 'linear' and '.lora_' not in path
  ]
  return linear[-1] if linear else None


# A trace of a deep network takes a second, and many ask for it. Networks are
# pure functions, so one trace answers all; `precision` is that of floats.
@functools.lru_cache(maxsize=32)
def _abstract_variables(
  init: Callable[[types.Array], types.Variables], precision: np.dtype
) -> types.Variables:
  del precision
  return jax.eval_shape(init, jax.random.key(0))


@functools.lru_cache(maxsize=32)
def _sites(
  probe: Callable[..., Any],
  init: Callable[[types.Array], types.Variables],
  shape: tuple[int, ...],
  precision: np.dtype,
) -> dict[str, moments.Site]:
  sites: dict[str, moments.Site] = {}

  def visit(variables, x):
    for path, site in probe(variables, x, None)[1].items():
      x = jax.ShapeDtypeStruct(site.input.shape, site.input.dtype)
      sites[path] = site._replace(input=x)

  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  jax.eval_shape(visit, _abstract_variables(init, precision), x)
  return sites
