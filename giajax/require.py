"""The shared sentences of validation, one line per call.

Each function checks one thing that factories of several families ask of their
arguments, and raises a ValueError of the usual form if it does not hold:

  Expected X; got name=value; what to do

A factory calls them in one block at its top. `name` is the argument as the
user writes it, `who` the attack, defence or prior that asks, and `advice` the
last part of the sentence.
"""

from collections.abc import Collection
import numbers
from typing import Any, TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.models import base as models
from giajax.models import inspect

if TYPE_CHECKING:
  from giajax import world as worlds
  from giajax.clients import base as clients

# The largest numbers of int32 and float32, in which JAX computes.
LARGEST_WHOLE = 2**31 - 1
LARGEST_NUMBER = float(np.finfo(np.float32).max)

# Numbers and names.


def whole(
  value: Any,
  name: str,
  *,
  least: int = 1,
  most: int = LARGEST_WHOLE,
  advice: str = 'correct it',
) -> None:
  """Requires a whole number in a range; a bool is refused.

  Args:
    value: the number.
    name: the name of the argument.
    least: the smallest value that is allowed.
    most: the largest value that is allowed.
    advice: the last part of the sentence, what to do.
  """
  if not _is(numbers.Integral, value) or not least <= value <= most:
    expected = f'a whole number from {least} to {most} for {name}'
    raise _refusal(expected, name, value, advice)


def finite(value: Any, name: str, *, advice: str = 'correct it') -> None:
  """Requires a number that is finite in float32."""
  if not _is_finite(value):
    raise _refusal(f'a finite number for {name}', name, value, advice)


def positive(value: Any, name: str, *, advice: str = 'raise it') -> None:
  """Requires a finite number above 0."""
  if not _is_finite(value) or value <= 0:
    raise _refusal(f'a finite number > 0 for {name}', name, value, advice)


def not_negative(value: Any, name: str, *, advice: str = 'use 0') -> None:
  """Requires a finite number of at least 0."""
  if not _is_finite(value) or value < 0:
    raise _refusal(f'a finite number >= 0 for {name}', name, value, advice)


def fraction(
  value: Any,
  name: str,
  *,
  zero: bool = False,
  one: bool = True,
  advice: str = 'correct it',
) -> None:
  """Requires a number between 0 and 1.

  Args:
    value: the number.
    name: the name of the argument.
    zero: whether 0 itself is allowed.
    one: whether 1 itself is allowed.
    advice: the last part of the sentence, what to do.
  """
  above = _is_finite(value) and (value >= 0 if zero else value > 0)
  if not above or not (value <= 1 if one else value < 1):
    interval = f'{"[" if zero else "("}0, 1{"]" if one else ")"}'
    raise _refusal(f'{name} in {interval}', name, value, advice)


def one_of(
  value: Any,
  name: str,
  options: Collection[Any],
  *,
  advice: str = 'choose one of them',
) -> None:
  """Requires one of a few options, for options that are not rows of a table."""
  if value not in options:
    listing = ', '.join(map(repr, options))
    raise _refusal(f'{name} among {listing}', name, value, advice)


# The attacker's picture of the system.


def batch_of_one(
  world: 'worlds.World', who: str, *, advice: str = 'lower the batch size'
) -> None:
  """Requires that a single image is behind the update."""
  if world.batch_size != 1:
    raise ValueError(
      f'Expected batch_size 1 for {who}; got batch_size={world.batch_size}; '
      f'{advice}'
    )


def exclusive_classes(
  world: 'worlds.World', who: str, *, advice: str = 'choose another'
) -> None:
  """Requires the cross-entropy of exclusive classes."""
  if not world.task.exclusive:
    raise ValueError(
      f'Expected the task classification for {who}, which reads the gradient '
      f'of a softmax; got another; {advice}'
    )


def one_step(
  client: 'clients.Client', who: str, *, advice: str = 'use fedsgd'
) -> None:
  """Requires a client whose update is one step."""
  if client.local_steps != 1:
    raise ValueError(
      f'Expected a client of one local step for {who}; got '
      f'local_steps={client.local_steps}; {advice}'
    )


