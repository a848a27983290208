"""Verifier: what a client can tell of a model before it trains it.

A verifier is a function `(key, message, probe) -> Verdict`, made by a factory
`foo(view, *, threshold=...)`. It sees what a client sees: the network that was
agreed on, the weights that came, those that it accepted last, and labelled
images of its own. The key is consumed.

A score is a number >= 0 of any unit, higher is more suspicious, and 0 where
there is nothing to look at. A verdict is flagged where the score exceeds the
threshold.

Thresholds are committed numbers: the larger of two 99 % quantiles, over fresh
and over trained honest models, rounded up, by one run of `python -m
giajax.verify.calibration.thresholds`; no attack had a say. The models were 19
rows of the zoo, most of them shrunk, with 8 fresh weights each; 25 checkpoints
of 8 small networks in 1 to 8 epochs of CIFAR-10, MLPs, LeNet, a ResNet, a VGG
and a ViT; and published ResNet-20, -32, -44 and -56 of CIFAR-10, and
MobileNetV2 of ImageNet. A probe was 16 test images of CIFAR-10, or photographs
for the last. Each check alone objected to at most 1 % of these, by construction, and any of
them to 0.7 % of 152 fresh check-ups and 0.8 % of 120 trained ones
(`configs/studies/results/thresholds.md`). Networks trained otherwise, as by
federated rounds, were not tried. On probes of 2 to 4 images some checks object
to most honest models, and fewer than `LEAST_PROBE` are refused.

Checks that try the model do so in inference mode, on the buffers that the
server sent. A client in training mode normalises by its own batch instead:
running variances that are huge make every image look alike here, and with that
blind these checks, without any effect on such a client. That is what
`running_statistics` looks for, up to its threshold a layer.
"""

from collections.abc import Callable, Iterator
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import images
from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.data import base as data
from giajax.models import base as models
from giajax.models import inspect
from giajax.tasks import base as tasks

# Filters of fewer weights resemble each other, or one pixel, by chance.
LEAST_WEIGHTS = 16
LEAST_PROBE = 8  # images; thresholds do not hold for fewer
_TINY = 1e-30


class Verdict(NamedTuple):
  """What one check says."""

  score: float
  flagged: bool
  evidence: str  # one sentence, with the layer's name and the numbers
  ran: bool = True  # whether there was anything to look at


Norms = dict[str, types.Array]


class Examples(NamedTuple):
  """What the single images of a probe would give away.

  Attributes:
    norms: `{name of a parameter: [B]}`, of each example's own gradient.
    inputs: [B, inputs] of the network's `reader`; no columns without one.
    outputs: [B, units] of it, before its activation.
    cotangents: [B, units], the sum's derivatives to these.
  """

  norms: Norms
  inputs: types.Array
  outputs: types.Array
  cotangents: types.Array


class View(NamedTuple):
  """What a client knows of the network.

  Attributes:
    net: the agreed one.
    accepted: the last weights that it accepted, or None.
    learning_rate: rate times local steps of a round, or None if unknown.
    examples: `(variables, probe) -> Examples` of `net`, in inference mode.
    statistics: `(variables, probe) -> {path: [2, C]}`, in training mode: mean
      and variance of what each layer that keeps running ones reads.
    training: `(variables, probe) -> {name of a parameter: []}`, norms of the
      probe's gradient in training mode; None without BatchNorm, where
      `examples` tells as much.
  """

  net: models.Net
  accepted: types.Variables | None
  learning_rate: float | None
  examples: Callable[[types.Variables, types.Batch], Examples]
  statistics: Callable[[types.Variables, types.Batch], dict[str, types.Array]]
  training: Callable[[types.Variables, types.Batch], Norms] | None


class Kernel(NamedTuple):
  """The weights of a convolution or a linear layer, as received."""

  name: str  # of its layer
  weight: np.ndarray  # [..., inputs, units]
  bias: np.ndarray | None  # [units]

  @property
  def rows(self) -> np.ndarray:
    """[units, inputs of one unit]."""
    return self.weight.reshape(-1, self.weight.shape[-1]).T


Verifier = Callable[[types.Array, types.ServerMessage, types.Batch], Verdict]


def view(
  net: models.Net,
  task: tasks.Task,
  *,
  accepted: types.Variables | None = None,
  learning_rate: float | None = None,
) -> View:
  """Returns what a client knows of a network.

  Args:
    net: the agreed one, made of giajax layers.
    task: its loss.
    accepted: the last weights that it accepted.
    learning_rate: rate times local steps of a round, if known.

  Raises:
    ValueError: a network that cannot tell its layers, or a rate that is not
      above 0.
  """
  if learning_rate is not None and not learning_rate > 0:
    raise ValueError(
      f'Expected learning_rate > 0; got learning_rate={learning_rate}; pass '
      'rate times local steps of the agreed training'
    )
  inspect.sites(net)
  examples = _remembered(jax.jit(_examples(net, task)))
  statistics = jax.jit(_statistics(net))
  batch_norm = inspect.has_batch_norm(net)
  training = jax.jit(_training(net, task)) if batch_norm else None
  return View(net, accepted, learning_rate, examples, statistics, training)


