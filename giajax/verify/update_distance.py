"""A change since the last accepted model that no training would make.

One round of honest training moves every layer by a rate times gradients of some
data. Those of the client's own probe say how far: with D_l the change of layer
l's kernel and g_l the larger of the mean norm of the probe's images' gradients
and, with BatchNorm, the norm of the probe's gradient in training mode, at the
accepted or the received weights, whichever gives more,

  r_l = |D_l| / |g_l|

is about rate times steps, in each layer; a tenth of the layers' median stands
in for smaller gradients. The score is the decimal logarithm of the largest r_l
over the median of the others: by how much one layer's change stands out. No
rate need be known. Where the client knows rate times steps, it is
log10(max_l r_l / that), which also sees a model that is replaced as a whole.
Where most layers with a gradient did not move at all, the median is 0, and the
score is large.

Fresh ConvNeXts reach 1.5 and set the threshold; all other honest models are
below 0.8. With a known rate none of 252 honest check-ups exceeds 0.7 (`python
-m giajax.verify.calibration.thresholds --only=update_distance --known_rate`).

Frozen parameters, which no honest server changes, are compared exactly: any
difference is flagged. Of the others only kernels are looked at.

It needs the last accepted weights, and does not run without them. It does not
see changes spread over many rounds, nor most of those that hide behind an
honest round's own: of trap weights at half their strength it sees all, at a
tenth few (`configs/studies/results/detection.md`).
"""

import math

import numpy as np

from giajax import archives
from giajax import trees
from giajax import types
from giajax.verify import base

_TINY = 1e-12
_FLOOR = 0.1


def update_distance(
  view: base.View, *, threshold: float = 1.5
) -> base.Verifier:
  """The distance to the last accepted model against a plausible update.

  Args:
    view: what the client knows.
    threshold: decades, see above.
  """
  learning_rate = view.learning_rate

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key
    pair = base.change(view, message)
    if isinstance(pair, base.Verdict):
      return pair
    old, new = pair
    fixed = _changed(old.frozen, new.frozen)
    if fixed:
      text = f'{archives.listed(fixed)} changed, though frozen.'
      return base.Verdict(math.inf, True, text)
    # Behind a classifier of zeros, layers have a gradient only once it moved.
    gradients = []
    for variables in (old, new):
      found = base.tried(view, variables, probe)
      if isinstance(found, base.Verdict):
        return found
      sizes = {n: float(np.mean(g)) for n, g in found.norms.items()}
      if view.training is not None:
        trained = view.training(variables, probe)
        sizes = {n: float(np.maximum(g, trained[n])) for n, g in sizes.items()}
      if not np.isfinite([*sizes.values()]).all():
        text = 'On the probe, gradients in training mode are not finite.'
        return base.Verdict(math.inf, True, text)
      gradients.append(sizes)
    first, last = gradients
    before, after = map(trees.named_leaves, (old.params, new.params))
    moved = {
      name: float(np.linalg.norm(np.asarray(after[name] - before[name])))
      for name in first
      if name.endswith('kernel')
    }
    sizes = {name: max(first[name], last[name]) for name in moved}
    floor = max(_FLOOR * float(np.median([*sizes.values()] or [0.0])), _TINY)
    rates = {
      name: distance / max(sizes[name], floor)
      for name, distance in moved.items()
      if distance or first[name] > _TINY
    }
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


def _changed(old: types.Tree, new: types.Tree) -> list[str]:
  """Returns the names of leaves that are not the same."""
  before = trees.named_leaves(old)
  return [
    name
    for name, leaf in trees.named_leaves(new).items()
    if not np.array_equal(before[name], leaf)
  ]
