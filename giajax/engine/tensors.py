"""Files of tensors that went between a server and a client, in any form.

A file is an npz, a .safetensors file, a .pt or .pth of torch.save, or the
folder of an Orbax checkpoint. Tensors have the names of a torch state dict, or
none: a list of arrays in the order of the state dict, as Flower's clients send
it. Nothing is unpickled but tensors.
"""

from collections.abc import Collection, Mapping, Sequence
import pathlib
import re
from typing import NamedTuple

import numpy as np
import scipy.optimize

from giajax import archives
from giajax import capture
from giajax import paths
from giajax import trees
from giajax import types
from giajax.engine import checkpoint
from giajax.models import base as models
from giajax.models import convert
from giajax.models import torch_names

# Names of arrays that have none, as numpy and others give them.
_NUMBERED = re.compile(r'(?:arr_|array_|param_|tensor_)?0*(\d+)')
# What a key of the config names in a file of both, see `giajax.capture`.
_PARTS = {'weights.path': 'sent', 'source.received': 'received'}
# How much nearer the arrays are to others than to their own, if the order is
# wrong: the right order may not be the nearest by chance.
_NEARER = 0.5
_SAMPLED = 4096  # entries of a tensor by which its place is checked, about


class Tensors(NamedTuple):
  """What a file holds."""

  variables: types.Variables  # of the sections that it has
  sections: frozenset[str]  # fields of Variables
  notes: tuple[str, ...]  # sentences about what was left out or rounded


def read(
  path: str,
  net: models.Net,
  key: str,
  *,
  order: Sequence[str] | None = None,
  rename: Mapping[str, str] | None = None,
  adapters: types.Variables | None = None,
  partial: bool = False,
) -> Tensors:
  """Returns the variables in a file, float32.

  Args:
    path: the path.
    net: the network that they belong to.
    key: the key of the config that names the file, for messages.
    order: the names of the state dict in order, for tensors without names.
    rename: as for `convert.load`.
    adapters: as for `convert.load`.
    partial: whether running statistics and parameters that the client does not
      train may be missing.

  Raises:
    ValueError: no whole file of this network's tensors.
  """
  place = paths.expanded(path, key)
  if place.is_dir():
    return _of_checkpoint(place, net, key)
  arrays = _part(archives.read_any(place), key)
  numbered = _in_order(arrays)
  if numbered is not None:
    parameters = _parameters(net) if partial else ()
    arrays = _named(numbered, order, parameters, f'{key}={path!r}')
  if partial:  # a difference of constants is none
    arrays = {n: a for n, a in arrays.items() if n not in (net.constants or {})}
  kept = {n: a for n, a in arrays.items() if not _is_counter(n, a)}
  if adapters is not None:
    kept = convert.with_adapters(kept, adapters)
  sections = _sections(kept, net, rename or {}) if partial else None
  variables = convert.from_state_dict(
    kept,
    net,
    rename=rename,
    source=f'{key}={path!r}',
    sections=sections or types.Variables._fields,
  )
  notes = _notes(key, arrays, kept)
  fields = frozenset(sections or types.Variables._fields)
  return Tensors(trees.widened(variables), fields, notes)


def order_of(path: str, net: models.Net) -> tuple[str, ...] | None:
  """Returns the names of a state dict in order, None if nothing tells it.

  Args:
    path: a file of named tensors; only .safetensors files are sorted by name.
    net: the network, which may know the order itself.
  """
  if net.names is not None:
    return net.names
  place = pathlib.Path(path).expanduser()
  if not path or place.is_dir() or place.suffix == '.safetensors':
    return None
  arrays = _part(archives.read_any(place), 'weights.path')
  return None if _in_order(arrays) else tuple(arrays)


def check_order(
  received: types.Variables, sent: types.Variables, where: str
) -> None:
  """Raises ValueError for weights whose tensors are in the wrong places.

  A client changes each tensor a little. Where tensors of one shape are nearer
  to others' old values than to their own, on the whole, the order is wrong.

  Args:
    received: the weights that came back.
    sent: the weights that the client started from.
    where: what the message calls the file.
  """
  old, new = (trees.named_leaves(models.whole(v)) for v in (sent, received))
  shapes: dict[tuple[int, ...], list[str]] = {}
  for name, leaf in old.items():
    shapes.setdefault(np.shape(leaf), []).append(name)
  for names in shapes.values():
    rows, columns = (
      np.stack([_sampled(v[n]) for n in names]) for v in (new, old)
    )
    distance = np.linalg.norm(rows[:, None] - columns[None], axis=-1)
    _, nearest = scipy.optimize.linear_sum_assignment(distance)
    own, other = np.trace(distance), distance[range(len(names)), nearest].sum()
    if other < _NEARER * own:
      i = next(i for i, j in enumerate(nearest) if i != j)
      raise ValueError(
        f'Expected the tensors of {where} in the order of the state dict; got '
        f'{names[i]!r} as it was sent as {names[nearest[i]]!r}; send them in '
        'the order of state_dict(), or with their names'
      )


