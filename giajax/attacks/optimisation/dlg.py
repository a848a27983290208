"""Deep Leakage from Gradients: pixels and soft labels by L-BFGS.

Zhu, Liu and Han, Deep Leakage from Gradients, NeurIPS 2019, arXiv 1906.08935.

Assumed known: the model and the batch size. Solves (eq. 4)

  min over x, y  |grad(x, softmax(y)) - observed|^2

Differs from the authors' code: optax's L-BFGS with its zoom line search
replaces torch's, which has a fixed step; the objective is half the squared
norm, as elsewhere here; the iterate of lowest objective is kept.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import variables


def dlg(
  world: worlds.World,
  *,
  num_steps: int = 2000,
  memory_size: int = 300,
  max_linesearch_steps: int = 20,
  start: str = 'normal',
) -> base.Attack:
  """Pixels and soft labels by L-BFGS on the squared gradient difference.

  Args:
    world: the attacker's picture of the system.
    num_steps: the number of L-BFGS iterations.
    memory_size: the number of pairs that L-BFGS remembers.
    max_linesearch_steps: the evaluations that a line search may take.
    start: see `starts.parse`.
  """
  return match.match_by_lbfgs(
    world,
    variable=variables.pixels(world, start=start, box=False, joint=True),
    num_steps=num_steps,
    memory_size=memory_size,
    max_linesearch_steps=max_linesearch_steps,
  )
