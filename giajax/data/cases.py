"""Which images form a client's batch: decided by (seed, case) and a rule.

The draw of a case never depends on other cases, so any shard of an experiment
sees the same batches. A rule is a function `(generator, labels [size], request)
-> indices [B]`.

Where one update is the mean of several clients' updates, the batch holds their
images, one client after the other in equal shares, and the rules of partitions
say how the clients differ.
"""

from collections.abc import Callable
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from giajax import registry
from giajax.data import base


class Request(NamedTuple):
  """What a rule is given."""

  batch_size: int
  clients: int = 1
  repeats: int = 2
  alpha: float = 0.5
  given: npt.ArrayLike | None = None
  objects: tuple[int, int] = (1, 3)
  counts: np.ndarray | None = None  # of objects, [size]


_Rule = Callable[[np.random.Generator, np.ndarray, Request], np.ndarray]


def indices(
  labels: npt.ArrayLike,
  *,
  seed: int,
  case: int,
  batch_size: int,
  rule: str = 'random',
  clients: int = 1,
  repeats: int = 2,
  alpha: float = 0.5,
  given: npt.ArrayLike | None = None,
  objects: tuple[int, int] = (1, 3),
  counts: np.ndarray | None = None,
) -> np.ndarray:
  """Returns which images form the batch of a case, [B] int32, all different.

  Args:
    labels: the labels of the data set, [size] int32.
    seed: the seed of the experiment, at least 0.
    case: the number of the case, at least 0.
    batch_size: B, the number of images of all clients together.
    rule: a name in `RULES`.
    clients: the number of clients, which share the batch equally.
    repeats: the number of images of one label, for the rule 'repeated_label', 1
      to B.
    alpha: the concentration of the rule 'dirichlet', > 0; a small one is far
      from IID.
    given: the indices [B], for the rule 'given' only; the same in every case.
    objects: the least and the largest number of objects in an image, for the
      rule 'objects'.
    counts: the number of objects in each image of the data set, [size] int32;
      None where its targets are no objects.

  Raises:
    ValueError: an unknown rule, a negative seed or case, a batch that the
      data set cannot fill under the rule or that the clients cannot share, an
      argument outside its range, or `given` without its rule, of another
      length, repeated or out of range.
  """
  draw = registry.lookup(RULES, rule, 'rule')
  labels = np.asarray(labels)
  if not 1 <= batch_size <= len(labels):
    raise ValueError(
      f'Expected a batch_size of 1 to {len(labels)}, the size of the data '
      f'set; got batch_size={batch_size}; choose one in between'
    )
  if clients < 1 or batch_size % clients:
    raise ValueError(
      'Expected clients that share the batch equally; got '
      f'clients={clients}, batch_size={batch_size}; change one of them'
    )
  if (given is not None) != (rule == 'given'):
    raise ValueError(
      "Expected indices in given exactly when rule='given'; got "
      f'rule={rule!r}, given={given}; set both or neither'
    )
  request = Request(batch_size, clients, repeats, alpha, given, objects, counts)
  rows = draw(_generator(seed, case), labels, request)
  return rows.astype(np.int32)


def held_out(
  size: int, batch: npt.ArrayLike, *, seed: int, case: int, count: int
) -> np.ndarray:
  """Returns images outside a batch, for baselines and proxy data.

  Args:
    size: the size of the data set.
    batch: the indices of the batch, [B].
    seed: the seed of the experiment, at least 0.
    case: the number of the case, at least 0.
    count: the largest number of images to draw.

  Returns:
    [min(count, size - B)] int32, all different.

  Raises:
    ValueError: the batch is the whole data set, or `count` is below 1.
  """
  left = np.setdiff1d(np.arange(size), batch)
  if not left.size or count < 1:
    raise ValueError(
      'Expected images outside the batch and a count of at least 1; got '
      f'size={size}, batch_size={np.size(batch)}, count={count}; use a '
      'smaller batch or a larger data set'
    )
  generator = _generator(seed, case, 1)  # a stream apart from the batch's own
  return generator.permutation(left)[:count].astype(np.int32)


def same_class(
  labels: npt.ArrayLike, index: int, *, seed: int, case: int, count: int
) -> np.ndarray:
  """Returns other images of an image's class, whether in its batch or not.

  Args:
    labels: the labels of the data set, [size] int32.
    index: the index of the image.
    seed: the seed of the experiment, at least 0.
    case: the number of the case, at least 0.
    count: the largest number of images to draw, at least 1.

  Returns:
    [min(count, members of the class - 1)] int32, all different; empty for an
    image that is alone in its class.
  """
  labels = np.asarray(labels)
  others = np.setdiff1d(np.flatnonzero(labels == labels[index]), index)
  generator = _generator(seed, case, 2, index)
  return generator.permutation(others)[:count].astype(np.int32)


def _generator(seed: int, *path: int) -> np.random.Generator:
  if seed < 0 or min(path) < 0:
    raise ValueError(
      f'Expected a seed and a case of at least 0; got seed={seed}, '
      f'case={path[0]}; choose others'
    )
  return np.random.default_rng(np.random.SeedSequence([seed, *path]))


def _random(
  generator: np.random.Generator,
  labels: np.ndarray,
  request: Request,
) -> np.ndarray:
  """Any images."""
  return generator.choice(len(labels), request.batch_size, replace=False)