def one_client(
  client: 'clients.Client', who: str, *, advice: str = 'use a single client'
) -> None:
  """Requires an update of one client, not of an aggregate."""
  if client.clients != 1:
    raise ValueError(
      f'Expected one client for {who}; got clients={client.clients}; {advice}'
    )


def no_batch_statistics(
  client: 'clients.Client', who: str, *, advice: str = 'use another network'
) -> None:
  """Requires a client whose pass does not mix the images of its batch."""
  net = client.net
  if client.train_mode and inspect.has_batch_norm(net):
    raise ValueError(
      f'Expected a network without BatchNorm in training mode for {who}; got '
      f'{net.spec.name} with train_mode=True, where the images of a batch mix; '
      f'{advice}'
    )


def no_random_layers(
  net: models.Net,
  who: str,
  *,
  train: bool,
  tap: str | None = None,
  advice: str = 'use another network',
) -> None:
  """Requires a network whose pass draws no random numbers, as dropout does.

  Args:
    net: the network.
    who: the attack, defence or prior that requires it.
    train: whether the pass is a training pass.
    tap: the activation; only layers in front of it count. The logits if None.
    advice: the last part of the sentence, what to do.
  """
  if inspect.draws(net, tap, train=train):
    layer = (
      '' if tap is None else f' in front of {tap.removesuffix(".input")!r}'
    )
    raise ValueError(
      f'Expected no random layers{layer} for {who}; got {net.spec.name}, which '
      f'draws random numbers there, as dropout does; {advice}'
    )


def classifier_bias(
  net: models.Net, who: str, *, advice: str = 'use another network'
) -> None:
  """Requires an update that covers the classifier's bias."""
  path = inspect.classifier(net)
  if not inspect.has_bias(net, path):
    raise ValueError(
      f'Expected an update that covers the bias of the classifier {path!r} for '
      f'{who}; got {net.spec.name} without it; {advice}'
    )


def classifier_kernel(
  net: models.Net, who: str, *, advice: str = 'train the whole classifier'
) -> None:
  """Requires an update that covers the classifier's kernel."""
  path = inspect.classifier(net)
  if f'{path}.kernel' not in inspect.leaf_names(net):
    raise ValueError(
      f'Expected an update that covers the kernel of the classifier {path!r} '
      f'for {who}; got {net.spec.name} where it is frozen; {advice}'
    )


# Trees.


def same_shapes(
  tree: types.Tree, like: types.Tree, name: str, *, of: str, advice: str
) -> None:
  """Requires a tree of the structure and the shapes of another.

  Shapes are static: a traced function refuses them while it is traced, where
  arrays of different shapes would broadcast.

  Args:
    tree: the tree, any pytree.
    like: the tree whose structure and shapes it should have.
    name: the name of `tree`.
    of: what `like` is, for the message.
    advice: the last part of the sentence, what to do.
  """
  shapes, expected = _shapes(tree), _shapes(like)
  same = jax.tree.structure(tree) == jax.tree.structure(like)
  if same and shapes == expected:
    return
  paths = [
    p for p in {**expected, **shapes} if shapes.get(p) != expected.get(p)
  ]
  if paths:
    have, want = (s.get(paths[0], 'no leaf') for s in (shapes, expected))
    got = f'{name}{paths[0]} of shape {have} for {want}'
  else:
    got = f'{name}={jax.tree.structure(tree)}'
  raise ValueError(
    f'Expected {name} of the structure and shapes of {of}; got {got}; {advice}'
  )


def _refusal(expected: str, name: str, value: Any, advice: str) -> ValueError:
  return ValueError(f'Expected {expected}; got {name}={value!r}; {advice}')


def _shapes(tree: types.Tree) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(p): jnp.shape(leaf) for p, leaf in leaves}


def _is(kind: type, value: Any) -> bool:
  return isinstance(value, kind) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
  return _is(numbers.Real, value) and abs(value) <= LARGEST_NUMBER
