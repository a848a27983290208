"""Task loss: the network recognises the candidate.

  L(x) = loss(network(x), y)

in the pass that the matching loss makes, for the labels that the candidate
has: a prior towards images that the network classifies as they are labelled.
"""

from giajax import world as worlds
from giajax.priors import base


def task_loss(world: worlds.World) -> base.Term:
  """The network recognises the candidate.

  Args:
    world: the attacker's picture of the system, for its task.
  """

  def value(key, batch, aux, obs):
    del key, obs
    return world.task.loss(aux.out, batch.y)

  return base.Term(value)