def _unique_labels(
  generator: np.random.Generator,
  labels: np.ndarray,
  request: Request,
) -> np.ndarray:
  """One image per class, of classes drawn at random."""
  batch_size, classes = request.batch_size, np.unique(labels)
  if batch_size > len(classes):
    raise ValueError(
      f'Expected batch_size <= {len(classes)}, the classes there are, for '
      f"rule='unique_labels'; got batch_size={batch_size}; lower it or use "
      "rule='random'"
    )
  selection = generator.choice(classes, batch_size, replace=False)
  return np.array(
    [generator.choice(np.flatnonzero(labels == c)) for c in selection]
  )


def _same_label(
  generator: np.random.Generator,
  labels: np.ndarray,
  request: Request,
) -> np.ndarray:
  """Images of one class, drawn among those that hold enough."""
  batch_size = request.batch_size
  classes, counts = np.unique(labels, return_counts=True)
  if batch_size > counts.max():
    raise ValueError(
      f'Expected batch_size <= {counts.max()}, the size of the largest class, '
      f"for rule='same_label'; got batch_size={batch_size}; lower it or use "
      "rule='random'"
    )
  label = generator.choice(classes[counts >= batch_size])
  members = np.flatnonzero(labels == label)
  return generator.choice(members, batch_size, replace=False)


def _given(
  generator: np.random.Generator,
  labels: np.ndarray,
  request: Request,
) -> np.ndarray:
  """The images that the user names."""
  del generator
  given, batch_size = request.given, request.batch_size
  rows = base.check_indices(given if given is not None else (), len(labels))
  if len(rows) != batch_size or len(np.unique(rows)) != batch_size:
    raise ValueError(
      f'Expected {batch_size} different indices, one per image of the batch; '
      f'got given={rows.tolist()}; correct given or batch_size'
    )
  return rows


def _repeated_label(
  generator: np.random.Generator,
  labels: np.ndarray,
  request: Request,
) -> np.ndarray:
  """Some images of one class, and one image each of other classes."""
  size, repeats = request.batch_size, request.repeats
  classes, counts = np.unique(labels, return_counts=True)
  others = size - repeats
  if not 1 <= repeats <= min(size, counts.max()) or others >= len(classes):
    raise ValueError(
      f'Expected repeats from 1 to {min(size, counts.max())} and at most '
      f'{len(classes) - 1} other labels; got repeats={repeats}, '
      f'batch_size={size}; change one of them'
    )
  most = generator.choice(classes[counts >= repeats])
  rest = generator.choice(classes[classes != most], others, replace=False)
  parts = [
    generator.choice(np.flatnonzero(labels == c), n, replace=False)
    for c, n in ((most, repeats), *((c, 1) for c in rest))
  ]
  return np.concatenate(parts)


def _dirichlet(
  generator: np.random.Generator,
  labels: np.ndarray,
  request: Request,
) -> np.ndarray:
  """Each client's labels follow its own proportions, from Dirichlet(alpha).

  Hsu, Qi and Brown, Measuring the Effects of Non-Identical Data Distribution
  for Federated Visual Classification, 2019, arXiv 1909.06335. A class that has
  run out passes its share on to the others.
  """
  if not 0 < request.alpha < math.inf:
    raise ValueError(
      f'Expected a finite alpha > 0; got alpha={request.alpha}; use 0.5'
    )
  left = [
    generator.permutation(np.flatnonzero(labels == c)).tolist()
    for c in np.unique(labels)
  ]
  rows = []
  for _ in range(request.clients):
    shares = generator.dirichlet(np.full(len(left), request.alpha))
    for _ in range(request.batch_size // request.clients):
      # All shares except those of empty classes may be 0 in float64.
      usable = [(p + 1e-12) * bool(own) for p, own in zip(shares, left)]
      p = np.divide(usable, np.sum(usable))
      rows.append(left[generator.choice(len(left), p=p)].pop())
  return np.array(rows)


def _class_a_client(
  generator: np.random.Generator,
  labels: np.ndarray,
  request: Request,
) -> np.ndarray:
  """Each client holds images of one class, which no other client has."""
  share = request.batch_size // request.clients
  classes, counts = np.unique(labels, return_counts=True)
  usable = classes[counts >= share]
  if request.clients > len(usable):
    raise ValueError(
      f'Expected at most {len(usable)} clients, the classes of {share} images, '
      f"for rule='class_a_client'; got clients={request.clients}; use "
      "fewer, or rule='dirichlet'"
    )
  selection = generator.choice(usable, request.clients, replace=False)
  members = [np.flatnonzero(labels == c) for c in selection]
  return np.concatenate(
    [generator.choice(m, share, replace=False) for m in members]
  )


def _objects(
  generator: np.random.Generator,
  labels: np.ndarray,
  request: Request,
) -> np.ndarray:
  """Images of so many objects, from the least to the largest number."""
  least, most = request.objects
  if request.counts is None:
    raise ValueError(
      "Expected a data set with boxes for rule='objects'; got one of "
      f"{len(labels)} images without; use rule='random'"
    )
  if not 0 <= least <= most:
    raise ValueError(
      'Expected objects from a least to a largest number; got '
      f'objects={(least, most)}; use (1, 3)'
    )
  usable = np.flatnonzero((request.counts >= least) & (request.counts <= most))
  if request.batch_size > len(usable):
    raise ValueError(
      f'Expected batch_size <= {len(usable)}, the images of {least} to {most} '
      f"objects, for rule='objects'; got batch_size={request.batch_size}; "
      'lower it or widen objects'
    )
  return generator.choice(usable, request.batch_size, replace=False)


RULES: dict[str, _Rule] = {
  'class_a_client': _class_a_client,
  'dirichlet': _dirichlet,
  'given': _given,
  'objects': _objects,
  'random': _random,
  'repeated_label': _repeated_label,
  'same_label': _same_label,
  'unique_labels': _unique_labels,
}
