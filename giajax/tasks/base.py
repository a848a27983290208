"""Task: a loss, and targets that an attack can optimise."""

from collections.abc import Callable, Mapping, Sequence
import types as builtins
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types


class CheckFn(Protocol):
  """Refuses targets that a loss would read as something else."""

  def __call__(self, y: Any, count: int) -> None:
    """Checks the targets of `count` images.

    Shapes and types are always checked. Values are checked if they are
    concrete, which they are not while a program is traced.

    Args:
      y: the targets.
      count: B, the number of images.

    Raises:
      ValueError: the targets are not those of that many images.
    """
    ...


def _whole(y: Any) -> Any:
  return y


class Fact(NamedTuple):
  """A part of the targets that an attacker is granted, or optimises.

  Attributes:
    of: the function from targets to it; None if `of_pass` is given.
    draw: `(key, count, known) -> free`, the parameters at which an attack that
      optimises it begins, a tree of arrays [B, ...]; `known` holds the facts
      that the attack is granted. None if nothing can be optimised.
    relax: the function from free parameters to it, softly.
    of_pass: `(out, y) -> value`, of a fact that follows from what the network
      returned when the client passed its images through it.
  """

  of: Callable[[Any], Any] | None = _whole
  draw: Callable[[types.Array, int, Mapping[str, Any]], Any] | None = None
  relax: Callable[[Any], Any] = _whole
  of_pass: Callable[[Any, Any], Any] | None = None


class Worth(NamedTuple):
  """What a network is worth that is no mean over images.

  Attributes:
    read: a function from a network's output to what is kept of it, a tree of
      arrays [B, ...].
    rate: `(kept, y) -> numbers`, of all images of a data set, on the host.
    names: what readers call the numbers.
  """

  read: Callable[[Any], Any]
  rate: Callable[[Any, Any], Sequence[float]]
  names: tuple[str, ...]


class Task(NamedTuple):
  """What a network is trained to do.

  Outputs and targets are pytrees of arrays whose first axis is that of the
  images.

  Attributes:
    loss: `(out, y) -> []`, that of a batch, in nats or the unit of the task; y
      hard or soft. It checks `y`.
    check: `(y, count)`, see `CheckFn`.
    same: `(y, y_hat) -> [B]`, the share of each target, in [0, 1], that another
      one has right; both hard.
    predict: a function from a network's output to soft targets; None if it says
      nothing of targets.
    harden: a function from soft targets to the form in which data sets give
      them.
    additive: whether the loss of a batch is the mean of those of its images.
    facts: the parts of targets, by the names of their grants.
    join: a function from the values of all facts, by name, to the targets.
    exclusive: whether the loss is the cross-entropy of exclusive classes, which
      label rules and some closed forms rest on.
    worth: what a trained network is rated by, beside the share of its targets;
      None for nothing else.
  """

  loss: Callable[[Any, Any], types.Array]
  check: CheckFn
  same: Callable[[Any, Any], types.Array]
  predict: Callable[[Any], Any] | None = None
  harden: Callable[[Any], Any] = _whole
  additive: bool = True
  facts: Mapping[str, Fact] = builtins.MappingProxyType({'labels': Fact()})
  join: Callable[[Mapping[str, Any]], Any] = lambda facts: facts['labels']
  exclusive: bool = False
  worth: Worth | None = None


def labels(
  draw: Callable[[types.Array, int], Any],
  relax: Callable[[Any], Any] = _whole,
) -> Mapping[str, Fact]:
  """Returns the facts of targets that are one thing.

  Args:
    draw: `(key, count) -> free`.
    relax: see `Fact`.
  """

  def of_known(key: types.Array, count: int, known: Mapping[str, Any]) -> Any:
    del known
    return draw(key, count)

  return builtins.MappingProxyType({'labels': Fact(_whole, of_known, relax)})


