"""CPL: tiled starts, L-BFGS, and the loss of the network's own task.

Wei, Liu, Loper, Chow, Gursoy, Truex and Wu, A Framework for Evaluating Gradient
Leakage Attacks in Federated Learning, ESORICS 2020, arXiv 2004.10397, in the
form of breaching, the framework of Geiping et al. (2021-2022).

Assumed known: the model, the batch size and the labels. Solves

  min over x in [0, 1]  1/2 |g(x) - g*|^2 + a L(x)

by L-BFGS, with L the cross-entropy of the network for the known labels.
Defaults are the framework's: 300 steps, a = 1, tiles of 16 pixels, 100
remembered pairs.

Differs from the paper, where L is the squared difference of prediction and
label. Differs from the framework's code: optax's L-BFGS with its zoom line
search replaces torch's, whose step holds up to 20 iterations of fixed size;
neither the pairs nor the line search take the projection onto images into
account, as in the framework.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import variables
from giajax.priors import task_loss as losses


def wei(
  world: worlds.World,
  *,
  num_steps: int = 300,
  task_loss: float = 1.0,
  memory_size: int = 100,
  max_linesearch_steps: int = 20,
  start: str = 'tiled:16',
) -> base.Attack:
  """Squared gradient difference and task loss, by L-BFGS from tiled noise.

  Args:
    world: the attacker's picture of the system.
    num_steps: the number of L-BFGS iterations.
    task_loss: the weight of the prior; traced.
    memory_size: the number of pairs that L-BFGS remembers.
    max_linesearch_steps: the evaluations that a line search may take.
    start: see `starts.parse`.
  """
  return match.match_by_lbfgs(
    world,
    variable=variables.pixels(world, start=start),
    terms={'task_loss': (task_loss, losses.task_loss(world))},
    num_steps=num_steps,
    memory_size=memory_size,
    max_linesearch_steps=max_linesearch_steps,
  )
