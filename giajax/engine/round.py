"""One round of federated learning: what the attacker gets to see."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import images
from giajax import keys
from giajax import threat
from giajax import trees
from giajax import types
from giajax.data import cases
from giajax.engine import build


class Item(NamedTuple):
  """One update to be attacked: a case of a point, or its noise control."""

  case: int
  control: bool  # the update is replaced by noise of the same norms
  indices: np.ndarray  # [B] which images of the data set
  batch: types.Batch  # host arrays


def item(
  setup: build.Setup, config: dict[str, Any], case: int, control: bool
) -> Item:
  """Returns the batch of one case.

  Raises:
    ValueError: images outside [0, 1], or a batch the data set cannot fill.
  """
  rules = config['cases']
  indices = cases.indices(
    setup.dataset.labels,
    seed=config['seed'],
    case=case,
    batch_size=rules['batch_size'],
    rule=rules['rule'],
    given=rules['given'],
  )
  batch = jax.tree.map(np.asarray, setup.dataset.take(indices))
  images.check_range(batch.x, f'the images of case {case}')
  return Item(case, control, indices, batch)


def observe(
  setup: build.Setup, items: Sequence[Item], seed: int
) -> types.Observation:
  """Runs the clients and returns what the attacker sees of each, [N, ...].

  The query is shared by all items and has no leading axis.

  Raises:
    ValueError: a client's update that is not finite.
  """
  root = keys.named(jax.random.key(seed), 'round')
  query = setup.attack.craft(
    keys.named(root, 'craft'), types.Query(setup.variables), ()
  )

  @jax.jit
  def update(key, query, batch):
    batch = setup.defense.on_batch(keys.named(key, 'defense'), batch)
    return setup.client.update(keys.named(key, 'client'), query, batch)[0]

  seen = []
  for one in items:
    key = keys.at(root, one.case)
    sent = update(key, query, jax.tree.map(jnp.asarray, one.batch))
    if not trees.all_finite(sent):
      raise ValueError(
        f'Expected a finite update of case {one.case}; got NaN or inf in '
        f'{_first_bad(sent)}; check the weights and the images'
      )
    if one.control:
      sent = sent._replace(delta=_noise_like(key, sent.delta))
    sent_query, sent = threat.observed(setup.granted, query, sent)
    seen.append(
      jax.tree.map(
        np.asarray, (sent, threat.side(setup.granted, one.batch))
      )
    )
  updates, side = jax.tree.map(lambda *leaves: np.stack(leaves), *seen)
  return types.Observation(query, updates, side)


def _noise_like(key: types.Array, delta: types.Tree) -> types.Tree:
  """Gaussian noise with the norm of each leaf: it tells nothing."""
  noise = {}
  for name, leaf in trees.named_leaves(delta).items():
    draw = jax.random.normal(keys.named(key, f'noise/{name}'), leaf.shape)
    norm = trees.safe_sqrt(jnp.vdot(draw, draw))
    noise[name] = draw * (jnp.linalg.norm(leaf.ravel()) / norm)
  return trees.like(delta, noise)


def _first_bad(update: types.Update) -> str:
  for name, leaf in trees.named_leaves(update._asdict()).items():
    if not np.all(np.isfinite(np.asarray(leaf, np.float64))):
      return name
  return 'nothing'
