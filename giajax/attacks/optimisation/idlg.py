"""iDLG: the label from the sign of the last layer, then the pixels.

Zhao, Mopuri and Bilen, iDLG: Improved Deep Leakage from Gradients, 2020,
arXiv 2001.02610.

Assumed known: the model, and that the batch has one image. The label is the
class whose last-layer gradient is negative (`labels.idlg`). Then solves

  min over x  1/2 |g(x) - g*|^2

by L-BFGS, as in DLG.

Differs from the authors' code as `dlg` does.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import labels
from giajax.attacks.parts import match
from giajax.attacks.parts import variables


def idlg(
  world: worlds.World,
  *,
  num_steps: int = 2000,
  memory_size: int = 300,
  max_linesearch_steps: int = 20,
  start: str = 'normal',
) -> base.Attack:
  """The label from the sign of the last layer, then the pixels by L-BFGS.

  Args:
    world: the attacker's picture of the system, with batch_size 1.
    num_steps: the number of L-BFGS iterations.
    memory_size: the number of pairs that L-BFGS remembers.
    max_linesearch_steps: the evaluations that a line search may take.
    start: see `starts.parse`.

  Raises:
    ValueError: a batch of more than one image.
  """
  attack = match.match_by_lbfgs(
    world,
    variable=variables.pixels(world, start=start, box=False),
    num_steps=num_steps,
    memory_size=memory_size,
    max_linesearch_steps=max_linesearch_steps,
  )
  return compose.with_labels(attack, labels.idlg(world))
