"""Does the described client fit a captured update?

Where the images are known, the described client computes the update again: a
wrong rate, order or mode shows at once, and a short search over what is usually
wrong says what fits better. Otherwise, only the size of the update is compared
with that of updates of random images.
"""

from collections.abc import Callable, Iterator, Mapping
import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.models import base as models
from giajax.models import inspect

# The largest relative difference of logits between two computations.
_SAME = 1e-2
MATCH = 1e-3  # the largest relative error of a description that fits
# How much larger or smaller an update may be than those of random images.
_UNUSUAL = 30.0
_ORDERS = 24  # the most orders of the images that are tried
_RANDOM = 4  # updates of random images
_MOMENTA = (0.0, 0.9)
_RATES = (0.1, 0.5, 2.0, 10.0)  # as multiples
_AS_WELL = 10.0  # an error of so many times the least one fits as well
_EXPLAINED = 0.1  # the largest relative error that is called a fit
_EPOCHS = (1, 2, 3, 5)

Make = Callable[[Mapping[str, Any]], clients.Client]


class _Try(NamedTuple):
  """A description that may be the right one."""

  words: str
  entry: Mapping[str, Any]
  batch: types.Batch


def fit(
  make: Make,
  entry: Mapping[str, Any],
  variables: types.Variables,
  update: types.Update,
  known: types.Batch | None,
  size: int,
) -> str:
  """Returns how the described client fits a captured update, in sentences.

  Args:
    make: `(entry) -> Client`.
    entry: the description, an entry of the config's client.
    variables: the weights that were sent.
    update: what came back.
    known: the images behind it, or None.
    size: B, their number.

  Raises:
    ValueError: an entry that cannot be made.
  """
  client = make(entry)
  if known is None:
    return _size(client, variables, update, size)
  if client.augment or inspect.draws(client.net, train=client.train_mode):
    return (
      'The client draws random numbers (dropout or augmentation), so its '
      'update cannot be computed again.'
    )
  (best, words), _ = _best(client, _Try('', entry, known), variables, update)
  text = (
    'The described client reproduces the update with a relative error of '
    f'{best:.1e}{words}.'
  )
  if best <= MATCH:
    return text
  return f'{text} {_suspects(make, entry, variables, update, known)}'


def agreement(net: models.Net, variables: types.Variables) -> str:
  """Returns how near a network is to the one that it was made from.

  Args:
    net: the network; '' is returned for one that has no original.
    variables: its weights.

  Raises:
    ValueError: they are not the same.
  """
  if net.original is None:
    return ''
  modes = (False,) if inspect.draws(net, train=True) else (False, True)
  x = jax.random.uniform(jax.random.key(0), (_RANDOM, *net.spec.image_shape))
  worst = 0.0
  # The original has no frozen BatchNorm, which would keep to its statistics.
  variables = variables._replace(params=models.whole(variables), frozen={})
  for train in modes:
    here = jax.jit(functools.partial(net.apply, train=train))(variables, x).out
    there = net.original(variables, x, train)
    scale = max(float(np.abs(there).max()), 1e-30)
    worst = max(worst, float(np.abs(here - there).max()) / scale)
  if not worst <= _SAME:
    raise ValueError(
      f'Expected {net.spec.name} to be the same here and in torch; got logits '
      f'that differ by {worst:.1e} on random images; report this network'
    )
  where = 'both modes' if len(modes) == 2 else 'inference mode'
  return (
    f'The network here and in torch agree to {worst:.1e} on random images, in '
    f'{where}.'
  )


def _suspects(make, entry, variables, update, known) -> str:
  """Returns which change of the description fits best, in a sentence."""
  found = []
  for tried in _tries(make, entry, known):
    try:
      client = make(tried.entry)
    except ValueError:
      continue  # a client of the user's own may take other arguments
    found += _best(client, tried, variables, update)
  limit = min(_AS_WELL * min(error for error, _ in found), _EXPLAINED)
  # Of those that fit as well, the one with the fewest changes.
  fitting = [one for one in found if one[0] <= limit]
  error, words = fitting[0] if fitting else min(found)
  if error > _EXPLAINED:
    several = len(known.x) > 1 and make(entry).local_steps > 1
    order = 'another order of the images in each epoch, ' if several else ''
    return (
      f'No usual mistake explains it: look for {order}another normalisation of '
      'the images, other weights than those that were sent, weight decay, or '
      f'another round. The nearest is {words}, with an error of {error:.1e}.'
    )
  return f'It fits with an error of {error:.1e} with {words}.'


def _best(
  client, tried: _Try, variables, update
) -> tuple[tuple[float, str], tuple[float, str]]:
  """Returns the smallest errors over orders of the images, and their words.

  Args:
    client: what the description makes.
    tried: the description.
    variables: the weights that were sent.
    update: what came back.

  Returns:
    The error of the update as it is, and that of the update times a number.
  """
  key, message = jax.random.key(0), types.ServerMessage(variables)
  run = jax.jit(_ordered(client))
  plain, scaled = [], []
  for order in _orders(client, len(tried.batch.x)):
    batch = jax.tree.map(lambda leaf, o=order: leaf[o], tried.batch)
    delta = run(key, message, batch)
    scale = _scale(delta, update.delta)
    own = _of_scale(scale, tried.entry)
    own = f'{tried.words} and {own}' if tried.words else own
    where = ''
    if order.tolist() != sorted(order.tolist()):
      where = f', in the order {order.tolist()} of the images'
    plain.append((_relative(delta, update.delta), tried.words + where))
    delta = jax.tree.map(lambda leaf, s=scale: s * leaf, delta)
    scaled.append((_relative(delta, update.delta), own + where))
  return min(plain), min(scaled)