def check_probe(probe: types.Batch, net: models.Net) -> None:
  """Checks the images that a client tries a model on.

  Raises:
    ValueError: fewer than `LEAST_PROBE` images, another shape, values outside
      [0, 1], or labels that are no classes.
  """
  shape = tuple(probe.x.shape)
  wanted = net.spec.image_shape
  if len(shape) != 4 or shape[1:] != wanted or shape[0] < LEAST_PROBE:
    raise ValueError(
      f'Expected a probe of at least {LEAST_PROBE} images {wanted}; got '
      f'shape={shape}; raise --probe, or resize them'
    )
  images.check_range(probe.x, 'the probe')
  data.check_labels(probe.y, net.spec.num_classes)


def kernels(message: types.ServerMessage) -> Iterator[Kernel]:
  """Yields the received convolutions and linear layers, surplus ones too."""
  leaves = trees.named_leaves(models.whole(message.variables))
  for name, leaf in leaves.items():
    path, _, last = name.rpartition('.')
    if last == 'kernel' and leaf.ndim >= 2:
      bias = leaves.get(f'{path}.bias')
      bias = None if bias is None else np.asarray(bias)
      yield Kernel(path, np.asarray(leaf), bias)


def runnable(
  view: View, message: types.ServerMessage
) -> types.Variables | None:
  """Returns the received weights of `view.net`, None if some are missing.

  Surplus ones, of layers that this network lacks, are left out.
  """
  wanted = inspect.abstract_variables(view.net)
  return taken(message.variables, wanted)


def change(
  view: View, message: types.ServerMessage
) -> tuple[types.Variables, types.Variables] | Verdict:
  """Returns the accepted and the received weights, or why one is missing."""
  if view.accepted is None:
    return not_run('There are no weights accepted before.')
  new, old = runnable(view, message), view.accepted
  if new is None or (old := taken(old, new)) is None:
    return NOT_RUN
  return old, new


def tried(
  view: View, variables: types.Variables | None, probe: types.Batch
) -> Examples | Verdict:
  """Returns what the probe's images would give away, or why that is unknown.

  Numbers that overflow or are undefined are an objection of their own: no
  comparison with a threshold could tell them from small ones.

  Args:
    view: what the client knows.
    variables: of `view.net`, see `runnable`; None where weights are missing.
    probe: labelled images.
  """
  if variables is None:
    return NOT_RUN
  found = view.examples(variables, probe)
  parts = {f'the gradient of {n}': g for n, g in found.norms.items()}
  parts |= {
    f"the layer's {n}": a for n, a in found._asdict().items() if n != 'norms'
  }
  for name, numbers in parts.items():
    if not np.isfinite(np.asarray(numbers)).all():
      return Verdict(math.inf, True, f'On the probe, {name} is not finite.')
  return found


def taken(
  variables: types.Variables, wanted: types.Variables
) -> types.Variables | None:
  """Returns the part of variables that is like others, None if it is not."""
  parts = []
  for found, like in zip(variables, wanted):
    leaves = trees.named_leaves(found)
    for name, leaf in trees.named_leaves(like).items():
      if name not in leaves or leaves[name].shape != leaf.shape:
        return None
    parts.append(trees.like(like, leaves))
  return types.Variables(*parts)


def head(view: View, message: types.ServerMessage) -> Kernel | None:
  """Returns the received classifier, None where there is none."""
  tap = inspect.features(view.net)
  name = tap and tap.removesuffix('.input')
  return next((k for k in kernels(message) if k.name == name), None)


def largest(
  scores: dict[str, float], threshold: float, words: str, nothing: str
) -> Verdict:
  """Returns the verdict of a check that looks at layers one by one.

  Args:
    scores: of each layer, by name.
    threshold: above which a score is flagged.
    words: the sentence, with {name}, {score} and {limit}.
    nothing: the sentence where there is no layer.
  """
  if not scores:
    return not_run(nothing)
  name = max(scores, key=lambda n: scores[n])
  return verdict(scores[name], threshold, words, name=name)


def verdict(score: Any, threshold: float, words: str, **facts: Any) -> Verdict:
  """Returns a verdict; `words` may name {score}, {limit} and the facts."""
  score = float(score)
  flagged = not score <= threshold  # NaN is flagged
  text = words.format(score=f'{score:.3g}', limit=f'{threshold:.3g}', **facts)
  return Verdict(score, flagged, text)


def not_run(why: str) -> Verdict:
  """Returns the verdict of a check that has nothing to look at."""
  return Verdict(0.0, False, why, ran=False)


NOT_RUN = not_run('The weights are not those of the agreed network.')
NO_READER = not_run(
  'No linear layer but the classifier reads images as a whole.'
)


def drawn(key: types.Array, size: int, most: int) -> np.ndarray:
  """Returns indices of units to look at: all, or `most` that nobody foresees.

  Args:
    key: the check's.
    size: units.
    most: that are looked at.
  """
  if size <= most:
    return np.arange(size)
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  return rng.choice(size, most, replace=False)


