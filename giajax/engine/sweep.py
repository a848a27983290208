"""From one config with a sweep to the settings of its points.

A sweep is `{'dotted.key': (value, ...), ...}`; its points are the product, the
last key fastest. Its key 'variant' changes several keys at once: each value is
`{'name': text, 'dotted.key': value, ...}`, and rows know it by its name.
"""

from collections.abc import Mapping, Sequence
import itertools
import json
import math
from typing import Any, NamedTuple

from giajax.engine import schema
from giajax.results import study

VARIANT = 'variant'


class Setting(NamedTuple):
  """The config of one point of a sweep."""

  index: int
  overrides: Mapping[str, Any]  # {'attack.num_steps': 100}
  config: Mapping[str, Any]  # resolved, without sweep


def expand(config: Mapping[str, Any]) -> list[Setting]:
  """Returns the points of a config, each resolved.

  Raises:
    ValueError: a swept key that does not exist, no values for it, or more
      points or updates than one experiment may have.
  """
  resolved = schema.resolve(config)
  swept = resolved.pop('sweep')
  for key, values in swept.items():
    if (
      not isinstance(values, Sequence) or isinstance(values, str) or not values
    ):
      raise ValueError(
        f'Expected a list of values for sweep[{key!r}]; got {values!r}; give '
        'at least one'
      )
  _check_variants(swept.get(VARIANT, ()))
  _check_number(math.prod(map(len, swept.values())), 'points', 'the sweep')
  study.check(resolved['study'], swept, resolved)
  points = []
  for index, values in enumerate(itertools.product(*swept.values())):
    overrides = dict(zip(swept, values))
    variant = dict(overrides.pop(VARIANT, {}))
    named = {VARIANT: variant.pop('name')} if VARIANT in swept else {}
    _check_apart(variant, overrides)
    own = changed(resolved, {**variant, **overrides})
    points.append(Setting(index, {**named, **overrides}, own))
  updates = sum(point.config['cases']['count'] for point in points)
  _check_number(updates, 'updates', 'cases.count and the sweep')
  return points


def changed(
  resolved: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns a resolved config with other values at dotted keys.

  Raises:
    ValueError: a key that does not exist, or a value of another kind.
  """
  plain = json.loads(json.dumps(resolved))
  for key, value in overrides.items():
    _set(plain, key, value)
  return schema.resolve(plain)


def only(config: Mapping[str, Any], point: int | None) -> Setting:
  """Returns one point of a config.

  Args:
    config: a config, with or without a sweep.
    point: the index of the point; None if there is only one.

  Raises:
    ValueError: the same as for `expand`, or there is no such point.
  """
  points = expand(config)
  if not 0 <= (point or 0) < len(points) or (point is None and points[1:]):
    raise ValueError(
      f'Expected a point from 0 to {len(points) - 1} of the sweep; got '
      f'point={point}; set --point'
    )
  return points[point or 0]


def _check_variants(variants: Sequence[Any]) -> None:
  names = [v.get('name') if isinstance(v, Mapping) else None for v in variants]
  if not all(isinstance(n, str) for n in names) or len({*names}) < len(names):
    raise ValueError(
      "Expected sweep['variant'] to hold dicts, each with a name of its own "
      f'and dotted keys of the config; got names {names}; name each of them'
    )


def _check_apart(
  variant: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
  """Raises ValueError for a key that a variant may not set."""
  for key in variant:
    both = [k for k in overrides if f'{k}.'.startswith(f'{key}.')]
    both += [k for k in overrides if f'{key}.'.startswith(f'{k}.')]
    if key in ('sweep', 'study', 'run') or both:
      what = f'the sweep over {both[0]}' if both else 'the whole experiment'
      raise ValueError(
        f'Expected keys of one setting in a variant; got {key!r}, which is '
        f'one of {what}; take it out of one of them'
      )


def _check_number(number: int, what: str, where: str) -> None:
  most = schema.MOST[what]
  if number > most:
    raise ValueError(
      f'Expected at most {most} {what} in one experiment; got {number} from '
      f'{where}; make several experiments of it'
    )


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
  *path, last = key.split('.')
  node = tree
  for part in path:
    node = node.get(part) if isinstance(node, dict) else None
  if not isinstance(node, dict):
    raise ValueError(
      f'Expected swept keys of the config ({", ".join(sorted(tree))}); got '
      f'sweep[{key!r}]; name a key such as cases.batch_size'
    )
  node[last] = value
