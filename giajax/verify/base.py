"""Verifier: what a client can tell about a model before it trains it.

A verifier is a function `(key, message, probe) -> Verdict`, made by a factory
`foo(view, *, threshold=...)`. It sees what a client sees: the network that was
agreed on, the weights that arrived, the weights that the client accepted last,
and the client's own labelled images. The key is consumed.

A score is a number >= 0 in the unit that the check's docstring names. Higher is
more suspicious, and 0 stands for a check that has nothing to look at. A verdict
is flagged where the score exceeds the threshold.

The default thresholds are measured. Each is the larger of two 99 % quantiles,
one over fresh and one over trained honest models, rounded up, from one run of
`python -m giajax.verify.calibration.thresholds`; no attack was considered. The
models were 19 rows of the zoo, most of them shrunk, with 8 fresh weights each;
25 checkpoints of 8 small networks in epochs 1 to 8 of CIFAR-10 (MLPs, LeNet, a
ResNet, a VGG and a ViT); and published weights of ResNet-20, -32, -44 and -56
for CIFAR-10 and of MobileNetV2 for ImageNet. A probe was 16 test images of
CIFAR-10, or photographs for MobileNetV2. By construction each check alone
objected to at most 1 % of these models. At least one check objected to 0.7 % of
the 152 fresh check-ups and to 0.8 % of the 120 trained ones
(`configs/studies/results/thresholds.md`). YOLOv8 was looked at later: the
checks of `OF_CLASSIFIERS` object to trained ones and leave them out, and of the
others none objected to 28 fresh and 10 trained check-ups, too few to say more.
`sign_split` got its threshold from fresh ones. Networks from federated rounds
were not among them. On probes of 2 to 4 images some checks object to most
honest models, so a probe of fewer than `LEAST_PROBE` images is refused.

Checks that try the model run it in inference mode, with the BatchNorm buffers
that the server sent. A client in training mode normalises by its own batch
instead. A server could therefore send huge running variances, which make all
images look alike to these checks and change nothing for such a client. That is
what `running_statistics` looks for, up to its threshold per layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from giajax import images
from giajax import types
from giajax.models import base as models
from giajax.models import inspect
from giajax.tasks import base as tasks
from giajax.verify.parts import passes

# Filters of fewer weights resemble each other, or a single pixel, by chance.
LEAST_WEIGHTS = 16
LEAST_PROBE = 8  # images; the thresholds do not hold for fewer
# Checks that object to honest trained detectors.
OF_CLASSIFIERS = frozenset(('dsnr', 'proportional_rows', 'scale'))


class Verdict(NamedTuple):
  """What one check says.

  Attributes:
    score: in the unit of the check, >= 0; infinite where numbers overflowed.
    flagged: whether the score exceeds the threshold.
    evidence: one sentence, with the layer's name and the numbers.
    ran: whether there was anything to look at.
  """

  score: float
  flagged: bool
  evidence: str
  ran: bool = True


class View(NamedTuple):
  """What a client knows about the network.

  Attributes:
    net: the network that was agreed on.
    task: the task, for its loss.
    classifier: the path of the linear layer whose outputs are the classes of
      the task, or None.
    accepted: the weights that the client accepted last, or None.
    learning_rate: the learning rate times the local steps of a round, or None
      if the client does not know it.
    examples: a function that returns what each image of a probe would give
      away, in inference mode.
    statistics: a function that returns the mean and the variance of what each
      layer with running statistics reads, [2, C] by the layer's path, in
      training mode.
    training: a function that returns the norms of the probe's gradient in
      training mode, by parameter; None without BatchNorm, because `examples`
      gives the same.
  """

  net: models.Net
  task: tasks.Task
  classifier: str | None
  accepted: types.Variables | None
  learning_rate: float | None
  examples: Callable[[types.Variables, types.Batch], passes.Examples]
  statistics: Callable[[types.Variables, types.Batch], passes.Statistics]
  training: Callable[[types.Variables, types.Batch], passes.Norms] | None


Verifier = Callable[[types.Array, types.ServerMessage, types.Batch], Verdict]
# A row of VERIFIERS: `(view, *, threshold) -> Verifier`.
Factory = Callable[..., Verifier]


def view(
  net: models.Net,
  task: tasks.Task,
  *,
  accepted: types.Variables | None = None,
  learning_rate: float | None = None,
) -> View:
  """Returns what a client knows about a network.

  Args:
    net: the network that was agreed on.
    task: the task, for its loss.
    accepted: the weights that the client accepted last.
    learning_rate: the learning rate times the local steps of a round, if known.

  Raises:
    ValueError: another task than classification or detection, the network
      cannot report its layers, or the learning rate is not above 0.
  """
  if not task.exclusive and 'boxes' not in task.facts:
    raise ValueError(
      'Expected the task classification or detection for a check of what was '
      'received; got another, on which no threshold was measured; leave verify '
      'out'
    )
  if learning_rate is not None and not learning_rate > 0:
    raise ValueError(
      f'Expected learning_rate > 0; got learning_rate={learning_rate}; pass '
      'learning rate times local steps of the agreed training'
    )
  inspect.sites(net)
  batch_norm = inspect.has_batch_norm(net)
  tap = inspect.features(net) if task.exclusive else None
  return View(
    net=net,
    task=task,
    classifier=tap and tap.removesuffix('.input'),
    accepted=accepted,
    learning_rate=learning_rate,
    examples=passes.remember(jax.jit(passes.examples(net, task))),
    statistics=jax.jit(passes.statistics(net)),
    training=jax.jit(passes.training(net, task)) if batch_norm else None,
  )


def check_probe(probe: types.Batch, net: models.Net, task: tasks.Task) -> None:
  """Checks the images that a client tries a model on.

  Args:
    probe: x [B, H, W, C] in [0, 1] and targets of the task.
    net: the network that was agreed on.
    task: the task.

  Raises:
    ValueError: fewer than `LEAST_PROBE` images, images of another shape, values
      outside [0, 1], or targets that the task refuses.
  """
  shape, image_shape = tuple(probe.x.shape), net.spec.image_shape
  if len(shape) != 4 or shape[1:] != image_shape or shape[0] < LEAST_PROBE:
    raise ValueError(
      f'Expected a probe of at least {LEAST_PROBE} images {image_shape}; got '
      f'shape={shape}; take more images, or resize them'
    )
  images.check_range(probe.x, 'the probe')
  task.check(probe.y, shape[0])


def verdict(score: Any, threshold: float, words: str, **facts: Any) -> Verdict:
  """Returns the verdict on a score.

  Args:
    score: a number; NaN is flagged.
    threshold: the score above which it is flagged.
    words: the sentence, in which {score}, {limit} and the facts are filled in.
    **facts: further values that the sentence names.
  """
  score = float(score)
  flagged = not score <= threshold  # NaN is flagged
  text = words.format(score=f'{score:.3g}', limit=f'{threshold:.3g}', **facts)
  return Verdict(score, flagged, text)


def worst_layer(
  scores: dict[str, float], threshold: float, words: str, nothing: str
) -> Verdict:
  """Returns the verdict of a check that looks at layers one by one.

  Args:
    scores: the score of each layer, by its name.
    threshold: the score above which a layer is flagged.
    words: the sentence, with {name}, {score} and {limit}.
    nothing: the sentence if there is no layer.
  """
  if not scores:
    return not_run(nothing)
  name = max(scores, key=lambda n: scores[n])
  return verdict(scores[name], threshold, words, name=name)


def not_run(why: str) -> Verdict:
  """Returns the verdict of a check that has nothing to look at."""
  return Verdict(0.0, False, why, ran=False)


OTHER_WEIGHTS = not_run('The weights are not those of the agreed network.')
UNMEASURED = not_run('Its threshold is for classifiers.')
NO_READER = not_run(
  'No linear layer but the classifier reads images as a whole.'
)
