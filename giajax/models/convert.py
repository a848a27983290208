"""Weights of torch models: state dicts in files, and back.

One rule maps names and layouts:

  torch                        giajax
  x.weight [P, C, kh, kw]      params x.kernel [kh, kw, C, P]
  x.weight [P, C]              params x.kernel [C, P]
  x.weight [C]                 params x.scale
  x.bias                       params x.bias
  x.running_mean               stats x.mean
  x.running_var                stats x.var
  x        (any shape)         params x.value
  x.in_proj_weight, _bias      those of a linear layer x.in_proj
  x.num_batches_tracked        ignored, as are tables that depend on shapes only

A linear layer behind a flattened image needs no permutation, because
`layers.flatten` keeps torch's order, channels first. A torch model is saved by

  np.savez(path, **{k: v.cpu().numpy() for k, v in model.state_dict().items()})

and takes weights back by `load_state_dict` on tensors of `to_state_dict`; or by
safetensors. `python -m giajax.models.convert` is `giajax convert`, see there.
Names other than torchvision's, such as timm's, are translated by `rename`.
"""

from collections.abc import Callable, Collection, Mapping
import math
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import archives
from giajax import trees
from giajax import types
from giajax.models import base

# (section, leaf, dimensions) -> torch's leaf, and the axes of ours that make
# torch's layout.
_RULES = {
  ('params', 'kernel', 4): ('weight', (3, 2, 0, 1)),
  ('params', 'kernel', 2): ('weight', (1, 0)),
  ('params', 'scale', 1): ('weight', (0,)),
  ('params', 'bias', 1): ('bias', (0,)),
  ('stats', 'mean', 1): ('running_mean', (0,)),
  ('stats', 'var', 1): ('running_var', (0,)),
}
# Buffers that are constants of the architecture or count.
_IGNORED = frozenset(
  ('num_batches_tracked', 'relative_coords_table', 'relative_position_index')
)
# Layers whose leaves torch keeps in the module above, joined by '_'.
_FUSED = 'in_proj'
_ADAPTER = '.lora_'


class _Entry(NamedTuple):
  """Where a tensor of a state dict goes."""

  section: str  # a field of Variables
  name: str  # dotted, within the section
  axes: tuple[int, ...]  # of ours, in torch's order
  shape: tuple[int, ...]  # torch's


def load(
  path: str | os.PathLike,
  net: base.Net,
  *,
  prefix: str = '',
  rename: Mapping[str, str] | None = None,
  adapters: types.Variables | None = None,
  reader: Callable[..., dict[str, np.ndarray]] = archives.read,
) -> types.Variables:
  """Returns the variables of a network, read from a state dict in a file.

  Args:
    path: the file, npz or .safetensors. It is never unpickled.
    net: a network made of `layers`.
    prefix: read only the names under it, e.g. 'state' for 'state.fc.bias'.
    rename: leading parts of the file's names (behind `prefix`) and what they
      are called in `net`, e.g. `{'layers.0': 'layer1', 'linear': 'fc'}`. The
      longest that matches is applied; '' drops a part.
    adapters: variables of `net` whose low-rank adapters are taken where the
      file has none, as weights from before fine-tuning have not.
    reader: `(path) -> arrays by name`.

  Raises:
    ValueError: the file is missing, damaged, pickled or of another kind, or its
      arrays are not those of `net`; the message lists missing, surplus,
      misshapen and non-finite ones together, in torch's names and layout.
  """
  arrays = archives.under(reader(path), prefix, path)
  if adapters is not None:
    fresh = to_state_dict(adapters)
    arrays = {k: v for k, v in fresh.items() if _ADAPTER in k} | arrays
  return _variables(arrays, net, rename, f'path={str(path)!r}')


def from_state_dict(
  mapping: Mapping[str, Any],
  net: base.Net,
  *,
  rename: Mapping[str, str] | None = None,
) -> types.Variables:
  """Returns the variables of a network from a torch-style state dict.

  Args:
    mapping: arrays by torch's names, in torch's layout.
    net: a network made of `layers`.
    rename: as in `load`.

  Raises:
    ValueError: the arrays are not those of `net`, see `load`.
  """
  return _variables(mapping, net, rename, f'{len(mapping)} arrays')


def as_found(mapping: Mapping[str, Any], net: base.Net) -> types.Variables:
  """Returns the variables that a state dict holds, be they `net`'s or not.

  What `net` has is where `net` has it, whatever its shape; the rest follows
  from its own name and shape. Nothing is added where something is missing.

  Args:
    mapping: arrays by torch's names, in torch's layout.
    net: a network made of `layers`.

  Raises:
    ValueError: arrays that are not float32 or not finite, variances below 0,
      names that are parts of others, or two of the same parameter.
  """
  table = _table(net)
  layers = {name.rpartition('.')[0] for name in table}
  arrays = {
    name: np.asarray(value)
    for name, value in mapping.items()
    if not _is_constant(name, layers)
  }
  check_numbers(arrays, 'running_var')
  leaves: dict[str, dict[str, types.Array]] = {
    section: {} for section in types.Variables._fields
  }
  for name, array in arrays.items():
    entry = table.get(name)
    if entry is None or len(entry.axes) != array.ndim:
      entry = _guessed(name, array.shape)
    if entry.name in leaves[entry.section]:
      raise ValueError(
        f'Expected one array of each parameter; got {name!r} and another of '
        f'{entry.name}; do not train them'
      )
    ours = array.transpose(np.argsort(entry.axes))
    leaves[entry.section][entry.name] = jnp.asarray(ours)
  return variables_of(leaves)


