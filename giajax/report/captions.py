"""The words under an image: its target, and the one that an attack claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from giajax import trees
from giajax.results import collection
from giajax.results import wording

_SHOWN = 4  # numbers, labels or classes that a caption lists


def claimed(run: collection.Run, item: collection.Sample) -> str:
  """Returns what the attack claims of an image."""
  guess = _own(run, item, 'y_hat')
  if _is_none(guess):
    return 'no label claimed'
  return f'the attack says: {words(guess, _names(run))}'


def compared(run: collection.Run, item: collection.Sample) -> str:
  """Returns the target of an image, and what the attack takes it for."""
  true, guess = (_own(run, item, name) for name in ('y', 'y_hat'))
  names = _names(run)
  said = words(true, names)
  if _is_none(guess):
    return f'{said}, no label claimed'
  if _equal(true, guess):
    return said
  return f'{said}, taken for {words(guess, names)}'


def boxes(
  run: collection.Run, item: collection.Sample, picture: str
) -> np.ndarray | None:
  """Returns the boxes of the objects of a picture, [n, 4], None for no such.

  Args:
    run: the run.
    item: which image of which update.
    picture: the name of its array: the original has the true ones, what came
      back those that the attack names.
  """
  name = {'x': 'y', 'x_hat': 'y_hat'}.get(picture)
  target = _own(run, item, name) if name else None
  if target is None or not _are_objects(target) or _is_none(target):
    return None
  return np.asarray(target['boxes'])[np.asarray(target['valid'])]


def words(target: Any, names: Sequence[str]) -> str:
  """Returns a target in words.

  Objects are the names of their classes, and how often. A whole number is a
  class, whole numbers along one axis are labels that are there or not if they
  are 0 and 1, those along two are the classes of pixels, and everything else is
  numbers.

  Args:
    target: that of one image, an array or a tree of arrays.
    names: the names of the classes.
  """
  if _are_objects(target):
    own = np.asarray(target['classes'])[np.asarray(target['valid'])]
    labels, counts = np.unique(own, return_counts=True)
    found = [
      _class(int(k), names) + (f' x {n}' if n > 1 else '')
      for k, n in zip(labels, counts)
    ]
    return _listed(found) if found else 'no objects'
  if isinstance(target, Mapping):
    parts = trees.named_leaves(target)
    return '; '.join(f'{n} {words(part, names)}' for n, part in parts.items())
  array = np.asarray(target)
  if array.dtype.kind in 'iu':
    if not array.ndim:
      return _class(int(array), names)
    if array.ndim == 1 and {*array.tolist()} <= {0, 1}:
      found = [_class(int(k), names) for k in np.flatnonzero(array)]
      return _listed(found) if found else 'none of the labels'
    if array.ndim == 2:
      return _shares(array, names)
  return _listed([wording.significant(float(v)) for v in array.ravel()])


def _own(run: collection.Run, item: collection.Sample, name: str) -> Any:
  tree = collection.targets(run, item.row, name)
  return jax.tree.map(lambda leaf: leaf[item.index], tree)


def _names(run: collection.Run) -> Sequence[str]:
  return run.meta.get('class_names') or []


def _are_objects(target: Any) -> bool:
  """Returns whether a target is that of a detector."""
  return isinstance(target, Mapping) and {*target} == {
    *('boxes', 'classes', 'valid')
  }


def _class(label: int, names: Sequence[str]) -> str:
  name = names[label] if 0 <= label < len(names) else str(label)
  return f'class {name}' if name.isdigit() else str(name)


def _shares(array: np.ndarray, names: Sequence[str]) -> str:
  """Returns the classes of most pixels, with their shares."""
  labels, counts = np.unique(array, return_counts=True)
  order = np.argsort(-counts, kind='stable')
  return _listed(
    [
      f'{_class(int(labels[i]), names)} {wording.share(counts[i] / array.size)}'
      for i in order
    ]
  )


def _listed(parts: Sequence[str]) -> str:
  rest = len(parts) - _SHOWN
  more = f' and {rest} more' if rest > 0 else ''
  return ', '.join(parts[:_SHOWN]) + more


def _is_none(target: Any) -> bool:
  """Returns whether a target is the one that stands for none."""
  empty = {
    'f': lambda a: np.isnan(a).all(),
    'b': lambda a: not a.any(),
    'i': lambda a: (a == -1).all(),
  }
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(target)]
  return all(bool(empty[a.dtype.kind](a)) for a in leaves)


def _equal(true: Any, guess: Any) -> bool:
  a, b = (trees.named_leaves(t) for t in (true, guess))
  return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)
