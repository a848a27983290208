"""Weights that somebody else sent, as a client reads them from a file."""

import pathlib
from typing import Any

from giajax import archives
from giajax import types
from giajax.engine import checkpoint
from giajax.models import base as models
from giajax.models import convert


def read(path: str, net: models.Net) -> types.Variables:
  """Returns the variables in a file, be they a network's or not.

  Args:
    path: an npz, a .safetensors, or the folder of an Orbax checkpoint.
    net: the agreed network.

  Raises:
    ValueError: no whole file of finite float32 arrays.
  """
  folder = pathlib.Path(path)
  if not folder.is_dir():
    return convert.as_found(archives.read(path), net)
  arrays = checkpoint.read(folder)
  convert.check_numbers(arrays, 'var')
  leaves: dict[str, dict[str, Any]] = {}
  for name, array in arrays.items():
    section, _, rest = name.partition('.')
    if section not in types.Variables._fields or not rest:
      raise ValueError(
        'Expected an Orbax checkpoint of params, stats and frozen; got '
        f'{name!r} in {path!r}; save variables._asdict()'
      )
    leaves.setdefault(section, {})[rest] = array
  return convert.variables_of(leaves)