def _sampled(leaf: types.Array) -> np.ndarray:
  """Returns some entries of a tensor, the same of all of one shape."""
  flat = np.ravel(leaf)
  return flat[:: max(1, len(flat) // _SAMPLED)].astype(np.float64)


def _part(
  arrays: Mapping[str, np.ndarray], key: str
) -> Mapping[str, np.ndarray]:
  """Returns what a key of the config names in a capture, or all of a file."""
  return capture.part_of(arrays, _PARTS.get(key, '')) or arrays


def _in_order(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray] | None:
  """Returns the arrays of a list, None where they have names."""
  matches = [(_NUMBERED.fullmatch(name), name) for name in arrays]
  if not all(match for match, _ in matches):
    return None
  places = {int(match[1]): arrays[name] for match, name in matches if match}
  if sorted(places) != [*range(len(arrays))]:
    return None
  return [places[i] for i in range(len(arrays))]


def _parameters(net: models.Net) -> set[str]:
  """Returns the names of the parameters that the client trains."""
  table = torch_names.of_net(net)
  return {name for name, entry in table.items() if entry.section == 'params'}


def _named(
  arrays: Sequence[np.ndarray],
  order: Sequence[str] | None,
  parameters: Collection[str],
  where: str,
) -> dict[str, np.ndarray]:
  """Returns the arrays of a list by the names of a state dict."""
  if order is None:
    raise ValueError(
      f'Expected names for the {len(arrays)} arrays of {where}; got a list, '
      'and nothing that tells the order of its state dict; send an npz or a '
      '.pt with names, or name a network made by giajax.from_torch'
    )
  # Some send the state dict as it is, others without its counters, and
  # gradients are of parameters alone.
  for names in (
    order,
    [n for n in order if not torch_names.is_constant(n)],
    [n for n in order if n in parameters],
  ):
    if len(names) == len(arrays):
      return dict(zip(names, arrays))
  raise ValueError(
    f'Expected the {len(order)} arrays of the state dict in its order; got '
    f'{len(arrays)} in {where}; send all of them'
  )


def _is_counter(name: str, array: np.ndarray) -> bool:
  """Returns whether a tensor is a counter or an index, which nobody trains."""
  return torch_names.is_constant(name) or np.issubdtype(array.dtype, np.integer)


def _sections(
  arrays: Mapping[str, np.ndarray], net: models.Net, rename: Mapping[str, str]
) -> Collection[str]:
  """Returns the fields of Variables of which a file has any tensor."""
  table = torch_names.of_net(net)
  names = torch_names.renamed(arrays, rename)
  return {'params', *(table[n].section for n in names if n in table)}


def _notes(key, arrays, kept) -> tuple[str, ...]:
  notes = []
  if len(kept) < len(arrays):
    notes.append(
      f'{len(arrays) - len(kept)} of {len(arrays)} tensors of {key} are '
      'counters or indices and were left out.'
    )
  halves = {str(a.dtype) for a in kept.values() if a.dtype.itemsize == 2}
  if halves:
    notes.append(
      f'{key} is in {", ".join(sorted(halves))}: what was rounded away cannot '
      'be attacked.'
    )
  return tuple(notes)


def _of_checkpoint(place: pathlib.Path, net: models.Net, key: str) -> Tensors:
  """Returns the variables of an Orbax checkpoint, which has giajax's names."""
  where = f'{key}={str(place)!r}'
  leaves = {
    section: {n: np.asarray(a, np.float32) for n, a in arrays.items()}
    for section, arrays in checkpoint.sections(place, where).items()
  }
  arrays = convert.to_state_dict(convert.variables_of(leaves))
  variables = convert.from_state_dict(
    arrays, net, source=where, sections=leaves.keys()
  )
  return Tensors(trees.widened(variables), frozenset(leaves), ())
