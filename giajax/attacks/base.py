"""Attack: three pure functions and what they need to know.

An attack is made by a factory `foo(world, *, ...) -> Attack` from the
attacker's picture of the world, and run by anyone who scans its `step`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from giajax import trees
from giajax import types
from giajax.models import base as models


def last(history: tuple[types.Observation, ...]) -> types.Observation:
  """The `merge` of an attack that needs no other round."""
  return history[-1]


class Attack(NamedTuple):
  """A gradient inversion attack.

  Attributes:
    craft: `(key, message, side, history) -> ServerMessage`, what the server
      sends to one client instead of `message`: with the same side knowledge as
      in its Observation, and what it saw in earlier rounds, a tuple of
      Observations.
      The key is consumed. It is `honest` where the server is.
    init: `(key, obs, hp) -> State`; the key is consumed.
    step: `(key, state, obs, hp) -> (State, Info)`. The state is a fixed point
      in structure, shape, dtype and weak type. A step that meets a NaN or an
      infinity says so in `info.finite` and leaves what `read` uses unchanged.
    read: `(state, obs, hp) -> Reconstruction`; its score is the attacker's
      own, lower is better.
    num_steps: T; 0 for closed forms, which do everything in `read`.
    num_rounds: rounds of communication, in all of which the client works on
      the same batch.
    hparams: default values of the traced knobs `hp`.
    needs: the grants (`threat.GRANTS`) that it uses.
    on_net: `(net) -> net`, the network that the server gives the client to
      train instead of the agreed one, with the same parameters and more; None
      where it leaves it alone.
    group: the restarts of an item work together: `step` and `read` run under
      a vmapped axis `world.RESTARTS` over all of them, and on one device.
    merge: `(history) -> Observation`, what `init`, `step` and `read` see, made
      of the Observations of all rounds; the last one by default.
  """

  craft: Callable[..., types.ServerMessage]
  init: Callable[[types.Array, types.Observation, types.HParams], Any]
  step: Callable[..., tuple[Any, types.Info]]
  read: Callable[[Any, types.Observation, types.HParams], types.Reconstruction]
  num_steps: int
  num_rounds: int
  hparams: Mapping[str, float]
  needs: frozenset[str]
  on_net: Callable[[models.Net], models.Net] | None = None
  group: bool = False
  merge: Callable[[tuple[types.Observation, ...]], types.Observation] = last


def honest(
  key: types.Array,
  message: types.ServerMessage,
  side: Mapping[str, Any],
  history: tuple[types.Observation, ...],
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
  """Returns a message with some parameters given by dotted name instead."""
  changed = trees.replaced(message.variables.params, trees.strong(dict(leaves)))
  return message._replace(variables=message.variables._replace(params=changed))


def closed_form(
  read: Callable[..., types.Reconstruction],
  *,
  needs: Collection[str],
  craft: Callable[..., types.ServerMessage] = honest,
  on_net: Callable[[models.Net], models.Net] | None = None,
  num_rounds: int = 1,
) -> Attack:
  """Returns an attack that takes no steps and does all in `read`.

  Args:
    read: `(obs) -> Reconstruction`.
    needs: as in `Attack`, like the others.
    craft: what the server sends.
    on_net: the network that it sends.
    num_rounds: of communication.
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
  )