def nearest(rows: np.ndarray) -> np.ndarray:
  """Returns the largest |cosine| of each row with another, [rows].

  Rows of zeros, which training may leave, are left out.
  """
  norms = np.linalg.norm(rows, axis=1)
  live = norms > 1e-6 * max(norms.max(initial=0.0), _TINY)
  unit = rows[live] / norms[live, None]
  if len(unit) < 2:
    return np.zeros(0)
  best = []
  for first in range(
    0, len(unit), 512
  ):  # of 4,096 units, not all pairs at once
    cosine = np.abs(unit[first : first + 512] @ unit.T)
    there = np.arange(len(cosine))
    cosine[there, first + there] = 0
    best.append(cosine.max(1))
  return np.minimum(np.concatenate(best), 1.0)


def reader(net: models.Net) -> str | None:
  """Returns the path of the first linear layer that reads an image as a whole.

  Its rows' gradients are sums of its inputs, which is what malicious weights
  isolate. None where the classifier is the only such layer.
  """
  tap = inspect.features(net)
  for path, site in inspect.sites(net).items():
    if site.kind == 'linear' and site.input.ndim == 2:
      return None if f'{path}.input' == tap else path
  return None


def _remembered(fn: Callable[..., Examples]) -> Callable[..., Examples]:
  """Returns `fn` with its last result kept: several checks ask for the same."""
  last: list[Any] = [(), None]

  def call(variables, probe):
    leaves = jax.tree.leaves((variables, probe))
    kept = last[0]
    same = len(leaves) == len(kept) and all(map(operator.is_, leaves, kept))
    if not same:
      last[:] = leaves, fn(variables, probe)
    return last[1]

  return call


def of_reader(
  view: View, judge: Callable[[str, Examples], Verdict]
) -> Verifier:
  """Returns the verifier that tries the model and looks at its `reader`.

  Args:
    view: what the client knows.
    judge: `(path of the reader, what the images give away) -> Verdict`.
  """
  path = reader(view.net)

  def verify(key, message, probe):
    del key
    if path is None:
      return NO_READER
    found = tried(view, runnable(view, message), probe)
    return found if isinstance(found, Verdict) else judge(path, found)

  return verify


def _examples(net: models.Net, task: tasks.Task):
  path = reader(net)

  def examples(variables: types.Variables, probe: types.Batch) -> Examples:
    def loss(params, x, y):
      out = net.apply(variables._replace(params=params), x, train=False)
      return clients.loss(task, out, y)

    # One after the other: only their norms are kept.
    def one(pair):
      own = jax.grad(loss)(variables.params, *(a[None] for a in pair))
      leaves = trees.named_leaves(own)
      return {n: jnp.sqrt(trees.squared_norm(g)) for n, g in leaves.items()}

    norms = jax.lax.map(one, (probe.x, probe.y))
    return Examples(norms, *_read(net, task, path, variables, probe))

  return examples


def _read(net, task, path, variables, probe):
  """Returns inputs, outputs and cotangents of a layer."""
  if path is None:
    return (jnp.zeros((len(probe.x), 0)),) * 3

  def run(offsets):
    return net.probe(variables, probe.x, offsets)

  shapes = jax.eval_shape(lambda: run(None)[2])
  zeros = {k: jnp.zeros(s.shape, s.dtype) for k, s in shapes.items()}

  def loss(offset):
    output, sites, outputs = run({**zeros, path: offset})
    value = clients.loss(task, output, probe.y) * len(probe.y)
    return value, (sites[path].input, outputs[path])

  cotangents, seen = jax.grad(loss, has_aux=True)(zeros[path])
  return (*seen, cotangents)


def _training(net: models.Net, task: tasks.Task):
  def norms(variables: types.Variables, probe: types.Batch) -> Norms:
    def loss(params):
      # Any key will do: what dropout draws is no secret.
      key, own = jax.random.key(0), variables._replace(params=params)
      out = net.apply(own, probe.x, train=True, key=key)
      return clients.loss(task, out, probe.y)

    leaves = trees.named_leaves(jax.grad(loss)(variables.params))
    return {n: jnp.sqrt(trees.squared_norm(g)) for n, g in leaves.items()}

  return norms


def _statistics(net: models.Net):
  stats = trees.named_leaves(inspect.abstract_variables(net).stats)
  paths = [n.removesuffix('.mean') for n in stats if n.endswith('.mean')]
  taps = [f'{path}.input' for path in paths]

  def statistics(variables, probe):
    # Any key will do: what dropout draws is no secret.
    key = jax.random.key(0)
    out = net.apply(variables, probe.x, train=True, taps=taps, key=key)

    def moments(x):
      axes = tuple(range(x.ndim - 1))
      return jnp.stack([x.mean(axes), x.var(axes)])

    return {path: moments(out.taps[f'{path}.input']) for path in paths}

  return statistics
