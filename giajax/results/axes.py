"""The axes of a sweep: what a config says, and the values of its points.

  {'dotted.key': (value, ...)}     an axis of these values
  {'dotted.key': RANGE}            an axis of RANGE['count'] values in a range
  {'variant': ({'name': text, 'dotted.key': value, ...}, ...)}
                                   an axis of settings, known by their names
  {'zip': {'dotted.key': values, ...}}
                                   an axis on which several keys, each with as
                                   many values, change together
  {'random': {'count': n, 'seed': s, 'dotted.key': values, ...}}
                                   an axis of n points that are drawn: values
                                   from a list, or a RANGE without a count

The points are the product of the axes, the last one fastest. A RANGE is
`{'low': a, 'high': b, 'scale': 'linear' or 'log'}`, both ends included, and has
whole numbers where both ends are whole. Random search is by J. Bergstra and
Y. Bengio, JMLR 2012.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import math
from typing import Any

import numpy as np

from giajax import registry
from giajax import require

VARIANT, ZIP, RANDOM = 'variant', 'zip', 'random'
_SCALES: dict[str, Callable[..., np.ndarray]] = {
  'linear': np.linspace,
  'log': np.geomspace,
}
_DIGITS = 4  # of the numbers in a range, at least; they can be typed again
_ENDS = 1 << 53  # what the ends of whole numbers stay within
_MOST = 1_000_000  # values of an axis


def axes(sweep: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
  """Returns the overrides of each place on each axis.

  A variant's are under `VARIANT`, as the config has them.

  Args:
    sweep: the config's entry.

  Raises:
    ValueError: an axis without values, or of another form.
  """
  made = []
  for key, entry in sweep.items():
    if key == ZIP:
      made.append(_zipped(entry))
    elif key == RANDOM:
      made.append(_drawn(entry))
    elif key == VARIANT:
      made.append([{VARIANT: variant} for variant in _variants(entry)])
    else:
      where = f'sweep[{key!r}]'
      made.append([{key: value} for value in _values(entry, where)])
  return made


def count(sweep: Mapping[str, Any]) -> int:
  """Returns the number of points."""
  return math.prod(map(len, axes(sweep)))


def values(sweep: Mapping[str, Any]) -> dict[str, list[Any]]:
  """Returns the values of each key, in the order of the axes.

  Variants are known by their names.
  """
  found: dict[str, dict[str, Any]] = {}
  for axis in axes(sweep):
    for place in axis:
      for key, value in place.items():
        own = value['name'] if key == VARIANT else value
        found.setdefault(key, {}).setdefault(json.dumps(own), own)
  return {key: [*several.values()] for key, several in found.items()}


def _values(entry: Any, where: str) -> list[Any]:
  """Returns the values of a list or of a range."""
  if isinstance(entry, Mapping):
    return _range(entry, where)
  if not isinstance(entry, Sequence) or isinstance(entry, str) or not entry:
    raise ValueError(
      f'Expected a list of values for {where}, or a range; got {entry!r}; give '
      'at least one'
    )
  return list(entry)


def _range(entry: Mapping[str, Any], where: str) -> list[Any]:
  """Returns the values of a range, in even steps."""
  low, high, scale = _ends(entry, where, {'count'})
  number = entry.get('count', 0)
  require.whole(number, f'{where}.count', least=1, most=_MOST)
  found = _SCALES[scale](low, high, int(number)).tolist()
  if type(low) is type(high) is int:
    whole = [*dict.fromkeys(map(round, found))]
    if len(whole) < number:
      raise ValueError(
        f'Expected a count of at most {len(whole)} for {where}, as both ends '
        f'are whole numbers; got count={number}; lower it, or write {low}.0'
      )
    return whole
  return _shortened(found, low, high)


def _ends(
  entry: Mapping[str, Any], where: str, further: set[str]
) -> tuple[Any, Any, str]:
  """Returns the ends of a range and its scale."""
  known = {'low', 'high', 'scale', *further}
  if not {'low', 'high'} <= entry.keys() <= known:
    raise ValueError(
      f'Expected a range with {", ".join(sorted(known))} for {where}; got '
      f'{dict(entry)!r}; correct its keys'
    )
  low, high, scale = entry['low'], entry['high'], entry.get('scale', 'linear')
  for name, end in (('low', low), ('high', high)):
    require.finite(end, f'{where}.{name}')
    if type(end) is int:
      require.whole(end, f'{where}.{name}', least=-_ENDS, most=_ENDS)
  registry.lookup(_SCALES, scale, f'{where}.scale')
  if high < low or (scale == 'log' and low <= 0):
    least = 'low above 0 and ' if scale == 'log' else ''
    raise ValueError(
      f'Expected a range with {least}high not below low for {where}; got '
      f'low={low!r}, high={high!r}; correct them'
    )
  return low, high, scale


def _zipped(entry: Any) -> list[dict[str, Any]]:
  """Returns the places of an axis on which several keys change together."""
  columns = _columns(entry, ZIP)
  found = {k: _of_key(v, k, ZIP) for k, v in columns.items()}
  sizes = {key: len(several) for key, several in found.items()}
  if len({*sizes.values()}) > 1:
    raise ValueError(
      f'Expected as many values for each key of sweep[{ZIP!r}]; got {sizes}; '
      'make them equal'
    )
  return [dict(zip(found, place)) for place in zip(*found.values())]


def _drawn(entry: Any) -> list[dict[str, Any]]:
  """Returns the places of an axis of draws."""
  columns = _columns(entry, RANDOM)
  number, seed = columns.pop('count', None), columns.pop('seed', 0)
  require.whole(number, f'sweep.{RANDOM}.count', least=1, most=_MOST)
  require.whole(seed, f'sweep.{RANDOM}.seed', least=0)
  rng = np.random.default_rng(seed)
  found = {k: _draws(v, k, number, rng) for k, v in columns.items()}
  return [dict(zip(found, place)) for place in zip(*found.values())]


def _draws(entry: Any, key: str, number: int, rng) -> list[Any]:
  where = f'sweep.{RANDOM}[{key!r}]'
  if not isinstance(entry, Mapping):
    several = _of_key(entry, key, RANDOM)
    return [several[i] for i in rng.integers(len(several), size=number)]
  low, high, scale = _ends(entry, where, set())
  whole = type(low) is type(high) is int
  if scale == 'linear' and whole:
    return rng.integers(low, high + 1, number).tolist()
  found = rng.uniform(low, high, number)
  if scale == 'log':
    found = np.exp(rng.uniform(np.log(low), np.log(high), number))
  if whole:
    return np.clip(found.round().astype(int), low, high).tolist()
  return _shortened(found.tolist(), low, high)


def _of_key(entry: Any, key: str, group: str) -> list[Any]:
  """Returns the values of one key of a group; variants may come twice."""
  several = _values(entry, f'sweep.{group}[{key!r}]')
  if key == VARIANT:
    _variants([*{json.dumps(value): value for value in several}.values()])
  return several


def _columns(entry: Any, name: str) -> dict[str, Any]:
  further = {'count', 'seed'} if name == RANDOM else set()
  if not isinstance(entry, Mapping) or not entry.keys() - further:
    raise ValueError(
      f'Expected dotted keys and their values in sweep[{name!r}]; got '
      f'{entry!r}; name at least one key'
    )
  return dict(entry)


def _variants(entry: Any) -> list[Mapping[str, Any]]:
  variants = _values(entry, f'sweep[{VARIANT!r}]')
  names = [v.get('name') if isinstance(v, Mapping) else None for v in variants]
  if not all(isinstance(n, str) for n in names) or len({*names}) < len(names):
    raise ValueError(
      "Expected sweep['variant'] to hold dicts, each with a name of its own "
      f'and dotted keys of the config; got names {names}; name each of them'
    )
  return variants


def _shortened(found: Sequence[float], low: float, high: float) -> list[float]:
  """Returns numbers of a range with as few digits as tell them apart."""
  digits = next(
    (d for d in range(_DIGITS, 17) if _apart(found, low, high, d)), 17
  )
  return [_short(value, low, high, digits) for value in found]


def _apart(found, low, high, digits: int) -> bool:
  shortened = {_short(value, low, high, digits) for value in found}
  return len(shortened) == len({*found})


def _short(value: float, low: float, high: float, digits: int) -> float:
  if value in (low, high):
    return float(value)
  return min(max(float(f'{value:.{digits}g}'), low), high)
