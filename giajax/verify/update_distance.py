"""A change since the last accepted model that no training would make.

One round of honest training moves every layer by a learning rate times
gradients of some data. The gradients of the client's own probe give the scale.
With D_l the change of layer l's kernel and |g_l| the mean norm of the gradients
of the probe's images or, with BatchNorm, the norm of the probe's gradient in
training mode if that is larger,

  r_l = |D_l| / |g_l|

is about learning rate times steps, in each layer. |g_l| is taken at the
accepted or at the received weights, whichever is larger, and at least a tenth
of the layers' median. The score, in decades, is the decimal logarithm of the
largest r_l over the median of the others: by how much one layer's change stands
out. This needs no knowledge of the learning rate. If the client knows the
learning rate times the steps, that product stands in for the median, and the
check also sees a model that is replaced as a whole. If most layers with a
gradient did not move at all, the median is 0 and the score is large.

Fresh ConvNeXts reach 1.5 and set the threshold; all other honest models are
below 0.8. With a known rate none of 252 honest check-ups exceeds 0.7 (`python
-m giajax.verify.calibration.thresholds --only=update_distance --known_rate`).

Frozen parameters, which no honest server changes, are compared exactly: any
difference is flagged. Of the other parameters only kernels are looked at.

The bound by gradients of the client's images is a rule of this package, without
a paper behind it. The check does not run without the weights that were accepted
last. It does not see changes that are spread over many rounds, nor most of
those that hide behind the changes of an honest round: it sees all trap weights
at half their strength, and few at a tenth
(`configs/studies/results/detection.md`).
"""

from collections.abc import Mapping
import math

import numpy as np

from giajax import archives
from giajax import trees
from giajax import types
from giajax.verify import base
from giajax.verify.parts import trial
from giajax.verify.parts import weights

_TINY = 1e-12
_FLOOR = 0.1


def update_distance(
  view: base.View, *, threshold: float = 1.5
) -> base.Verifier:
  """The distance to the last accepted model, compared with a plausible update.

  Args:
    view: what the client knows.
    threshold: the largest score that is accepted, in decades.
  """
  learning_rate = view.learning_rate

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key
    pair = weights.change(view, message)
    if isinstance(pair, base.Verdict):
      return pair
    before, after = pair
    changed = _different(before.frozen, after.frozen)
    if changed:
      text = f'{archives.listed(changed)} changed, though frozen.'
      return base.Verdict(math.inf, True, text)
    # Below a classifier of zeros, layers have a gradient only once it has
    # moved.
    first, last = (_gradients(view, variables, probe) for variables in pair)
    if isinstance(first, base.Verdict):
      return first
    if isinstance(last, base.Verdict):
      return last
    rates = _rates(_distances(before.params, after.params), first, last)
    if not rates:
      return base.not_run('No layer has a gradient.')
    name = max(rates, key=lambda n: rates[n])
    others = [rate for n, rate in rates.items() if n != name]
    usual = learning_rate or float(np.median(others or [rates[name]]))
    score = np.log10(max(rates[name], _TINY) / max(usual, _TINY))
    return base.verdict(
      max(0.0, score),
      threshold,
      '{name} moved 10^{score} times as far as {what}, by the gradients of the '
      'probe (limit 10^{limit}).',
      name=name,
      what='the rate says' if learning_rate else 'the other layers did',
    )

  return verify


def _gradients(
  view: base.View, variables: types.Variables, probe: types.Batch
) -> dict[str, float] | base.Verdict:
  """Returns |g_l| by parameter, or why it is unknown."""
  examples = trial.examples(view, variables, probe)
  if isinstance(examples, base.Verdict):
    return examples
  sizes = {n: float(np.mean(g)) for n, g in examples.norms.items()}
  if view.training is not None:
    trained = view.training(variables, probe)
    sizes = {n: float(np.maximum(g, trained[n])) for n, g in sizes.items()}
  if not np.isfinite([*sizes.values()]).all():
    text = 'On the probe, gradients in training mode are not finite.'
    return base.Verdict(math.inf, True, text)
  return sizes


def _distances(before: types.Tree, after: types.Tree) -> dict[str, float]:
  """Returns |D_l| of every kernel."""
  old, new = map(trees.named_leaves, (before, after))
  return {
    name: float(np.linalg.norm(np.asarray(new[name] - leaf)))
    for name, leaf in old.items()
    if name.endswith('kernel')
  }


def _rates(
  distances: Mapping[str, float],
  first: Mapping[str, float],
  last: Mapping[str, float],
) -> dict[str, float]:
  """Returns r_l of the kernels that moved, or that have a gradient."""
  sizes = {name: max(first[name], last[name]) for name in distances}
  floor = max(_FLOOR * float(np.median([*sizes.values()] or [0.0])), _TINY)
  return {
    name: distance / max(sizes[name], floor)
    for name, distance in distances.items()
    if distance or first[name] > _TINY
  }


def _different(old: types.Tree, new: types.Tree) -> list[str]:
  """Returns the names of leaves that are not the same."""
  before = trees.named_leaves(old)
  return [
    name
    for name, leaf in trees.named_leaves(new).items()
    if not np.array_equal(before[name], leaf)
  ]
