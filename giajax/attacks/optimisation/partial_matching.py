"""Partial matching: some of the gradient's entries, and flat minima.

The two ideas of FedLeak: Fan, Wang, Chen and Zhou, Boosting Gradient Leakage
Attacks: Data Reconstruction in Realistic FL Settings, USENIX Security 2025,
arXiv 2506.08435. It matches only a part of the gradient's entries, and
penalises the norm of the matching loss's gradient to the images; both are
approximated there.

Assumed known: the model, the batch size and the labels. Solves

  min over x in [0, 1]  D(x) + c |dD/dx| + a TV(x),  D = 1 - cos(m g(x), m g*)

by Adam on the sign of the gradient. A step takes two derivatives of the
matching loss, and forms the gradient.

Differs from the paper in unknown ways: it is written from the abstract and a
review, and is not a reproduction. These are ours: the mask m, which keeps the
entries of largest observed size in each leaf, the approximation of the penalty
(`optimizers.flat`), TV, Adam on signs and all defaults.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import distances
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.priors import total_variation as variation


def partial_matching(
  world: worlds.World,
  *,
  num_steps: int = 10_000,
  learning_rate: float = 0.1,
  total_variation: float = 0.01,
  fraction: float = 0.5,
  penalty: float = 0.5,
  radius: float = 0.1,
  start: str = 'normal',
) -> base.Attack:
  """Cosine of the largest entries, towards flat minima, by signed Adam.

  Args:
    world: the attacker's picture of the system.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    total_variation: the weight of the prior; traced.
    fraction: the part of each leaf's entries that is matched, in (0, 1].
    penalty: see `optimizers.flat`, in [0, 1]; c is penalty x radius.
    radius: see `optimizers.flat`, > 0, in units of the normalised images.
    start: see `starts.parse`.

  Raises:
    ValueError: see `distances.on_entries` and `optimizers.flat`.
  """
  attack = match.match(
    world,
    variable=variables.pixels(world, start=start),
    distance=distances.on_entries('cosine', fraction),
    terms={
      'total_variation': (total_variation, variation.total_variation(world))
    },
    optimizer=optimizers.adam(
      optimizers.step_decay(num_steps),
      before=[optimizers.flat(penalty, radius), optimizers.signed()],
    ),
    num_steps=num_steps,
    learning_rate=learning_rate,
  )
  return attack._replace(steady=optimizers.STEADY)
