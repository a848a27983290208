"""From one config with a sweep to points, and from points to cohorts.

A sweep is `{'dotted.key': (value, ...), ...}`; its points are the product, the
last key fastest. Points that differ in `hparams` alone share one compiled
program: they form a cohort.
"""

from collections.abc import Mapping, Sequence
import itertools
import json
from typing import Any, NamedTuple

from giajax.engine import build
from giajax.results import study


class Point(NamedTuple):
  """One setting of an experiment."""

  index: int
  overrides: Mapping[str, Any]  # {'attack.num_steps': 100}
  config: Mapping[str, Any]  # resolved, without sweep


def expand(config: Mapping[str, Any]) -> list[Point]:
  """Returns the points of a config, each resolved.

  Raises:
    ValueError: a swept key that does not exist, or no values for it.
  """
  resolved = build.resolve(config)
  swept = resolved.pop('sweep')
  for key, values in swept.items():
    if (
      not isinstance(values, Sequence) or isinstance(values, str) or not values
    ):
      raise ValueError(
        f'Expected a list of values for sweep[{key!r}]; got {values!r}; give '
        'at least one'
      )
  study.check(resolved['study'], swept)
  points = []
  for index, values in enumerate(itertools.product(*swept.values())):
    overrides = dict(zip(swept, values))
    points.append(Point(index, overrides, changed(resolved, overrides)))
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
  return build.resolve(plain)


def only(config: Mapping[str, Any], point: int | None) -> Point:
  """Returns one point of a config.

  Args:
    config: with or without a sweep.
    point: its index; None where there is only one.

  Raises:
    ValueError: as `expand`, or no such point.
  """
  points = expand(config)
  if not 0 <= (point or 0) < len(points) or (point is None and points[1:]):
    raise ValueError(
      f'Expected a point from 0 to {len(points) - 1} of the sweep; got '
      f'point={point}; set --point'
    )
  return points[point or 0]


def cohorts(points: Sequence[Point]) -> list[list[Point]]:
  """Returns the points grouped by what has to be compiled, in order."""
  groups: dict[str, list[Point]] = {}
  for point in points:
    static = {k: v for k, v in point.config.items() if k != 'hparams'}
    groups.setdefault(json.dumps(static, sort_keys=True), []).append(point)
  return list(groups.values())


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
