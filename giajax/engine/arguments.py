"""What the compiled part of an experiment is called with."""

import jax
import numpy as np

from giajax import types
from giajax.attacks import base as attacks
from giajax.engine import experiment
from giajax.engine import mesh
from giajax.engine import plan
from giajax.engine import program as programs

Inputs = tuple[
  types.ServerMessage, types.Observation, types.HParams, types.Array
]


def layout(setup: experiment.Setup, items: int) -> mesh.Layout:
  """Returns how items of a setting and their restarts lie on devices.

  Args:
    setup: the setting.
    items: the number of items that run together.
  """
  return mesh.layout(
    items,
    setup.restarts,
    setup.run.restarts_per_batch or programs.restarts_per_batch(setup.world),
    together=setup.attack.group,
  )


def of_part(
  part: plan.Part, obs: types.Observation, where: mesh.Layout
) -> Inputs:
  """Returns (message, obs, hp, seeds) as global arrays, items padded.

  Args:
    part: the part.
    obs: what the attacker sees of its items, [N, ...], except for the message
      of an honest server, which they share.
    where: the layout of the program.
  """
  work, setup = part.work, part.cohort.setup
  pad = where.items - len(work)

  def padded(leaf):
    if not pad:  # an update may be gigabytes
      return leaf
    return np.concatenate([leaf, np.repeat(leaf[-1:], pad, axis=0)])

  hp = {
    name: np.stack([w.point.hp[name] for w in work])
    for name in setup.attack.hparams
  }
  message = types.NO_MESSAGE
  if setup.attack.craft is attacks.honest:
    message, obs = obs.message, obs._replace(message=message)
  obs, hp = jax.tree.map(padded, (obs, hp))
  seeds = programs.seeds(
    setup.seed,
    [w.case for w in work],
    [w.control for w in work],
    where,
  )
  item = mesh.P(mesh.ITEM)
  return (
    mesh.put(message, where, mesh.P()),
    mesh.put(obs, where, item),
    mesh.put(hp, where, item),
    mesh.put(seeds, where, mesh.P(mesh.ITEM, mesh.RESTART)),
  )
