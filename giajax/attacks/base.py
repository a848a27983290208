"""Attack: three pure functions and what they need to know.

An attack is made by a factory `foo(world, *, ...) -> Attack` from the
attacker's picture of the world, and run by anyone who scans its `step`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from giajax import trees
from giajax import types
from giajax.models import base as models

# What the server saw in earlier rounds, and what else it knows.
History = tuple[types.Observation, ...]
Side = Mapping[str, Any]
Craft = Callable[
  [types.Array, types.ServerMessage, Side, History], types.ServerMessage
]


def last(history: History) -> types.Observation:
  """The `merge` of an attack that needs no other round."""
  return history[-1]


class Attack(NamedTuple):
  """A gradient inversion attack.

  Attributes:
    craft: `(key, message, side, history) -> ServerMessage`, what the server
      sends to one client instead of `message`. `side` is the side knowledge of
      its Observation, `history` what it saw in earlier rounds. The key is
      consumed. An honest server has `honest` here.
    init: `(key, obs, hp) -> State`; the key is consumed.
    step: `(key, state, obs, hp) -> (State, Info)`. The state is a fixed point
      in structure, shape, dtype and weak type. A step that meets a NaN or an
      infinity says so in `info.finite` and leaves what `read` uses unchanged.
    read: `(state, obs, hp) -> Reconstruction`; its score is the attacker's
      own, lower is better.
    num_steps: the number of steps T; 0 for closed forms, which do everything in
      `read`.
    num_rounds: the number of rounds of communication; in all of them the client
      works on the same batch.
    hparams: the default values of the traced knobs `hp`. A knob that is also an
      argument of the attack's factory has the name and the value of that
      argument.
    needs: the grants (`threat.GRANTS`) that it uses.
    on_net: `(net) -> net`, the network that the server gives the client to
      train instead of the agreed one, with the same parameters and more; None
      if the server leaves it alone.
    group: whether the restarts of an item work together: `step` and `read` run
      under a vmapped axis `world.RESTARTS` over all of them, and on one device.
    merge: `(history) -> Observation`, what `init`, `step` and `read` see, made
      of the Observations of all rounds; the last one by default.
    blind_start: whether what it reads at its start knows nothing of the update,
      so that it is a baseline. That of closed forms does, even of those that
      take steps.
    steady: the stretch of the run, in shares of its steps, in which the
      learning rate was at its highest for the last time. An objective that
      falls to the end of it would fall further with more steps, however flat
      the lower rates make its curve.
  """

  craft: Craft
  init: Callable[[types.Array, types.Observation, types.HParams], Any]
  step: Callable[
    [types.Array, Any, types.Observation, types.HParams],
    tuple[Any, types.Info],
  ]
  read: Callable[[Any, types.Observation, types.HParams], types.Reconstruction]
  num_steps: int
  num_rounds: int
  hparams: Mapping[str, float]
  needs: frozenset[str]
  on_net: Callable[[models.Net], models.Net] | None = None
  group: bool = False
  merge: Callable[[History], types.Observation] = last
  blind_start: bool = True
  steady: tuple[float, float] = (0.0, 1.0)


def honest(
  key: types.Array,
  message: types.ServerMessage,
  side: Side,
  history: History,
) -> types.ServerMessage:
  """The `craft` of an honest-but-curious server."""
  del key, side, history
  return message


def is_honest(attack: Attack) -> bool:
  """Says whether clients get the network and the weights that were agreed."""
  return attack.craft is honest and attack.on_net is None


def put(
  message: types.ServerMessage, leaves: Mapping[str, Any]
) -> types.ServerMessage:
  """Returns a message in which some parameters are replaced, by dotted name."""
  changed = trees.replaced(message.variables.params, trees.strong(dict(leaves)))
  return message._replace(variables=message.variables._replace(params=changed))


def kernel_and_bias(
  tree: types.Tree, path: str
) -> tuple[types.Array, types.Array]:
  """Returns the leaves of a layer in a tree of parameters or gradients."""
  leaves = trees.named_leaves(tree)
  return leaves[f'{path}.kernel'], leaves[f'{path}.bias']


def closed_form(
  read: Callable[[types.Observation], types.Reconstruction],
  *,
  needs: Collection[str],
  craft: Craft = honest,
  on_net: Callable[[models.Net], models.Net] | None = None,
  num_rounds: int = 1,
) -> Attack:
  """Returns an attack that takes no steps and does everything in `read`.

  Args:
    read: the function `(obs) -> Reconstruction`.
    needs: the grants that it uses.
    craft: see `Attack`.
    on_net: see `Attack`.
    num_rounds: the number of rounds of communication.
  """

  def step(key, state, obs, hp):
    raise ValueError(
      'Expected no steps for a closed form; got a call of step; use read'
    )

  return Attack(
    craft=craft,
    init=lambda key, obs, hp: {},
    step=step,
    read=lambda state, obs, hp: read(obs),
    num_steps=0,
    num_rounds=num_rounds,
    hparams={},
    needs=frozenset(needs),
    on_net=on_net,
    blind_start=False,
  )