def _is_constant(name: str, layers: Collection[str]) -> bool:
  """Whether an array of one of the layers is not a parameter."""
  layer, _, last = name.rpartition('.')
  return last in _IGNORED and layer in layers


def variables_of(
  leaves: Mapping[str, Mapping[str, Any]],
) -> types.Variables:
  """Returns Variables of the leaves of its fields, by dotted name.

  Raises:
    ValueError: names that are parts of others.
  """
  for flat in leaves.values():
    parents = {n[:i] for n in flat for i, c in enumerate(n) if c == '.'}
    both = sorted(parents & flat.keys())
    if both:
      raise ValueError(
        'Expected names of arrays that are no parts of others; got '
        f'{archives.listed(both)}; rename them'
      )
  params, stats, frozen = (
    trees.nested(leaves.get(section, {})) for section in types.Variables._fields
  )
  return types.Variables(params, stats, frozen or ())


def check_numbers(arrays: Mapping[str, Any], variance: str) -> None:
  """Checks that a model came in the numbers that it is trained in.

  Args:
    arrays: by name.
    variance: the last part of the names of running variances.

  Raises:
    ValueError: no arrays, or some that are not float32 or not finite, or
      variances below 0.
  """
  kinds = {n: a.dtype for n, a in arrays.items() if a.dtype != np.float32}
  numbers = {} if kinds else arrays  # strings, say, cannot be compared
  bad = [n for n, a in numbers.items() if not np.isfinite(a).all()]
  spread = [n for n in numbers if n.rpartition('.')[2] == variance]
  negative = [n for n in spread if (numbers[n] < 0).any()]
  troubles = {
    'no arrays': [] if arrays else ['an empty file'],
    'another dtype': [f'{n} {kind}' for n, kind in kinds.items()],
    'not finite': bad,
    'variances below 0': negative,
  }
  found = [f'{k}: {archives.listed(v)}' for k, v in troubles.items() if v]
  if found:
    raise ValueError(
      f'Expected finite float32 weights; got {"; ".join(found)}; do not train '
      'them'
    )


def params_from_state_dict(
  mapping: Mapping[str, Any],
  net: base.Net,
  *,
  rename: Mapping[str, str] | None = None,
) -> types.Tree:
  """Returns a tree like a network's parameters: a torch client's update.

  Args:
    mapping: gradients or weight differences by torch's parameter names, in
      torch's layout; no buffers.
    net: a network made of `layers`.
    rename: as in `load`.

  Raises:
    ValueError: the arrays are not those of `net`, see `load`.
  """
  table = {k: e for k, e in _table(net).items() if e.section == 'params'}
  where = f'{len(mapping)} arrays'
  return _assemble(mapping, table, net.spec, rename, where)['params']


def to_state_dict(variables: types.Variables) -> dict[str, np.ndarray]:
  """Returns the torch-style state dict of variables, for export.

  Args:
    variables: of a network made of `layers`.

  Raises:
    ValueError: a leaf whose name or number of dimensions no rule covers.
  """
  flat = {
    section: trees.named_leaves(getattr(variables, section))
    for section in types.Variables._fields
  }
  return {
    torch_name: np.asarray(flat[e.section][e.name]).transpose(e.axes)
    for torch_name, e in _entries(variables).items()
  }


def _variables(mapping, net, rename, where) -> types.Variables:
  out = _assemble(mapping, _table(net), net.spec, rename, where)
  return types.Variables(out['params'], out['stats'], out['frozen'] or ())


def _table(net: base.Net) -> dict[str, _Entry]:
  return _entries(jax.eval_shape(net.init, jax.random.key(0)))


def _entries(variables: types.Variables) -> dict[str, _Entry]:
  """Returns torch's names of all leaves, and where they live here."""
  out = {}
  for section in types.Variables._fields:
    kind = 'stats' if section == 'stats' else 'params'
    for name, leaf in trees.named_leaves(getattr(variables, section)).items():
      path, _, last = name.rpartition('.')
      if last == 'value':
        axes = tuple(range(len(leaf.shape)))
        out[path] = _Entry(section, name, axes, tuple(leaf.shape))
        continue
      rule = _RULES.get((kind, last, len(leaf.shape)))
      if rule is None:
        known = sorted({f'{s} {n}' for s, n, _ in _RULES})
        raise ValueError(
          f'Expected leaves called {", ".join(known)}; got {section} {name} '
          f'of shape {tuple(leaf.shape)}; convert this network by hand'
        )
      torch_last, axes = rule
      shape = tuple(leaf.shape[a] for a in axes)
      dot = '_' if path.rpartition('.')[2] == _FUSED else '.'
      torch_name = f'{path}{dot}{torch_last}' if path else torch_last
      out[torch_name] = _Entry(section, name, axes, shape)
  return out