def from_loss(loss: Callable[[Any, Any], types.Array]) -> Task:
  """Returns the task of a loss of somebody's own.

  Its targets are granted to the attacker, or the attack does without: nothing
  is known of them that an attack could optimise.

  Args:
    loss: `(out, y) -> [B]`, the loss of each image. Outputs and targets are
      whatever the network returns and the data set gives: arrays, or trees of
      them, whose first axis is that of the images.

  Returns:
    A task whose `loss` and `check` raise a ValueError for targets of another
    number of images, and `loss` for a loss that is not [B].
  """

  def check(y: Any, count: int) -> None:
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(y)]
    wrong = [shape for shape in shapes if shape[:1] != (count,)]
    if wrong or not shapes:
      raise ValueError(
        f'Expected targets of {count} images, their first axis; got '
        f'{wrong[0] if wrong else "no array"}; give one per image'
      )

  def mean(out: Any, y: Any) -> types.Array:
    count = len(jax.tree.leaves(out)[0])
    check(y, count)
    losses = jnp.asarray(loss(out, y))
    if losses.shape != (count,):
      raise ValueError(
        f'Expected a loss of each image, [{count}]; got an array of shape '
        f'{losses.shape}; leave the mean over the images to giajax'
      )
    return jnp.mean(losses)

  return Task(mean, check, same=equal)


def equal(y: Any, y_hat: Any) -> types.Array:
  """Returns the share of the numbers of each target that are equal, [B].

  Args:
    y: targets, a tree of arrays [B, ...].
    y_hat: others of the same structure and shapes.
  """
  pairs = zip(jax.tree.leaves(y), jax.tree.leaves(y_hat), strict=True)
  flat = [
    (jnp.asarray(a) == jnp.asarray(b)).reshape(len(a), -1) for a, b in pairs
  ]
  return jnp.concatenate(flat, axis=1).mean(axis=1)


def shares(
  same: Callable[[Any, Any], types.Array], y: Any, y_hat: Any
) -> types.Array:
  """Returns the share that target i has in common with claim j, [B, M].

  Args:
    same: that of the task.
    y: B targets.
    y_hat: M claimed ones.
  """

  def one(own):
    count = len(jax.tree.leaves(y_hat)[0])
    repeated = jax.tree.map(
      lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), own
    )
    return same(repeated, y_hat)

  return jax.vmap(one)(jax.tree.map(jnp.asarray, y))


def check_form(
  y: Any, shape: tuple[int, ...], kind: type, what: str, advice: str
) -> None:
  """Requires targets of one shape and kind: others would broadcast.

  Args:
    y: the targets.
    shape: that they should have.
    kind: numpy's abstract type of them, such as `np.floating`.
    what: they are, for the message.
    advice: the last part of the sentence, what to do.
  """
  check_whole(y, what, advice)
  got, dtype = jnp.shape(y), jnp.result_type(y)
  if got != shape or not jnp.issubdtype(dtype, kind):
    raise ValueError(
      f'Expected {what} of shape {shape}; got shape={got}, dtype={dtype}; '
      f'{advice}'
    )


def count_of(out: Any) -> int:
  """Returns B of an output that is one array, such as logits [B, K].

  Raises:
    ValueError: an output of several parts, such as that of a detector.
  """
  if isinstance(out, Mapping | tuple | list):
    raise ValueError(
      'Expected a network that returns one array [B, ...] for this task; got '
      f'{len(out)} parts; choose the task that they are for'
    )
  return len(out)


def check_whole(y: Any, what: str, advice: str) -> None:
  """Requires targets that are one array, and not several parts."""
  if isinstance(y, Mapping | tuple):
    parts = list(y) if isinstance(y, Mapping) else getattr(y, '_fields', y)
    raise ValueError(
      f'Expected {what}; got targets of several parts, '
      f'{", ".join(map(str, parts))}; {advice}'
    )


def is_known(y: Any) -> bool:
  """Returns whether targets have values yet, which traced ones do not."""
  return not isinstance(y, jax.core.Tracer)


def check_size(value: int, least: int, name: str = 'num_classes') -> None:
  """Requires so many classes, or other things of that name."""
  if value < least:
    raise ValueError(
      f'Expected {name} >= {least}; got {name}={value}; raise it'
    )


def check_finite(y: Any, what: str) -> None:
  """Requires finite numbers."""
  bad = ~np.isfinite(np.asarray(y))
  if bad.any():
    raise ValueError(
      f'Expected finite {what}; got {int(bad.sum())} of {bad.size} that are '
      'NaN or infinite; correct them'
    )
