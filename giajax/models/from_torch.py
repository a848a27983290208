"""A Net of a torch module, which is exported once and computed in JAX.

`torch.export` writes down what the module does with one batch of images, and
`models.aten` does the same in JAX, where all of giajax can differentiate and
vectorise it. Parameters and running statistics are in giajax's own layout under
the names of `torch_names`, so that files and updates of the torch model are
read by `convert`, and closed forms find their layers.

A mode is exported for each size of batch when that is first asked for, exactly
for its shapes. An export takes about a second of one core for a ResNet-18, two
for a ResNet-50 and three for a Swin-T; `from_torch` itself makes two.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import convert
from giajax.models import layers
from giajax.models import torch_names
from giajax.models.aten import base as operators
from giajax.models.aten.parts import exports
from giajax.models.aten.parts import interpreter
from giajax.models.aten.parts import programs
from giajax.models.parts import modes

_BATCH = 2  # of the first exports: BatchNorm may see a single pixel of each
_BATCH_NORM = 'aten._native_batch_norm_legit_functional.default'
_EMBEDDING = 'aten.embedding.default'
_Entries = Mapping[str, torch_names.Entry]
# `(variables, x, context) -> (Output, the pass)`.
_Run = Callable[..., tuple[types.Output, operators.Pass]]


class _Facts(NamedTuple):
  """What one pass in each mode shows."""

  draws: bool  # a training pass depends on its key
  covered: bool  # each parameter has a site


def from_torch(
  module: Any,
  input_shape: tuple[int, int, int] | tuple[int] = (3, 32, 32),
  *,
  num_classes: int | None = None,
  normalisation: str = 'none',
  lowering: str = 'auto',
  name: str | None = None,
) -> base.Net:
  """Returns the Net of a torch module that reads images, or rows of a table.

  `net.init` returns the weights that the module had when this function was
  called. Neither weights nor mode of the module are changed, and later changes
  of it change nothing. All parameters are trained, whether torch would or not:
  freeze some by `models.subset`; `net.untrained` names those that require no
  gradient. A BatchNorm all of whose parameters are frozen
  keeps its running statistics.

  Buffers that a training pass moves are `stats`. Buffers of integers that only
  count are left out, and all others are constants of the network. A state dict
  may hold these, and is refused if they have other values.

  The network has a `probe` if each weight is read once, by a convolution, a
  linear layer or a normalisation, and each other parameter is one by itself,
  such as a token. Convolutions, linear layers and normalisations are taps.

  Args:
    module: a `torch.nn.Module` that maps float32 images [B, C, H, W], or rows
      [B, F] of a table, to logits [B, K], or to an array [B, K, ...] such as
      the logits of each pixel, which the Net returns as [B, ..., K]. It must do
      the same for all images of a shape. Its code is run: pass none that you do
      not trust.
    input_shape: (C, H, W), or (F,) for rows.
    num_classes: K; what the module returns if None.
    normalisation: a name in `base.NORMALISATIONS` of what the module expects
      its images to be normalised by; 'none' if it takes images in [0, 1].
    lowering: name of the convolution lowering.
    name: the name of the network; that of the module's class if None.

  Raises:
    ValueError: torch is missing; the module is none, or cannot be copied,
      exported, or run with this shape; it returns something else; it uses an
      operator that `aten.OPERATORS` lacks; its passes do not keep to their
      modes; its parameters are not float32, or shared under several names, or
      its names are parts of others. `apply` raises it for a training pass that
      draws random numbers and was given no key.
  """
  title = name or type(module).__name__
  shape = exports.checked_shape(input_shape)
  rows = len(shape) == 1
  channels, height, width = (*shape, 1, 1) if rows else shape
  base.make_spec(title, (height, width, channels), 1, normalisation)
  export = exports.Export(module, shape, title)
  classes = export.classes(_BATCH)
  if num_classes not in (None, classes):
    raise ValueError(
      f'Expected the number of logits of {title}, {classes}; got '
      f'num_classes={num_classes}; leave it out'
    )
  spec = base.make_spec(
    title, (height, width, channels), classes, normalisation
  )
  entries = _entries(export)
  run = _runner(export, entries, spec)
  _init(export, entries)(jax.random.key(0))  # names that are parts of others
  facts = _facts(run, _init(export, entries), spec)

  def apply(variables, x, *, train=False, taps=(), key=None):
    if train and facts.draws:
      modes.require_key(key, spec)
    context = layers.Context(train, lowering, tuple(taps), key=key)
    return run(variables, x, context)[0]

  def probe(variables, x, offsets, *, train=False, taps=(), key=None):
    if train and facts.draws:
      modes.require_key(key, spec)
    context = layers.Context(train, lowering, tuple(taps), offsets, key)
    output, _ = run(variables, x, context)
    return output, context.sites, context.outputs

  def original(variables, x, train):
    images = np.asarray(base.inputs(jnp.asarray(x), spec))
    images = images if rows else images.transpose(0, 3, 1, 2)
    state = convert.to_state_dict(variables)
    return np.moveaxis(export.logits(state, images, train), 1, -1)

  return base.Net(
    _init(export, entries),
    apply,
    probe if facts.covered else None,
    spec,
    momenta=_momenta(export, entries),
    constants=_still(export, entries),
    names=export.names,
    original=original,
    untrained=tuple(entries[name].name for name in export.untrained),
  )


def _entries(export: exports.Export) -> dict[str, torch_names.Entry]:
  """Returns where parameters and running statistics go, by torch's names.

  Raises:
    ValueError: an inference pass moves running statistics, or one depends on
      a counter.
  """
  both = [export.program(train, _BATCH) for train in (False, True)]
  if both[0].moved:
    raise ValueError(
      f'Expected passes that keep to their mode; got {export.title}, which '
      f'moves {sorted(both[0].moved)[0]!r} in an inference pass; move it in '
      'training passes only'
    )
  for program in both:
    counted = {*program.counters} & {*program.buffers.values()}
    if counted:
      raise ValueError(
        f'Expected passes that depend on no counter; got {export.title}, which '
        f'reads {sorted(counted)[0]!r}; keep it as a float32 buffer'
      )
  tables = {
    program.parameters.get(step.args[0].name)
    for program in both
    for step in program.steps
    if step.target == _EMBEDDING
  }
  tensors = export.tensors
  found = {
    name: torch_names.place(name, array.shape, 'params', rows=name in tables)
    for name, array in tensors.parameters.items()
  }
  for name in both[1].moved:
    shape = tensors.buffers[name].shape
    found[name] = torch_names.place(name, shape, 'stats')
  return found


def _init(
  export: exports.Export, entries: _Entries
) -> Callable[[types.Array], types.Variables]:
  arrays = {**export.tensors.buffers, **export.tensors.parameters}

  def init(key: types.Array) -> types.Variables:
    del key
    leaves: dict[str, dict[str, types.Array]] = {'params': {}, 'stats': {}}
    for name, entry in entries.items():
      ours = arrays[name].transpose(np.argsort(entry.axes))
      leaves[entry.section][entry.name] = jnp.array(ours)
    return convert.variables_of(leaves)

  return init


def _runner(export: exports.Export, entries: _Entries, spec: base.Spec) -> _Run:
  def run(variables, x, context):
    images = base.inputs(x, spec)
    if x.ndim != 4:
      raise ValueError(
        f'Expected images [B, H, W, C]; got shape={x.shape}; add a batch axis'
      )
    context.frozen = base.frozen_layers(variables)
    stats = trees.named_leaves(variables.stats)
    leaves = {**trees.named_leaves(base.whole(variables)), **stats}
    program = export.program(context.train, len(x))
    still = _constants(export, program, entries)
    logits, moved, passed = interpreter.evaluate(
      still, entries, leaves, images, context
    )
    missing = set(context.taps) - set(context.tapped)
    if missing:
      raise ValueError(
        f'Expected taps that name a layer of {spec.name}; got '
        f'taps={sorted(missing)}; use a layer path or path.input'
      )
    after = trees.nested({**stats, **moved})
    out = jnp.moveaxis(logits, 1, -1)
    return types.Output(out, after, context.tapped), passed

  return run


def _constants(
  export: exports.Export, program: programs.Program, entries: _Entries
) -> programs.Program:
  """Returns a program where buffers that nothing moves are constants."""
  still = {
    name: export.tensors.buffers[target]
    for name, target in program.buffers.items()
    if target not in entries
  }
  return program._replace(
    constants={**program.constants, **still},
    buffers={n: t for n, t in program.buffers.items() if n not in still},
  )


def _still(export: exports.Export, entries: _Entries) -> dict[str, np.ndarray]:
  """Returns what a state dict holds besides variables and counters."""
  moved = {*entries, *export.program(True, _BATCH).counters}
  saved = export.tensors.saved
  return {name: array for name, array in saved.items() if name not in moved}


def _facts(run: _Run, init: Any, spec: base.Spec) -> _Facts:
  """Traces a pass in each mode.

  Raises:
    ValueError: an inference pass draws random numbers.
  """
  variables = jax.eval_shape(init, jax.random.key(0))
  images = jax.ShapeDtypeStruct((_BATCH, *spec.image_shape), jnp.float32)
  drawn, covered = [], True

  def trace(train):
    def visit(variables, x, key):
      _, passed = run(variables, x, layers.Context(train, key=key))
      passes.append(passed)

    passes: list[operators.Pass] = []
    jax.eval_shape(visit, variables, images, jax.random.key(0))
    return passes[0]

  for train in (False, True):
    passed = trace(train)
    drawn.append(passed.drawn)
    names = trees.named_leaves(variables.params)
    covered &= all(passed.read[n] == passed.covered[n] == 1 for n in names)
  if drawn[0]:
    raise ValueError(
      f'Expected a module whose layers listen to its mode; got {spec.name}, '
      'which draws random numbers in an inference pass; draw in training only'
    )
  return _Facts(drawn[1], covered)


def _momenta(export: exports.Export, entries: _Entries) -> dict[str, float]:
  """Returns the momenta of BatchNorm layers, by path."""
  program = export.program(True, _BATCH)
  found = {}
  for step in program.steps:
    if step.target == _BATCH_NORM:
      mean, momentum = step.args[3], step.args[6]
      target = program.buffers.get(mean.name)
      if target is not None:
        found[entries[target].name.rpartition('.')[0]] = momentum
  return found
