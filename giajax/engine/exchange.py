"""One round of federated learning: what the attacker gets to see."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import images
from giajax import keys
from giajax import threat
from giajax import trees
from giajax import types
from giajax.attacks import base as attacks
from giajax.clients import aggregate
from giajax.data import base as data
from giajax.data import cases
from giajax.engine import build


class Item(NamedTuple):
  """One update to be attacked: a case of a point, or its noise control."""

  case: int
  control: bool  # the update is replaced by noise of the same norms
  indices: np.ndarray  # [B] which images of the data set
  batch: types.Batch  # host arrays


def item(
  setup: build.Setup | build.System,
  config: Mapping[str, Any],
  case: int,
  control: bool,
) -> Item:
  """Returns the batch of one case.

  Raises:
    ValueError: images of another shape or outside [0, 1], labels that are no
      classes, or a batch the data set cannot fill.
  """
  taken = indices(setup, config, case)
  batch = jax.tree.map(np.asarray, setup.dataset.take(taken))
  shape = (len(taken), *setup.net.spec.image_shape)
  if batch.x.shape != shape:
    raise ValueError(
      f'Expected images of shape {shape} for {setup.net.spec.name}; got '
      f'{batch.x.shape} from {setup.dataset.name}; resize them'
    )
  images.check_range(batch.x, f'the images of case {case}')
  data.check_labels(batch.y, setup.net.spec.num_classes)
  return Item(case, control, taken, batch)


def indices(
  setup: build.Setup | build.System, config: Mapping[str, Any], case: int
) -> np.ndarray:
  """Returns which images form the batch of a case, [B] int32.

  Raises:
    ValueError: the data set cannot fill it.
  """
  rules = {k: v for k, v in config['cases'].items() if k != 'count'}
  return cases.indices(
    setup.dataset.labels, seed=config['seed'], case=case, **rules
  )


def player(
  setup: build.Setup, config: Mapping[str, Any]
) -> Callable[[Item], tuple[types.Observation, ...]]:
  """Returns a function that runs a client: what is seen of it in all rounds.

  It raises ValueError for an update that is not finite.
  """
  send, answer = _exchange(setup, config)

  def play(one: Item) -> tuple[types.Observation, ...]:
    history, side = (), _side(setup, config, one)
    for _ in range(setup.attack.num_rounds):
      message = send(one, side, history)
      history += (answer(one, side, history, message),)
    return history

  return play


def observer(
  setup: build.Setup, play: Callable[[Item], tuple[types.Observation, ...]]
) -> Callable[[Sequence[Item]], types.Observation]:
  """Returns a function that runs clients: what the attacker sees of each.

  Its result has a leading axis [N], but for the message of an honest server,
  which all items share.

  Args:
    setup: the experiment.
    play: of `player`, whose errors it raises.
  """
  attack = setup.attack
  honest = attack.craft is attacks.honest
  last = attack.merge is attacks.last  # compiled, it would be copied
  merge = attack.merge if last else jax.jit(attack.merge)

  def observe(items: Sequence[Item]) -> types.Observation:
    seen = [merge(play(one)) for one in items]
    if not honest:
      return _stacked(seen)
    apart = _stacked([obs._replace(message=types.NO_MESSAGE) for obs in seen])
    return apart._replace(message=seen[0].message)

  return observe


def messages(
  setup: build.Setup, config: Mapping[str, Any], case: int, count: int
) -> list[types.ServerMessage]:
  """Returns what the server sends to the clients of a case, round by round.

  Args:
    setup: the experiment.
    config: resolved, of the same.
    case: whose batch the clients work on.
    count: of the first rounds.

  Raises:
    ValueError: as `item` and the function of `observer`, or a round that the
      attack does not have.
  """
  if not 1 <= count <= setup.attack.num_rounds:
    raise ValueError(
      f'Expected rounds of an attack of {setup.attack.num_rounds}; got the '
      f'first {count}; ask for fewer'
    )
  one = item(setup, config, case, False)
  (send, answer), side = _exchange(setup, config), _side(setup, config, one)
  history, sent = (), [send(one, side, ())]
  while len(sent) < count:
    history += (answer(one, side, history, sent[-1]),)
    sent.append(send(one, side, history))
  return sent


def received(
  setup: build.Setup,
  config: Mapping[str, Any],
  case: int,
  turn: int,
  client: int,
) -> types.Variables:
  """Returns the weights that one client of a case receives in a round.

  Raises:
    ValueError: no such round or client.
  """
  parties = setup.client.clients
  if not 0 <= client < parties:
    raise ValueError(
      f'Expected a client from 0 to {parties - 1}; got client={client}; '
      'raise cases.clients'
    )
  message = messages(setup, config, case, turn + 1)[-1]
  own = {name: leaf[client] for name, leaf in dict(message.each).items()}
  return aggregate.received(message, own).variables


def _exchange(setup: build.Setup, config: Mapping[str, Any]):
  """Returns what a server sends, and the function that has a client answer."""
  root = keys.named(jax.random.key(config['seed']), 'round')
  craft = setup.attack.craft
  craft = craft if craft is attacks.honest else jax.jit(craft)

  @jax.jit
  def update(message, batch, key):
    sent, _ = setup.client.update(key, message, batch)
    leaves = trees.named_leaves(sent)
    return sent, {name: trees.all_finite(v) for name, v in leaves.items()}

  def key_of(one, history):
    key = keys.at(root, one.case)
    return keys.at(key, len(history)) if history else key

  def send(one, side, history):
    key = keys.named(key_of(one, history), 'craft')
    return craft(key, setup.message, side, history)

  def answer(one, side, history, message):
    key = key_of(one, history)
    sent, finite = update(message, one.batch, key)
    bad = [name for name, good in finite.items() if not good]
    if bad:
      raise ValueError(
        f'Expected a finite update of case {one.case}; got NaN or inf in '
        f'{bad[0]} ({len(bad)} of {len(finite)} arrays); check the weights, '
        'the images and the defence'
      )
    if one.control:
      delta = _noise_like(keys.named(key, 'noise'), sent.delta)
      sent = sent._replace(delta=delta)
    shown, sent = threat.observed(setup.granted, message, sent)
    return types.Observation(shown, sent, side)

  return send, answer


def _side(
  setup: build.Setup, config: Mapping[str, Any], one: Item
) -> Mapping[str, types.Array]:
  """Returns what the server was told about a case's data."""

  def proxy():
    others = cases.held_out(
      setup.dataset.size,
      one.indices,
      seed=config['seed'],
      case=one.case,
      count=config['threat']['proxy_images'],
    )
    return setup.dataset.take(others).x

  classes = setup.net.spec.num_classes
  return threat.side(setup.granted, one.batch, classes, proxy)


def _stacked(seen: Sequence[types.Observation]) -> types.Observation:
  if len(seen) == 1:  # it may be gigabytes
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], seen[0])
  return jax.tree.map(lambda *leaves: np.stack(leaves), *seen)


@jax.jit
def _noise_like(key: types.Array, delta: types.Tree) -> types.Tree:
  """Gaussian noise with the norm of each leaf: it tells nothing."""
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
