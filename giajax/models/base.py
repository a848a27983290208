"""Net: a model as pure functions, and how to make one.

Attacks never import flax: they see `init`, `apply` and, where the network can
tell its layer inputs, `probe`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax import registry
from giajax import trees
from giajax import types
from giajax.models import layers
from giajax.ops import moments

# Mean and standard deviation of RGB in [0, 1]; 'none' leaves [0, 1] as it is.
NORMALISATIONS = {
  'none': ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
  'half': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
  'cifar10': ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
  'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


# The attribute of a network's module that stands between its normalisation and
# its first layer, where somebody put one there.
FRONT = 'front'


class Spec(NamedTuple):
  """The static facts about a network."""

  name: str
  image_shape: tuple[int, int, int]  # H, W, C
  num_classes: int
  mean: tuple[float, ...]  # of the normalisation inside, per channel
  std: tuple[float, ...]


def make_spec(
  name: str,
  image_shape: tuple[int, int, int],
  num_classes: int,
  normalisation: str,
) -> Spec:
  """Returns the static facts of a network.

  Args:
    name: of the network.
    image_shape: (H, W, C).
    num_classes: size of the last layer.
    normalisation: a name in `NORMALISATIONS`. Images without three channels
      take the average over the table's in each of theirs.

  Raises:
    ValueError: a size below 1, or an unknown normalisation.
  """
  if len(image_shape) != 3 or min(image_shape) < 1 or num_classes < 1:
    raise ValueError(
      'Expected image_shape=(H, W, C) and num_classes, all at least 1; got '
      f'image_shape={image_shape}, num_classes={num_classes}; correct them'
    )
  table = registry.lookup(NORMALISATIONS, normalisation, 'normalisation')
  channels = image_shape[2]
  mean, std = (
    values if channels == 3 else (round(sum(values) / 3, 4),) * channels
    for values in table
  )
  return Spec(name, tuple(image_shape), num_classes, mean, std)


def is_small(image_shape: tuple[int, int, int]) -> bool:
  """Says whether networks take their CIFAR form unless told otherwise.

  Args:
    image_shape: (H, W, C); up to 64 pixels on a side are small.
  """
  return min(image_shape[:2]) <= 64


def image_form(
  image_shape: tuple[int, int, int], form: str | None, option: str = 'stem'
) -> str:
  """Returns 'cifar' or 'imagenet', by image size where not given.

  Args:
    image_shape: (H, W, C); small ones are 'cifar'.
    form: what the user chose, or None.
    option: what the user calls it.

  Raises:
    ValueError: another form.
  """
  form = form or ('cifar' if is_small(image_shape) else 'imagenet')
  if form not in ('cifar', 'imagenet'):
    raise ValueError(
      f"Expected {option} 'cifar' or 'imagenet'; got {option}={form!r}; use "
      'one of them'
    )
  return form


def require_size(image_shape: tuple[int, int, int], least: int) -> None:
  """Raises a ValueError for images below `least` pixels on a side."""
  if min(image_shape[:2]) < least:
    raise ValueError(
      f'Expected images of at least {least}x{least} pixels; got '
      f'image_shape={image_shape}; use larger images or the CIFAR form'
    )


def scaled(channels: int, width: float) -> int:
  """Returns `channels * width`, rounded.

  Raises:
    ValueError: that is no channel.
  """
  out = round(channels * width)
  if out < 1:
    raise ValueError(
      f'Expected a width factor that leaves a channel of {channels}; got '
      f'width={width}; use 1 for the published width'
    )
  return out


class Net(NamedTuple):
  """A network as pure functions of its variables.

  Attributes:
    init: `(key) -> Variables`; the key is consumed.
    apply: `(variables, x, *, train=False, taps=(), key=None) -> Output` for
      images x [B, H, W, C] in [0, 1]; the normalisation is inside. A training
      pass of a network with dropout needs a key, which is consumed.
    probe: `(variables, x, offsets, *, train=False, taps=(), key=None) ->
      (Output, sites, outputs)`, the same pass with `offsets` added to the
      outputs of the layers with parameters (None for none), or None where the
      network cannot tell its layers.
    spec: static facts.
    edit: `(change) -> Net`, the network after `change(module, rngs)` of its
      flax.nnx module, or None where there is no such module. The change may
      set `module.front`, which then maps normalised images to what the first
      layer reads.
    momenta: of the BatchNorm layers, by path, or None where the network cannot
      tell them.
  """

  init: Callable[[types.Array], types.Variables]
  apply: Callable[..., types.Output]
  probe: Callable[..., Any] | None
  spec: Spec
  edit: Callable[..., Any] | None = None
  momenta: Mapping[str, float] | None = None


def from_nnx(
  make: Callable[[nnx.Rngs], nnx.Module],
  spec: Spec,
  lowering: str = 'auto',
) -> Net:
  """Returns the Net of a flax.nnx module made of `layers`.

  Args:
    make: `(rngs) -> module` that maps normalised images to logits.
    spec: static facts; `mean` and `std` normalise the images.
    lowering: name of the convolution lowering.
  """
  abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
  graphdef, params, stats = nnx.split(abstract, nnx.Param, nnx.BatchStat)
  pack_params, unpack_params = _packing(params)
  pack_stats, unpack_stats = _packing(stats)

  # Not compiled as a whole: XLA takes seconds for a draw a parameter.
  def init(key: types.Array) -> types.Variables:
    _, params, stats = nnx.split(
      make(nnx.Rngs(params=key)), nnx.Param, nnx.BatchStat
    )
    return types.Variables(pack_params(params), pack_stats(stats))

  def run(variables, x, context):
    model = nnx.merge(
      graphdef,
      unpack_params(whole(variables)),
      unpack_stats(variables.stats),
      copy=True,
    )
    layers.bind(model, context)
    context.frozen = frozen_layers(variables)
    x = normalise(x, spec)
    front = getattr(model, FRONT, None)
    logits = model(x if front is None else front(x))
    missing = set(context.taps) - set(context.tapped)
    if missing:
      raise ValueError(
        f'Expected taps that name a layer of {spec.name}; got '
        f'taps={sorted(missing)}; use a layer path or path.input'
      )
    flat = trees.named_leaves(variables.stats)
    fresh = {
      f'{path}.{name}': value
      for path, values in context.stats.items()
      for name, value in values.items()
    }
    stats = trees.nested({**flat, **fresh})
    return types.Output(logits, stats, context.tapped, context.penalty)

  def apply(variables, x, *, train=False, taps=(), key=None):
    context = layers.Context(train, lowering, tuple(taps), key=key)
    return run(variables, x, context)

  def probe(variables, x, offsets, *, train=False, taps=(), key=None):
    context = layers.Context(train, lowering, tuple(taps), offsets, key)
    output = run(variables, x, context)
    return output, context.sites, context.outputs

  def edit(change):
    def edited(rngs):
      module = make(rngs)
      change(module, rngs)
      return module

    return from_nnx(edited, spec, lowering)

  momenta = {
    '.'.join(map(str, path)): layer.momentum
    for path, layer in nnx.iter_modules(abstract)
    if isinstance(layer, layers.BatchNorm)
  }
  return Net(init, apply, probe, spec, edit, momenta)


def from_linen(module: Any, spec: Spec, **init_kwargs: Any) -> Net:
  """Returns the Net of a flax.linen module.

  Args:
    module: maps normalised images [B, H, W, C] to logits; if it keeps
      'batch_stats', its `__call__` takes `train`.
    spec: static facts.
    **init_kwargs: passed to `module.init` and `module.apply`, as in
      `train=False`; `train` is overridden by the pass.

  Raises:
    ValueError: the module keeps 'batch_stats' but `train` is no keyword, so
      that a training pass could not be told from an inference pass; or it
      keeps further collections.
  """

  def init(key):
    x = jnp.zeros((1, *spec.image_shape))
    raw = module.init(key, x, **init_kwargs)
    return types.Variables(raw['params'], raw.get('batch_stats', {}))

  def apply(variables, x, *, train=False, taps=(), key=None):
    _no_taps(taps, spec)
    kwargs = dict(init_kwargs)
    if 'train' in kwargs:
      kwargs['train'] = train
    if train and key is not None:
      kwargs['rngs'] = {'dropout': key}
    raw = {'params': whole(variables)}
    if variables.stats:
      raw['batch_stats'] = variables.stats
    out, state = module.apply(
      raw, normalise(x, spec), mutable=['batch_stats'], **kwargs
    )
    return types.Output(out, state.get('batch_stats', variables.stats), {})

  shapes = jax.eval_shape(
    lambda key: module.init(
      key, jnp.zeros((1, *spec.image_shape)), **init_kwargs
    ),
    jax.random.key(0),
  )
  if not set(shapes) <= {'params', 'batch_stats'}:
    raise ValueError(
      f'Expected a module with params and batch_stats; got {sorted(shapes)} in '
      f'{spec.name}; bring it by from_callable'
    )
  if 'batch_stats' in shapes and 'train' not in init_kwargs:
    raise ValueError(
      f'Expected the keyword train for a module with batch_stats; got '
      f'{sorted(init_kwargs)} for {spec.name}; pass train=False'
    )
  return Net(init, apply, None, spec)


def from_callable(
  init: Callable[[types.Array], types.Tree],
  apply: Callable[[types.Tree, types.Array], types.Array],
  spec: Spec,
) -> Net:
  """Returns the Net of two plain functions without running statistics.

  Args:
    init: `(key) -> params`.
    apply: `(params, x) -> logits` on normalised images.
    spec: static facts.
  """

  def pure(variables, x, *, train=False, taps=(), key=None):
    del train, key
    _no_taps(taps, spec)
    out = apply(whole(variables), normalise(x, spec))
    return types.Output(out, variables.stats, {})

  return Net(lambda key: types.Variables(init(key), {}), pure, None, spec)


def normalise(x: types.Array, spec: Spec) -> types.Array:
  """Maps images [..., C] in [0, 1] to the network's input space."""
  return (x - jnp.asarray(spec.mean)) / jnp.asarray(spec.std)


