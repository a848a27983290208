"""From one config with a sweep to the settings of its points.

What a sweep may say, see `results.axes`.
"""

from collections.abc import Mapping, Sequence
import itertools
import json
import math
from typing import Any, NamedTuple

from giajax.engine import schema
from giajax.results import axes
from giajax.results import study

VARIANT = axes.VARIANT


class Setting(NamedTuple):
  """The config of one point of a sweep."""

  index: int
  overrides: Mapping[str, Any]  # {'attack.num_steps': 100}
  config: Mapping[str, Any]  # resolved, without sweep


def expand(config: Mapping[str, Any]) -> list[Setting]:
  """Returns the points of a config, each resolved.

  Raises:
    ValueError: a swept key that does not exist or that two axes set, no values
      for it, or more points or updates than one experiment may have.
  """
  resolved = schema.resolve(config)
  schema.check_whole(resolved)
  swept = resolved.pop('sweep')
  places = axes.axes(swept)
  _check_once(places)
  updates = _size(resolved, places)
  if updates > resolved['run']['most_updates']:
    raise too_many(resolved, updates)
  study.check(resolved['study'], axes.values(swept), resolved)
  every = enumerate(itertools.product(*places))
  return [_setting(resolved, index, chosen) for index, chosen in every]


def first(config: Mapping[str, Any]) -> Setting:
  """Returns the first point of a config, however many there are.

  Raises:
    ValueError: see `expand`.
  """
  resolved = schema.resolve(config)
  swept = resolved.pop('sweep')
  return _setting(resolved, 0, [axis[0] for axis in axes.axes(swept)])


def size(config: Mapping[str, Any]) -> int:
  """Returns how many updates a config attacks, controls aside, at most.

  Raises:
    ValueError: see `expand`.
  """
  resolved = schema.resolve(config)
  return _size(resolved, axes.axes(resolved['sweep']))


def _size(resolved, places) -> int:
  counts = [resolved['cases']['count']]
  for place in itertools.chain(*places):
    own = {**place, **place.get(VARIANT, {})}
    counts += [own['cases.count']] if 'cases.count' in own else []
  most = max((n for n in counts if type(n) is int), default=1)
  return math.prod(map(len, places)) * most


def too_many(
  resolved: Mapping[str, Any], updates: int, time: str = ''
) -> ValueError:
  """Returns the error for a config of more updates than it allows.

  Args:
    resolved: the config.
    updates: how many it has.
    time: how long they take, in words.
  """
  limit = resolved['run']['most_updates']
  return ValueError(
    f'Expected at most {limit:,} updates; got {updates:,} updates from '
    f'cases.count and the sweep{time}; make it smaller, or set '
    f'--config.run.most_updates={updates}, as --yes of giajax does'
  )


def _setting(resolved, index, chosen) -> Setting:
  """Returns a point, whose place on each axis is chosen."""
  overrides = {k: v for place in chosen for k, v in place.items()}
  variant = dict(overrides.pop(VARIANT, {}))
  named = {VARIANT: variant.pop('name')} if variant else {}
  _check_apart(variant, overrides)
  own = changed(resolved, {**variant, **overrides})
  return Setting(index, {**named, **overrides}, own)


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


def _check_once(places: Sequence[Sequence[Mapping[str, Any]]]) -> None:
  """Raises ValueError for a key that two axes set."""
  keys = [key for axis in places for key in axis[0]]
  twice = [key for key in keys if keys.count(key) > 1]
  if twice:
    raise ValueError(
      f'Expected each key on one axis of the sweep; got {twice[0]!r} on '
      f'{keys.count(twice[0])}; take it out of the others'
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
