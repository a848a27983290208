"""Cosine matching with BatchNorm statistics, against clients that train.

In training mode BatchNorm couples a batch, and a gradient alone is matched by
images with other statistics. Three attacks of Valadi et al., Practical
Feasibility of Gradient Inversion Attacks in Federated Learning, 2025, arXiv
2508.19819, add what else a server may know (`priors.bn_statistics`).

Assumed known: the model, the batch size, the labels and, for R, what the row
names. Solves

  min over x in [0, 1]  1 - cos(g(x), g*) + a TV(x) + b R(x)

  huang      R towards the buffers that the client sent back (their baseline,
             after Huang et al., NeurIPS 2021, arXiv 2112.00059)
  running    R towards the statistics of the client's batch, computed from the
             buffers before and after
  estimate   R towards those of a proxy batch; also without BatchNorm

by Adam on the sign of the gradient with the steps of `inverting_gradients`.
Defaults are theirs: 10,000 steps, learning rate 0.1, a = 0.052, b = 1.6e-4.

Differs from the authors' code: the result is the iterate of lowest objective,
not the one most similar to the truth.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.priors import bn_statistics as statistics
from giajax.priors import total_variation as variation


def bn_statistics_matching(
  world: worlds.World,
  *,
  source: str,
  num_steps: int = 10_000,
  learning_rate: float = 0.1,
  total_variation: float = 0.052,
  bn_statistics: float = 1.6e-4,
  momentum: float | None = None,
  start: str = 'normal',
  form: str = 'auto',
) -> base.Attack:
  """Cosine matching with total variation and BatchNorm statistics.

  Args:
    world: the attacker's picture of the system.
    source: the source of the statistics, a name in
      `priors.bn_statistics.SOURCES`.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    total_variation: the weight of the prior; traced.
    bn_statistics: the weight of the prior; traced.
    momentum: the momentum of the BatchNorm layers, in (0, 1]; None for the
      network's own.
    start: see `starts.parse`.
    form: see `match`.

  Raises:
    ValueError: see `priors.bn_statistics`.
  """
  attack = match.match(
    world,
    variable=variables.pixels(world, start=start),
    distance='cosine',
    terms={
      'total_variation': (total_variation, variation.total_variation(world)),
      'bn_statistics': (
        bn_statistics,
        statistics.bn_statistics(world, source=source, momentum=momentum),
      ),
    },
    optimizer=optimizers.signed_adam(num_steps),
    num_steps=num_steps,
    learning_rate=learning_rate,
    form=form,
  )
  return attack._replace(steady=optimizers.STEADY)