def whole(variables: types.Variables) -> types.Tree:
  """Returns all parameters, trained or not, as one tree."""
  if not variables.frozen:
    return variables.params
  parts = (variables.params, variables.frozen)
  merged = {k: v for part in parts for k, v in trees.named_leaves(part).items()}
  return trees.nested(merged)


def count(variables: types.Variables) -> int:
  """Returns the number of trained parameters."""
  return sum(int(np.prod(p.shape)) for p in jax.tree.leaves(variables.params))


def gradient_moments(
  net: Net,
  loss_fn: Callable[[types.Output], types.Array],
  variables: types.Variables,
  x: types.Array,
  target: types.Tree,
  *,
  train: bool = False,
  taps: Sequence[str] = (),
  key: types.Array | None = None,
) -> tuple[moments.Moments, types.Output]:
  """Returns the moments of the gradient of a loss to all parameters.

  Args:
    net: a Net with a `probe`.
    loss_fn: `(output) -> [] loss`.
    variables: of the network.
    x: [B, H, W, C] images in [0, 1].
    target: like `variables.params`, the gradient to compare with.
    train: whether BatchNorm uses the batch's statistics and dropout drops.
    taps: activations wanted in the Output, as in `Net.apply`.
    key: of the pass's random draws; consumed.
  """
  pass_kwargs = {'train': train, 'taps': taps, 'key': key}
  shapes = jax.eval_shape(
    lambda: net.probe(variables, x, None, **pass_kwargs)[2]  # pyrefly: ignore
  )
  offsets = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  sites = {}

  def loss(offsets):
    output, found, _ = net.probe(  # pyrefly: ignore
      variables, x, offsets, **pass_kwargs
    )
    sites.update(found)
    inputs = {path: site.input for path, site in found.items()}
    return loss_fn(output), (output, inputs)

  cotangents, (output, inputs) = jax.grad(loss, has_aux=True)(offsets)
  by_layer: dict[str, dict[str, Any]] = {}
  for name, leaf in trees.named_leaves(target).items():
    path, _, leaf_name = name.rpartition('.')
    by_layer.setdefault(path, {})[leaf_name] = leaf
  parts = {}
  for path, leaves in by_layer.items():
    site = sites[path]._replace(input=inputs[path])
    found = moments.site_parts(site, cotangents[path], leaves)
    parts |= {f'{path}.{leaf}': part for leaf, part in found.items()}
  return moments.of_parts(parts, target), output


