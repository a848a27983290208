"""Running statistics that are not those of the images.

In training mode BatchNorm (Ioffe and Szegedy, ICML 2015, arXiv 1502.03167)
normalises by the batch and leaves the received mean m and variance v unused; in
inference mode it normalises by these. A server that sends huge ones makes every
image look alike to the checks that try the model, and harms no client that
trains. With m_B and v_B the mean and variance of what the layer reads of the
probe in training mode, where received statistics do not reach later layers, a
channel is

  max(log10 sqrt((v + (m - m_B)^2 + e) / (v_B + e)),   images look too alike
      log10 sqrt((v_B + e) / (v + e)))                 or too different

decades off, with torch's e = 1e-5: that is, by how much inference mode
normalises differently from training mode. A layer is as far off as its worst
channel.

Trained models are 0.1 to 0.3 decades off. Fresh ones, whose statistics are 0
and 1 whatever comes in, are 0.3 to 1.5, GoogLeNet 2, by their initialisation.
The score, in decades, is therefore how much further off a layer is than the
same layer with weights that the client draws itself: 0 for trained models, and
up to 0.6 for fresh ones, by chance.

It does not see statistics that are off by up to the threshold in every layer,
whose effects multiply in a deep network, nor those that a fresh network would
explain. A channel that no image of the probe reaches has v_B = 0, so the check
objects to an honest v far above e; a larger probe tells the two apart.
"""

import math

import numpy as np

from giajax import trees
from giajax import types
from giajax.models import inspect
from giajax.verify import base
from giajax.verify.parts import weights

_EPSILON = 1e-5


def running_statistics(
  view: base.View, *, threshold: float = 0.7
) -> base.Verifier:
  """Running means and variances, against those of the client's own images.

  Args:
    view: what the client knows.
    threshold: the largest score that is accepted, in decades.
  """
  keeps = inspect.has_batch_norm(view.net)

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    if not keeps:
      return base.not_run('No layer keeps running statistics.')
    variables = weights.agreed_variables(view, message)
    if variables is None:
      return base.OTHER_WEIGHTS
    fresh = trees.widened(view.net.init(key))
    decades, usual = (_off(view, v, probe) for v in (variables, fresh))
    scores = {p: max(0.0, d - usual[p]) for p, d in decades.items()}
    return base.worst_layer(
      scores,
      threshold,
      'In {name} inference mode normalises 10^{score} times further off than '
      'in a fresh network (limit 10^{limit}).',
      'No layer keeps running statistics.',
    )

  return verify


def _off(
  view: base.View, variables: types.Variables, probe: types.Batch
) -> dict[str, float]:
  """Returns by how many decades each layer is off; inf if that is undefined."""
  buffers, decades = trees.named_leaves(variables.stats), {}
  for path, own in view.statistics(variables, probe).items():
    own_mean, own_var = np.asarray(own, float)
    mean, var = (
      np.asarray(buffers[f'{path}.{kind}'], float) for kind in ('mean', 'var')
    )
    finite = np.isfinite([own_mean, own_var, mean, var]).all()
    if not finite or var.min() < 0:
      decades[path] = math.inf
      continue
    own_var, wide = own_var + _EPSILON, var + np.square(mean - own_mean)
    ratios = (wide + _EPSILON) / own_var, own_var / (var + _EPSILON)
    decades[path] = math.log10(np.maximum(*ratios).max()) / 2
  return decades