def _guessed(name: str, shape: tuple[int, ...]) -> _Entry:
  """Returns where a tensor of an unknown layer goes, by torch's conventions."""
  path, _, last = name.rpartition('.')
  for (kind, ours, dimensions), (torch_last, axes) in _RULES.items():
    if torch_last == last and dimensions == len(shape):
      return _Entry(kind, f'{path}.{ours}' if path else ours, axes, shape)
  return _Entry('params', f'{name}.value', tuple(range(len(shape))), shape)


def _assemble(
  mapping: Mapping[str, Any],
  table: Mapping[str, _Entry],
  spec: base.Spec,
  rename: Mapping[str, str] | None,
  where: str,
) -> dict[str, types.Tree]:
  """Returns the fields of the Variables of a checked state dict."""
  arrays = {
    name: np.asarray(value)
    for name, value in _renamed(mapping, rename or {}).items()
    if name.rpartition('.')[2] not in _IGNORED
  }
  _check(arrays, table, spec, where)
  leaves: dict[str, dict[str, types.Array]] = {
    section: {} for section in types.Variables._fields
  }
  for name, entry in table.items():
    ours = arrays[name].transpose(np.argsort(entry.axes))
    leaves[entry.section][entry.name] = jnp.asarray(ours, jnp.float32)
  return {section: trees.nested(flat) for section, flat in leaves.items()}


def _check(arrays, table, spec, where):
  """Raises one error that lists all that is wrong with a state dict."""
  common = [name for name in table if name in arrays]
  wrong = {
    name: (arrays[name].shape, table[name].shape)
    for name in common
    if arrays[name].shape != table[name].shape
  }
  kinds = {name: arrays[name].dtype for name in common}
  floating = [n for n in common if jnp.issubdtype(kinds[n], jnp.floating)]
  troubles = {
    'missing': [name for name in table if name not in arrays],
    'surplus': [name for name in arrays if name not in table],
    'misshapen': [f'{n} {got} for {want}' for n, (got, want) in wrong.items()],
    'not floating': [f'{n} {kinds[n]}' for n in common if n not in floating],
    'not finite': [n for n in floating if not np.isfinite(arrays[n]).all()],
  }
  troubles = {kind: names for kind, names in troubles.items() if names}
  if troubles:
    parts = [
      f'{kind}: {archives.listed(names)}' for kind, names in troubles.items()
    ]
    raise ValueError(
      f'Expected the {len(table)} tensors of {spec.name}; got {where} with '
      f'{"; ".join(parts)}; {_advice(set(troubles), wrong, spec)}'
    )


def _advice(kinds, wrong, spec):
  """Returns what to do about the troubles of a state dict."""
  if kinds == {'not finite'}:
    return 'use weights from before training diverged'
  if kinds == {'not floating'}:
    return 'save the arrays as float32'
  if kinds == {'misshapen'}:
    # Only the classifier's outputs differ?
    found = {got[:1] for got, _ in wrong.values()}
    rest = all(
      got[1:] == want[1:] and want[0] == spec.num_classes
      for got, want in wrong.values()
    )
    if rest and len(found) == 1:
      ((classes,),) = found
      return f'the classes differ: build it with num_classes={classes}'
  return 'choose the matching architecture and options, or rename prefixes'


def _renamed(mapping, rename):
  """Returns the mapping with the longest matching prefixes replaced."""
  out, used = {}, set()
  for name, value in mapping.items():
    found = [p for p in rename if name == p or name.startswith(f'{p}.')]
    new = name
    if found:
      prefix = max(found, key=len)
      used.add(prefix)
      new = (rename[prefix] + name[len(prefix) :]).removeprefix('.')
    if new in out:
      raise ValueError(
        f'Expected names that stay distinct; got rename={dict(rename)}, which '
        f'makes {new!r} twice; correct it'
      )
    out[new] = value
  idle = sorted(set(rename) - used)
  if idle:
    raise ValueError(
      'Expected every renamed prefix to begin a name; got rename of '
      f'{archives.listed(idle)} for {archives.listed(sorted(mapping))}; '
      'correct it'
    )
  return out


def convert_file(
  source: str | os.PathLike,
  out: str | os.PathLike,
  net: base.Net,
  *,
  prefix: str = '',
  rename: Mapping[str, str] | None = None,
) -> str:
  """Checks the weights in a file and writes those of an architecture.

  Args:
    source: path of an npz, .safetensors or .pth.
    out: path of the npz.
    net: the architecture.
    prefix: as in `load`.
    rename: as in `load`.

  Returns:
    What was written, in a line.

  Raises:
    ValueError: a state dict that is damaged or not that of the architecture;
      nothing is written then.
  """
  variables = load(
    source, net, prefix=prefix, rename=rename, reader=archives.read_any
  )
  arrays = to_state_dict(variables)
  archives.write(out, arrays)
  numbers = sum(math.prod(array.shape) for array in arrays.values())
  return f'{out}: {len(arrays)} tensors, {numbers:,} numbers of {net.spec.name}'
