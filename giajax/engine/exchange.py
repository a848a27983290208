"""The exchange of server and client: what the attacker gets to see."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import require
from giajax import threat
from giajax import trees
from giajax import types
from giajax.attacks import base as attacks
from giajax.clients import aggregate
from giajax.engine import experiment

History = tuple[types.Observation, ...]
Play = Callable[[experiment.Item], History]


def player(setup: experiment.Setup) -> Play:
  """Returns a function that runs a client and returns what the server sees.

  It raises ValueError for an update that is not finite.
  """
  send, answer = _exchange(setup)

  def play(item: experiment.Item) -> History:
    history, side = (), setup.source.side(setup, item)
    for _ in range(setup.attack.num_rounds):
      message = send(item, side, history)
      history += (answer(item, side, history, message),)
    return history

  return play


def observer(
  setup: experiment.Setup, play: Play
) -> Callable[[Sequence[experiment.Item]], types.Observation]:
  """Returns a function that runs clients and returns what the attacker sees.

  Its result has a leading axis [N], except for the message of an honest server,
  which all items share. What differs between items is their case and whether
  they are controls: the clients of equal ones run once.

  Args:
    setup: the experiment.
    play: the function of `player`, whose errors it raises.
  """
  attack = setup.attack
  honest = attack.craft is attacks.honest
  last = attack.merge is attacks.last  # compiled, it would be copied
  merge = attack.merge if last else jax.jit(attack.merge)

  def observe(items: Sequence[experiment.Item]) -> types.Observation:
    each = {(item.case, item.control): item for item in items}
    seen = {name: merge(play(item)) for name, item in each.items()}
    observations = [seen[item.case, item.control] for item in items]
    if not honest:
      return _stacked(observations)
    message = observations[0].message
    apart = _stacked(
      [obs._replace(message=types.NO_MESSAGE) for obs in observations]
    )
    return apart._replace(message=message)

  return observe


def messages(
  setup: experiment.Setup, case: int, count: int
) -> list[types.ServerMessage]:
  """Returns what the server sends to the clients of a case, round by round.

  Args:
    setup: the experiment.
    case: the case whose batch the clients work on.
    count: the number of rounds, counted from the first.

  Raises:
    ValueError: as the source's `item` and the function of `observer`, or a
      round that the attack does not have.
  """
  if not 1 <= count <= setup.attack.num_rounds:
    raise ValueError(
      f'Expected rounds of an attack of {setup.attack.num_rounds}; got the '
      f'first {count}; ask for fewer'
    )
  item = setup.source.item(setup, case)
  (send, answer), side = _exchange(setup), setup.source.side(setup, item)
  history, sent = (), [send(item, side, ())]
  while len(sent) < count:
    history += (answer(item, side, history, sent[-1]),)
    sent.append(send(item, side, history))
  return sent


def received(
  setup: experiment.Setup, case: int, turn: int, client: int
) -> types.Variables:
  """Returns the weights that one client of a case receives in a round.

  Args:
    setup: the experiment.
    case: the case whose batch the clients work on.
    turn: the round, from 0.
    client: the client, among those whose updates are aggregated, from 0.

  Raises:
    ValueError: no such case, round or client.
  """
  require.whole(case, 'case', least=0)
  parties = setup.client.clients
  if not 0 <= client < parties:
    raise ValueError(
      f'Expected a client from 0 to {parties - 1}; got client={client}; '
      'raise cases.clients'
    )
  message = messages(setup, case, turn + 1)[-1]
  own = {name: leaf[client] for name, leaf in dict(message.each).items()}
  return aggregate.received(message, own).variables


def _exchange(setup: experiment.Setup):
  """Returns what a server sends, and a function that makes a client answer."""
  root = keys.named(jax.random.key(setup.seed), 'round')
  craft = setup.attack.craft
  craft = craft if craft is attacks.honest else jax.jit(craft)
  facts = setup.world.task.facts

  @jax.jit
  def update(message, batch, key):
    sent, output = setup.client.update(key, message, batch)
    told = threat.told(setup.granted, output, batch.y, facts)
    leaves = trees.named_leaves(sent)
    finite = {name: trees.all_finite(v) for name, v in leaves.items()}
    return sent, told, finite

  def played(
    item: experiment.Item, message: types.ServerMessage, key: types.Array
  ) -> tuple[types.Update, Mapping[str, types.Array]]:
    sent, told, finite = update(message, item.batch, key)
    bad = [name for name, good in finite.items() if not good]
    if bad:
      raise ValueError(
        f'Expected a finite update of case {item.case}; got NaN or inf in '
        f'{bad[0]} ({len(bad)} of {len(finite)} arrays); check the weights, '
        'the images and the defence'
      )
    return sent, told

  def key_of(item: experiment.Item, history: History) -> types.Array:
    key = keys.at(root, item.case)
    return keys.at(key, len(history)) if history else key

  def send(
    item: experiment.Item, side: Mapping[str, types.Array], history: History
  ) -> types.ServerMessage:
    key = keys.named(key_of(item, history), 'craft')
    return craft(key, setup.message, side, history)

  def answer(
    item: experiment.Item,
    side: Mapping[str, types.Array],
    history: History,
    message: types.ServerMessage,
  ) -> types.Observation:
    key = key_of(item, history)
    received = setup.source.update
    sent, told = (received, {}) if received else played(item, message, key)
    if item.control:
      delta = _noise_like(keys.named(key, 'noise'), sent.delta)
      sent = sent._replace(delta=delta)
    shown, sent = threat.observed(setup.granted, message, sent)
    return types.Observation(shown, sent, {**side, **told})

  return send, answer


def _stacked(observations: Sequence[types.Observation]) -> types.Observation:
  if len(observations) == 1:  # it may be gigabytes
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], observations[0])
  return jax.tree.map(lambda *leaves: np.stack(leaves), *observations)


@jax.jit
def _noise_like(key: types.Array, delta: types.Tree) -> types.Tree:
  """Gaussian noise with the norm of each leaf, independent of the data."""
  leaves, treedef = jax.tree.flatten(delta)
  ends = np.cumsum([leaf.size for leaf in leaves])
  # One draw for all: XLA takes a second to compile each.
  flat = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
  noise = [
    draw.reshape(leaf.shape) * (_norm(leaf) / _norm(draw))
    for draw, leaf in zip(flat, leaves)
  ]
  return jax.tree.unflatten(treedef, noise)


def _norm(leaf: types.Array) -> types.Array:
  return trees.safe_sqrt(jnp.vdot(leaf, leaf))