def _ordered(client: clients.Client) -> Callable[..., types.Tree]:
  """Returns the client's change of a batch in its own order, in each epoch."""

  def run(key, message, batch):
    if client.unrolled is None:
      return client.update(key, message, batch)[0].delta
    every = jax.tree.map(
      lambda leaf: jnp.concatenate([leaf] * client.epochs), batch
    )
    return client.unrolled(key, message, every)[0].delta

  return run


def _tries(make, entry, known) -> Iterator[_Try]:
  """Yields descriptions with one usual mistake mended."""
  yield _Try('', entry, known)
  train_mode = not entry.get('train_mode', False)
  usual: dict[str, Any] = {}
  changes: list[tuple[str, dict[str, Any]]] = [
    (f'train_mode={train_mode}', {'train_mode': train_mode})
  ]
  if entry['name'] == 'fedavg':
    count = len(known.x)
    usual = {'momentum': 0.0, 'epochs': 1, 'batch_size': count}
    changes += [(f'momentum={m}', {'momentum': m}) for m in _MOMENTA]
    # The update of several steps is not in proportion to the rate.
    several = make(entry).local_steps > 1
    rate = entry.get('learning_rate', 0.01)
    rates = [rate * factor for factor in _RATES] if several else []
    changes += [(f'learning_rate={r:g}', {'learning_rate': r}) for r in rates]
    changes += [(f'epochs={e}', {'epochs': e}) for e in _EPOCHS]
    divisors = [b for b in range(1, count + 1) if count % b == 0]
    changes += [(f'batch_size={b}', {'batch_size': b}) for b in divisors[-4:]]
  for words, change in changes:
    if any((usual | {**entry}).get(k) != v for k, v in change.items()):
      yield _Try(words, {**entry, **change}, known)
  spec = make(entry).net.spec
  for name in models.NORMALISATIONS:
    other = models.make_spec('', spec.image_shape, 1, name)
    if (other.mean, other.std) != (spec.mean, spec.std):
      x = _renormalised(known.x, spec, other)
      words = f'normalisation={name!r}'
      yield _Try(words, entry, known._replace(x=x))


def _renormalised(x, own: models.Spec, other: models.Spec) -> np.ndarray:
  """Returns images that the network sees as another normalisation's."""
  mean, std, mean_, std_ = (
    np.asarray(v, np.float32)
    for v in (own.mean, own.std, other.mean, other.std)
  )
  return (x - mean_) / std_ * std + mean


def _orders(client: clients.Client, count: int) -> list[np.ndarray]:
  """Returns orders in which a client may have taken its images.

  All of them where they are few, and some of them otherwise.
  """
  straight = np.arange(count)
  if client.local_steps == client.epochs:  # all images in every step
    return [straight]
  if math.factorial(count) <= _ORDERS:
    return [np.array(o) for o in itertools.permutations(range(count))]
  draw = np.random.default_rng(0)
  return [straight, *(draw.permutation(count) for _ in range(_ORDERS - 1))]


def _relative(got: types.Tree, wanted: types.Tree) -> float:
  gap = jax.tree.map(jnp.subtract, got, wanted)
  return _norm(gap) / max(_norm(wanted), 1e-30)


def _scale(got: types.Tree, wanted: types.Tree) -> float:
  """Returns the factor that brings one update nearest to another."""
  return float(trees.dot(got, wanted)) / max(_norm(got) ** 2, 1e-30)


def _of_scale(scale: float, entry: Mapping[str, Any]) -> str:
  if scale < 0:
    return f'the other sign (a factor of {scale:.3g})'
  text = f'a factor of {scale:.4g}'
  if 'learning_rate' in entry:
    text += f' (learning_rate={scale * entry["learning_rate"]:.3g})'
  return f'{text}, as for a sum over images in the place of their mean'


def _size(client, variables, update, size) -> str:
  """Compares the size of an update with that of updates of random images."""
  shape = (size, *client.net.spec.image_shape)
  key, message = jax.random.key(0), types.ServerMessage(variables)

  @jax.jit
  def one(key):
    draw, label, run = jax.random.split(key, 3)
    y = jax.random.randint(label, (size,), 0, client.net.spec.num_classes)
    batch = types.Batch(jax.random.uniform(draw, shape), y)
    return trees.squared_norm(client.update(run, message, batch)[0].delta)

  sizes = [float(one(k)) ** 0.5 for k in jax.random.split(key, _RANDOM)]
  ratio = _norm(update.delta) / max(float(np.median(sizes)), 1e-30)
  text = (
    f'The update is {ratio:.2g} times as large as what the described client '
    'makes of random images.'
  )
  if not 1 / _UNUSUAL < ratio < _UNUSUAL:
    text += (
      ' That is unusual: it may be of another round, another learning rate, or '
      'of other weights than those that were sent.'
    )
  return text


def _norm(tree: types.Tree) -> float:
  return float(trees.squared_norm(tree)) ** 0.5
