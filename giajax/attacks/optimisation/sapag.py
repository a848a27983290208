"""SAPAG: a Gaussian kernel of the gradient difference as the distance.

Wang, Deng, Guo, Wang, Meng, Liu, Ding and Rajasekaran, SAPAG: A Self-Adaptive
Privacy Attack From Gradients, 2020, arXiv 2009.06228.

Assumed known: the model, the batch size and the labels. Solves

  min over x in [0, 1]  mean over leaves l of 1 - exp(-|g_l - g*_l|^2 / s_l^2)

by Adam.

Differs from the paper in unknown ways: it is written from the abstract. These
are ours: the width s_l, which is the observed leaf's norm, the equal weight of
all leaves, the optimiser, its steps and its learning rate.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables


def sapag(
  world: worlds.World,
  *,
  num_steps: int = 4_000,
  learning_rate: float = 0.1,
  start: str = 'normal',
  form: str = 'auto',
) -> base.Attack:
  """A Gaussian kernel of the gradient difference, by Adam.

  Args:
    world: the attacker's picture of the system.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    start: see `starts.parse`.
    form: see `match`.
  """
  attack = match.match(
    world,
    variable=variables.pixels(world, start=start),
    distance='gaussian',
    optimizer=optimizers.adam(optimizers.step_decay(num_steps)),
    num_steps=num_steps,
    learning_rate=learning_rate,
    form=form,
  )
  return attack._replace(steady=optimizers.STEADY)
