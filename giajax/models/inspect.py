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

_BITS = 4  # of each digit that finds the pixels


def sites(net: base.Net) -> dict[str, moments.Site]:
  """Returns the layers with parameters, in the order of a forward pass.

  Inputs are shapes of a batch of one image.

  Raises:
    ValueError: the network cannot report its layers, see `fault`.
  """
  wrong = fault(net)
  if wrong:
    raise ValueError(
      f'Expected a network whose layers are known; got {net.spec.name}, {wrong}'
    )
  return traced_sites(net)


def traced_sites(net: base.Net) -> dict[str, moments.Site]:
  """Returns what a pass says about the layers of a network with a `probe`.

  Those of a network that somebody else wrote may be of kind 'other', or have
  parameters of other names and layouts than giajax's, see `fault`.

  Args:
    net: the network.
  """
  shape = (1, *net.spec.image_shape)
  probe: Any = net.probe
  return dict(_sites(probe, net.init, shape, jnp.result_type(float)))


def fault(net: base.Net) -> str:
  """Returns why a network cannot report its layers, and advice; or ''."""
  if net.probe is None:
    return 'which cannot report them; build it of giajax.models.layers'
  leaves = trees.named_leaves(base.whole(abstract_variables(net)))
  for path, site in traced_sites(net).items():
    if site.kind == 'other':
      return f'where the parameter {site.why}; read it once, as layers do'
    for leaf, name in site.names.items():
      if name != f'{path}.{leaf}' or not _lies(site, leaf, leaves[name]):
        return (
          f'whose parameter {name!r} is not called {leaf!r} or lies in another '
          'way; give it to giajax.models.relaid'
        )
  return ''


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
  path = None if fault(net) else _last_linear(net)
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
  found = net.momenta
  if found is None:
    found = {path: facts.momentum for path, facts in running(net).items()}
  still = base.frozen_layers(abstract_variables(net))
  return {path: m for path, m in found.items() if path not in still}


class Running(NamedTuple):
  """How a BatchNorm layer moves its running statistics.

  Attributes:
    momentum: the weight of the batch in them.
    unbiased: whether they hold the batch's unbiased variance, as in torch; flax
      keeps the biased one.
  """

  momentum: float
  unbiased: bool


def running(net: base.Net) -> dict[str, Running]:
  """Returns how the BatchNorm layers of a network move their statistics.

  Those of giajax are known. A network that somebody else wrote is passed two
  random images, with two sets of running statistics.

  Raises:
    ValueError: the network cannot report its layers.
  """
  if net.momenta is not None:
    return {path: Running(m, True) for path, m in net.momenta.items()}
  names = trees.named_leaves(abstract_variables(net).stats)
  paths = [p for p in norms(net) if {f'{p}.mean', f'{p}.var'} <= names.keys()]
  passed = _training_pass(net, tuple(f'{path}.input' for path in paths))
  (before, taps), (after, _) = passed(0), passed(1)
  found = {}
  for path in paths:
    kept = float(jnp.mean(after[f'{path}.mean'] - before[f'{path}.mean']))
    read = taps[f'{path}.input']
    count = read.size // read.shape[-1]
    moved = float(before[f'{path}.var'].sum())
    biased = float(read.var(tuple(range(read.ndim - 1))).sum()) * (1 - kept)
    middle = (1 + count / max(count - 1, 1)) / 2
    found[path] = Running(round(1 - kept, 5), moved > middle * biased)
  return found


def _training_pass(net, taps):
  """Returns the pass of two random images from equal running statistics."""
  init, draw, own = jax.random.split(jax.random.key(0), 3)
  x = jax.random.uniform(draw, (2, *net.spec.image_shape))
  variables = net.init(init)

  @jax.jit
  def passed(value):
    stats = jax.tree.map(lambda a: jnp.full_like(a, value), variables.stats)
    output = net.apply(
      variables._replace(stats=stats), x, train=True, taps=taps, key=own
    )
    return trees.named_leaves(output.stats), output.taps

  return passed


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


def pixel_order(net: base.Net, path: str) -> types.Array:
  """Returns [H, W, C], where in its input the first layer reads each pixel.

  Args:
    net: the network.
    path: the path of `first_linear`.

  Raises:
    ValueError: the layer reads something else than normalised pixels.
  """
  tap, spec = f'{path}.input', net.spec
  # What comes before the first layer has no weights.
  variables = jax.tree.map(
    lambda a: jnp.zeros(a.shape, a.dtype), abstract_variables(net)
  )

  def read(x):
    return net.apply(variables, x[None], taps=(tap,)).taps[tap][0]

  image = jax.random.uniform(jax.random.key(0), spec.image_shape)
  found, pull = jax.vjp(read, image)
  places, order = jnp.arange(found.size), jnp.zeros(spec.image_shape, jnp.int32)
  # Small digits survive a network that computes in bfloat16.
  for shift in range(0, found.size.bit_length(), _BITS):
    digits = (places >> shift) % 2**_BITS
    moved = pull(digits.reshape(found.shape).astype(found.dtype))[0]
    own = jnp.rint(moved * jnp.asarray(spec.std)).astype(jnp.int32)
    order += own << shift
  inside = found.ndim == 1 and ((order >= 0) & (order < found.size)).all()
  expected = base.normalise(image, spec)
  if not inside or not np.allclose(found[order], expected, 0.02, 0.02):
    raise ValueError(
      'Expected a first layer that reads the normalised pixels; got '
      f'{spec.name}, where {path!r} reads something else; use mlp'
    )
  return order


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


def _lies(site, leaf, shape) -> bool:
  """Returns whether a parameter has giajax's layout."""
  if leaf == 'kernel':
    return site.layout is None
  return leaf == 'value' or shape.ndim == 1


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
