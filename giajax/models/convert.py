"""Weights of torch models, read from state dicts in files, and written back.

One rule maps names and layouts, see `torch_names`. A torch model is saved by

  np.savez(path, **{k: v.cpu().numpy() for k, v in model.state_dict().items()})

or by safetensors, and takes weights back by `load_state_dict` on tensors of
`to_state_dict`. `giajax convert` checks a file and writes an npz. Names other
than torchvision's, such as timm's, are translated by `rename`.
"""

from collections.abc import Callable, Collection, Mapping
import math
import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from giajax import archives
from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import torch_names

_ADAPTER = '.lora_'


def load(
  path: str | os.PathLike,
  net: base.Initialised,
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
    rename: leading parts of the file's names (after `prefix`) and their names
      in `net`, e.g. `{'layers.0': 'layer1', 'linear': 'fc'}`. The longest that
      matches is applied; '' drops a part.
    adapters: variables of `net` whose low-rank adapters are used if the file
      has none, as is the case for weights from before fine-tuning.
    reader: `(path) -> arrays by name`.

  Raises:
    ValueError: the file is missing, damaged, pickled or of another kind, or its
      arrays are not those of `net`; the message lists missing, surplus,
      misshapen and non-finite ones together, in torch's names and layout.
  """
  arrays = archives.under(reader(path), prefix, path)
  if adapters is not None:
    arrays = with_adapters(arrays, adapters)
  return from_state_dict(
    arrays, net, rename=rename, source=f'path={str(path)!r}'
  )


def from_state_dict(
  mapping: Mapping[str, Any],
  net: base.Initialised,
  *,
  rename: Mapping[str, str] | None = None,
  source: str | None = None,
  sections: Collection[str] = types.Variables._fields,
) -> types.Variables:
  """Returns the variables of a network from a torch-style state dict.

  Args:
    mapping: arrays by torch's names, in torch's layout.
    net: a network made of `layers`.
    rename: as in `load`.
    source: the name of the mapping in errors; its size if None.
    sections: the fields of Variables that it has; the others stay empty.

  Raises:
    ValueError: the arrays are not those of `net`, see `load`, or its constants
      have other values.
  """
  table = {
    name: entry
    for name, entry in torch_names.of_net(net).items()
    if entry.section in sections
  }
  own = torch_names.renamed(mapping, rename or {})
  arrays = {
    name: np.asarray(value)
    for name, value in _without_constants(own, net).items()
    if not torch_names.is_constant(name)
  }
  _check(arrays, table, net.spec, source or f'{len(mapping)} arrays')
  leaves: dict[str, dict[str, types.Array]] = {
    section: {} for section in types.Variables._fields
  }
  for name, entry in table.items():
    ours = arrays[name].transpose(np.argsort(entry.axes))
    leaves[entry.section][entry.name] = jnp.asarray(ours, jnp.float32)
  return variables_of(leaves)


def with_adapters(
  arrays: Mapping[str, Any], variables: types.Variables
) -> dict[str, Any]:
  """Returns a state dict with the adapters of `variables` where it has none."""
  fresh = to_state_dict(variables)
  return {**{k: v for k, v in fresh.items() if _ADAPTER in k}, **arrays}


def as_found(
  mapping: Mapping[str, Any], net: base.Initialised
) -> types.Variables:
  """Returns the variables of a state dict, whether `net` has them or not.

  A tensor that `net` has goes where `net` has it, whatever its shape; the place
  of any other follows from its name and shape. Nothing is added if something is
  missing.

  Args:
    mapping: arrays by torch's names, in torch's layout.
    net: a network made of `layers`.

  Raises:
    ValueError: arrays are not float32 or not finite, variances are below 0,
      names are parts of other names, one parameter has two arrays, or a
      constant of the network has other values.
  """
  table = torch_names.of_net(net)
  layers = {name.rpartition('.')[0] for name in table}
  arrays = {
    name: np.asarray(value)
    for name, value in _without_constants(mapping, net).items()
    if not torch_names.is_constant(name, layers)
  }
  check_numbers(arrays, 'running_var')
  leaves: dict[str, dict[str, types.Array]] = {
    section: {} for section in types.Variables._fields
  }
  for name, array in arrays.items():
    entry = table.get(name)
    if entry is None or len(entry.axes) != array.ndim:
      entry = torch_names.guess(name, array.shape)
    if entry.name in leaves[entry.section]:
      raise ValueError(
        f'Expected one array of each parameter; got {name!r} and another of '
        f'{entry.name}; do not train them'
      )
    ours = array.transpose(np.argsort(entry.axes))
    leaves[entry.section][entry.name] = jnp.asarray(ours)
  return variables_of(leaves)


def _without_constants(
  mapping: Mapping[str, Any], net: base.Initialised
) -> dict[str, Any]:
  """Returns a state dict without the constants of a network.

  Raises:
    ValueError: the network was made with other constants.
  """
  constants = getattr(net, 'constants', None) or {}
  for name in constants.keys() & mapping.keys():
    found, own = np.asarray(mapping[name]), constants[name]
    if found.shape != own.shape or not np.allclose(found, own, 1e-5, 1e-8):
      raise ValueError(
        f'Expected the constants that {net.spec.name} was made with; got '
        f'{name!r} with other values; make it of a module that has these'
      )
  return {k: v for k, v in mapping.items() if k not in constants}


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
        'Expected names of arrays that are not parts of others; got '
        f'{archives.listed(both)}; rename them'
      )
  params, stats, frozen = (
    trees.nested(leaves.get(section, {})) for section in types.Variables._fields
  )
  return types.Variables(params, stats, frozen or ())


def check_numbers(arrays: Mapping[str, Any], variance: str) -> None:
  """Checks that the numbers of a model are finite and of the trained type.

  Args:
    arrays: the arrays, by name.
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
  lines = [f'{k}: {archives.listed(v)}' for k, v in troubles.items() if v]
  if lines:
    raise ValueError(
      f'Expected finite float32 weights; got {"; ".join(lines)}; do not train '
      'them'
    )


def to_state_dict(variables: types.Variables) -> dict[str, np.ndarray]:
  """Returns the torch-style state dict of variables, for export.

  Args:
    variables: the variables of a network made of `layers`.

  Raises:
    ValueError: a leaf whose name or number of dimensions no rule covers.
  """
  flat = {
    section: trees.named_leaves(getattr(variables, section))
    for section in types.Variables._fields
  }
  return {
    torch_name: np.asarray(flat[e.section][e.name]).transpose(e.axes)
    for torch_name, e in torch_names.of_variables(variables).items()
  }


def _check(arrays, table, spec, where):
  """Raises one error that lists everything that is wrong with a state dict."""
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
  """Returns advice on the problems of a state dict."""
  if kinds == {'not finite'}:
    return 'use weights from before training diverged'
  if kinds == {'not floating'}:
    return 'save the arrays as float32'
  if kinds == {'misshapen'}:
    # Only the classifier's outputs differ? DETR has one more, for nothing.
    outputs = {got[:1] for got, _ in wrong.values()}
    more = {want[0] - spec.num_classes for _, want in wrong.values()}
    rest = all(got[1:] == want[1:] for got, want in wrong.values())
    if rest and len(outputs) == 1 and more in ({0}, {1}):
      classes = outputs.pop()[0] - more.pop()
      return f'the classes differ: build it with num_classes={classes}'
  return 'choose the matching architecture and options, or rename prefixes'


def convert_file(
  source: str | os.PathLike,
  out: str | os.PathLike,
  net: base.Initialised,
  *,
  prefix: str = '',
  rename: Mapping[str, str] | None = None,
) -> str:
  """Checks the weights in a file and writes those of an architecture.

  Args:
    source: the path of an npz, .safetensors or .pth file.
    out: the path of the npz file.
    net: the architecture.
    prefix: as in `load`.
    rename: as in `load`.

  Returns:
    One line that says what was written.

  Raises:
    ValueError: the state dict is damaged or belongs to another architecture;
      nothing is written then.
  """
  variables = load(
    source, net, prefix=prefix, rename=rename, reader=archives.read_any
  )
  arrays = to_state_dict(variables)
  archives.write(out, arrays)
  numbers = sum(math.prod(array.shape) for array in arrays.values())
  return f'{out}: {len(arrays)} tensors, {numbers:,} numbers of {net.spec.name}'
