"""Attack: three pure functions and what they need to know.

An attack is made by a factory `foo(world, *, ...) -> Attack` from the
attacker's picture of the world, and run by anyone who scans its `step`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from giajax import types
from giajax.clients import base as clients
from giajax.models import base as models
from giajax.tasks import base as tasks

GROUP = 'group'  # the vmapped axis of an item's restarts


class World(NamedTuple):
  """What an attacker believes about the system it attacks.

  Attributes:
    net: the network that the client trains.
    task: its loss.
    client: what the client computes, as far as the attacker knows.
    batch_size: B, the images behind the update.
  """

  net: models.Net
  task: tasks.Task
  client: clients.Client
  batch_size: int


class Attack(NamedTuple):
  """A gradient inversion attack.

  Attributes:
    craft: `(key, query, history) -> Query`, what the server sends; an honest
      server returns `query`.
    init: `(key, obs, hp) -> State`; the key is consumed.
    step: `(key, state, obs, hp) -> (State, Info)`. The state is a fixed point
      in structure, shape, dtype and weak type. A step that meets a NaN or an
      infinity says so in `info.finite` and leaves what `read` uses unchanged.
    read: `(state, obs, hp) -> Reconstruction`; its score is the attacker's
      own, lower is better.
    num_steps: T; 0 for closed forms, which do everything in `read`.
    num_rounds: rounds of communication.
    hparams: default values of the traced knobs `hp`.
    needs: the grants (`threat.GRANTS`) that it uses.
    group: the restarts of an item work together: `step` and `read` run under
      a vmapped axis `GROUP` over all of them, and on one device.
  """

  craft: Callable[[types.Array, types.Query, Any], types.Query]
  init: Callable[[types.Array, types.Observation, types.HParams], Any]
  step: Callable[..., tuple[Any, types.Info]]
  read: Callable[[Any, types.Observation, types.HParams], types.Reconstruction]
  num_steps: int
  num_rounds: int
  hparams: Mapping[str, float]
  needs: frozenset[str]
  group: bool = False


def honest(key: types.Array, query: types.Query, history: Any) -> types.Query:
  """The `craft` of an honest-but-curious server."""
  del key, history
  return query