def frozen_layers(variables: types.Variables) -> frozenset[str]:
  """Returns the paths of the layers of which nothing is trained."""
  return _layers(variables.frozen) - _layers(variables.params)


def _layers(params: types.Tree) -> frozenset[str]:
  """Returns the paths of the layers that have parameters in a tree."""
  return frozenset(n.rpartition('.')[0] for n in trees.named_leaves(params))


def _packing(state: Any) -> tuple[Callable, Callable]:
  """How an nnx state becomes a nested dict of dotted names, and back."""
  paths = [path for path, _ in nnx.to_flat_state(state)]
  names = ['.'.join(map(str, path)) for path in paths]

  def pack(state):
    flat = dict(nnx.to_flat_state(state))
    return trees.nested({n: flat[p][...] for n, p in zip(names, paths)})

  def unpack(tree: Mapping[str, Any]):
    flat = trees.named_leaves(tree)
    _, treedef = jax.tree.flatten(state)
    return jax.tree.unflatten(treedef, [flat[name] for name in names])

  return pack, unpack


def _no_taps(taps: Sequence[str], spec: Spec) -> None:
  if taps:
    raise ValueError(
      f'Expected a network made of giajax layers for taps; got {spec.name} '
      f'with taps={list(taps)}; leave taps empty'
    )
