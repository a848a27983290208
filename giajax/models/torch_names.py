"""Where the tensors of a torch state dict go, by name and number of dimensions.

  torch                        giajax
  x.weight [P, C, kh, kw]      params x.kernel [kh, kw, C, P]
  x.weight [P, C]              params x.kernel [C, P]
  x.weight [C]                 params x.scale
  x.weight [K, C] (embedding)  params x.table
  x.bias                       params x.bias
  x.running_mean               stats x.mean
  x.running_var                stats x.var
  x.u0 [1, P] (spectral norm)  stats x.u0
  x        (any shape)         params x.value
  x.in_proj_weight, _bias      those of a linear layer x.in_proj
  x.num_batches_tracked        none, nor have tables that depend on shapes only

The kernel of a transposed convolution is that of the convolution it transposes,
[kh, kw, P, C], and torch's [C, P, kh, kw], so that the first rule holds for it.
A linear layer after a flattened image needs no permutation, because
`layers.flatten` keeps torch's order, channels first.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax

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
  ('params', 'table', 2): ('weight', (0, 1)),
  ('params', 'bias', 1): ('bias', (0,)),
  ('stats', 'mean', 1): ('running_mean', (0,)),
  ('stats', 'var', 1): ('running_var', (0,)),
  ('stats', 'u0', 2): ('u0', (0, 1)),
}
# Buffers that are constants of the architecture, or counters.
_CONSTANTS = frozenset(
  ('num_batches_tracked', 'relative_coords_table', 'relative_position_index')
)
# Layers whose leaves torch keeps in the module above, joined by '_'.
_FUSED = 'in_proj'


class Entry(NamedTuple):
  """Where a tensor of a state dict goes."""

  section: str  # a field of Variables
  name: str  # dotted, within the section
  axes: tuple[int, ...]  # axes of ours, in torch's order
  shape: tuple[int, ...]  # torch's


def of_net(net: base.Initialised) -> dict[str, Entry]:
  """Returns the entries of a network's variables, by torch's name."""
  return of_variables(jax.eval_shape(net.init, jax.random.key(0)))


def of_variables(variables: types.Variables) -> dict[str, Entry]:
  """Returns the entries of all leaves, by torch's name.

  Args:
    variables: the variables of a network made of `layers`; shapes suffice.

  Raises:
    ValueError: a leaf whose name or number of dimensions no rule covers.
  """
  entries = {}
  for section in types.Variables._fields:
    kind = 'stats' if section == 'stats' else 'params'
    for name, leaf in trees.named_leaves(getattr(variables, section)).items():
      path, _, last = name.rpartition('.')
      if last == 'value':
        axes = tuple(range(len(leaf.shape)))
        entries[path] = Entry(section, name, axes, tuple(leaf.shape))
        continue
      rule = _RULES.get((kind, last, len(leaf.shape)))
      if rule is None:
        names = sorted({f'{s} {n}' for s, n, _ in _RULES})
        raise ValueError(
          f'Expected leaves called {", ".join(names)}; got {section} {name} '
          f'of shape {tuple(leaf.shape)}; convert this network by hand'
        )
      torch_last, axes = rule
      shape = tuple(leaf.shape[a] for a in axes)
      entries[_joined(path, torch_last)] = Entry(section, name, axes, shape)
  return entries


def guess(name: str, shape: tuple[int, ...]) -> Entry:
  """Returns where a tensor of an unknown layer goes, by torch's conventions.

  Args:
    name: torch's name.
    shape: torch's shape of the tensor.
  """
  return _by_rule(name, shape, _RULES) or _whole('params', name, shape)


def place(
  name: str, shape: tuple[int, ...], section: str, *, rows: bool = False
) -> Entry:
  """Returns where a tensor of a module goes, so that its name is found again.

  Args:
    name: torch's name.
    shape: torch's shape of the tensor.
    section: 'params' or 'stats'.
    rows: whether it is a table whose rows are looked up.
  """
  rules = {
    rule: torch
    for rule, torch in _RULES.items()
    if rule[0] == section and rows == (rule[1] == 'table')
  }
  entry = _by_rule(name, shape, rules)
  if entry is None:
    return _whole(section, name, shape)
  path, _, leaf = entry.name.rpartition('.')
  again = _joined(path, _RULES[section, leaf, len(shape)][0])
  return entry if again == name else _whole(section, name, shape)


def _joined(path: str, torch_last: str) -> str:
  """Returns torch's name of a tensor of the layer at a path."""
  dot = '_' if path.rpartition('.')[2] == _FUSED else '.'
  return f'{path}{dot}{torch_last}' if path else torch_last


def _by_rule(name, shape, rules) -> Entry | None:
  path, _, last = name.rpartition('.')
  fused, found, own = last.rpartition('_')
  if found and fused == _FUSED:
    path, last = f'{path}.{fused}'.removeprefix('.'), own
  for (kind, ours, dimensions), (torch_last, axes) in rules.items():
    if torch_last == last and dimensions == len(shape):
      return Entry(kind, f'{path}.{ours}' if path else ours, axes, shape)
  return None


def _whole(section, name, shape) -> Entry:
  return Entry(section, f'{name}.value', tuple(range(len(shape))), shape)


def is_constant(name: str, layers: Collection[str] | None = None) -> bool:
  """Returns whether a tensor follows from the architecture, or is a counter.

  Args:
    name: torch's name.
    layers: the layers that may keep such tensors; any layer if None.
  """
  layer, _, last = name.rpartition('.')
  return last in _CONSTANTS and (layers is None or layer in layers)


def renamed(
  mapping: Mapping[str, Any], rename: Mapping[str, str]
) -> dict[str, Any]:
  """Returns the mapping with the longest matching prefixes replaced.

  Args:
    mapping: a mapping by dotted name.
    rename: leading parts of names, and what replaces them; '' drops a part.

  Raises:
    ValueError: two names become one, or a prefix begins no name.
  """
  out, used = {}, set()
  for name, value in mapping.items():
    prefixes = [p for p in rename if name == p or name.startswith(f'{p}.')]
    new = name
    if prefixes:
      prefix = max(prefixes, key=len)
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
