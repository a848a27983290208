"""Rows as a table of plain columns: `results.parquet`, for queries.

A column holds numbers, words or truth values, and null for what is not defined.
What a row nests has a dotted name, such as 'sweep.attack.learning_rate',
'baselines.mean_image.psnr' or 'versions.jax'; the words of a list are joined by
commas. Values of the sweep that are no plain values are JSON.

  duckdb -c "select model, median(psnr) from 'results.parquet' group by 1"
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import json
import math
import pathlib
from typing import Any

from giajax import files
from giajax.results import columns

Row = Mapping[str, Any]
_PLAIN = bool | int | float | str
_TYPES = (bool, int, float, str)
_GROUP = 1000  # rows that are nested no more at a time


def flat(row: Row) -> dict[str, Any]:
  """Returns a row without nesting, see above."""
  return dict(_pairs(row))


def kinds(rows: Iterable[Row]) -> dict[str, type]:
  """Returns the columns of flat rows, and the type of each.

  Args:
    rows: what `flat` returned; a column that only some of them have is null for
      the others.
  """
  found: dict[str, set[type]] = {}
  for row in rows:
    for name, value in row.items():
      own = found.setdefault(name, set())
      if value is not None:
        own.add(type(value))
  return {name: _kind(name, types) for name, types in found.items()}


def write(path: pathlib.Path, rows: Sequence[Row]) -> None:
  """Writes rows, whole or not at all.

  Args:
    path: the file.
    rows: rows as `results.jsonl` has them, or flat ones.

  Raises:
    OSError: it cannot be written.
  """
  import pyarrow  # takes a quarter of a second
  from pyarrow import parquet

  arrow = {
    bool: pyarrow.bool_(),
    int: pyarrow.int64(),
    float: pyarrow.float64(),
    str: pyarrow.string(),
  }
  own = kinds(map(flat, rows))
  schema = pyarrow.schema([(name, arrow[kind]) for name, kind in own.items()])
  with (
    files.written(path) as made,
    parquet.ParquetWriter(made, schema) as writer,
  ):
    for i in range(0, len(rows), _GROUP):
      some = [flat(row) for row in rows[i : i + _GROUP]]
      columns = [
        [as_kind(row.get(name), kind) for row in some]
        for name, kind in own.items()
      ]
      writer.write_table(pyarrow.table(columns, schema=schema))


def as_kind(value: Any, kind: type) -> Any:
  """Returns a value of a column's type, None for null."""
  if value is None or type(value) is kind:
    return value
  return json.dumps(value) if kind is str else kind(value)


def _pairs(value: Mapping[str, Any], prefix: str = '') -> Iterator[tuple]:
  for key, own in value.items():
    name = f'{prefix}{key}'
    if name == 'sweep':
      yield from ((f'sweep.{k}', _plain(v)) for k, v in own.items())
    elif isinstance(own, Mapping):
      yield from _pairs(own, f'{name}.')
    elif isinstance(own, list):
      yield name, ', '.join(map(str, own))
    elif isinstance(own, float) and not math.isfinite(own):
      yield name, None
    else:
      yield name, own


def _plain(value: Any) -> Any:
  return value if isinstance(value, _PLAIN | None) else json.dumps(value)


def _kind(name: str, types: set[type]) -> type:
  """Returns the type of a column whose values have these types."""
  column = columns.COLUMNS.get(name)
  if column is not None and column.kind in _TYPES:
    return column.kind
  if len(types) == 1:
    return next(iter(types))
  return float if types and types <= {int, float} else str
