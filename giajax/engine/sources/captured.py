"""Captured updates: what a server sent and received, in files.

The update is read, not computed. The images behind it may be known, as in a
test of one's own system; otherwise, what an attack finds is not scored.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from giajax import archives
from giajax import capture
from giajax import paths
from giajax import registry
from giajax import trees
from giajax import types
from giajax.attacks import base as attacks
from giajax.data import arrays as arrays_of
from giajax.data import base as data
from giajax.data import scale as scales
from giajax.engine import experiment
from giajax.engine import tensors
from giajax.engine.sources import simulated
from giajax.models import base as models
from giajax.tasks import base as tasks

FORMS = {
  'weights': 'the weights after training; the update is these minus the '
  'weights that were sent',
  'delta': 'the weights after training minus the weights that were sent',
  'gradient': 'the gradient of the mean loss, which is subtracted in training',
}
# Weights that come back are near those that were sent; a difference is not.
_NEAR = 0.5
# Grants about data that nobody has, and what is needed for them.
_ABOUT_IMAGES = ('labels', 'label_counts', 'boxes', 'target')


def captured(
  net: models.Net,
  variables: types.Variables,
  weights: Mapping[str, Any],
  sends_gradients: bool | None,
  task: tasks.Task,
  dataset: data.Dataset,
  *,
  received: str,
  form: str = '',
  truth: str = '',
  trained: bool | None = None,
) -> experiment.Source:
  """Reads one update that a server received, in the place of a played client.

  Args:
    net: the network that the client trained.
    variables: the weights that were sent to it, which `weights.path` names.
    weights: that entry of the config, whose names `rename` translates.
    sends_gradients: whether the described client sends a gradient, None where
      that is not known.
    task: what the network learns, for the form of the targets.
    dataset: what the client's images are like, for their units.
    received: the file of what came back: an npz, .safetensors, .pt (tensors
      only), or the folder of an Orbax checkpoint. Arrays without names are
      taken in the order of the state dict.
    form: what that is, a name in `FORMS`; '' finds out whether it is weights.
    truth: a file of the client's images `x` [B, H, W, C] in the units of the
      data set, [0, 1] or bytes without any, or rows [B, F] of a table, and
      their targets `y` [B, ...], or `y.NAME`; '' where nobody knows them.
    trained: whether the weights that were sent are trained; None where that is
      to be measured on the data set, if it has images.

  Raises:
    ValueError: a file that is missing, damaged, or of another network; a form
      that is unknown, cannot be found out, or is not what the client sends; or
      images that the network does not take.
  """
  if not weights['path']:
    raise ValueError(
      'Expected weights.path to name what the server sent; got none; set it to '
      'the file of the weights that the client started from'
    )
  if form:
    registry.lookup(FORMS, form, 'source.form')
  read = tensors.read(
    received,
    net,
    'source.received',
    order=tensors.order_of(weights['path'], net),
    rename=weights['rename'],
    partial=form != 'weights',
  )
  form = form or _form(read.variables, variables)
  _check_client(form, sends_gradients)
  if form == 'weights':
    _check_whole(read, variables, received)
    tensors.check_order(read.variables, variables, f'received={received!r}')
  delta, stats = _update(form, read, variables)
  known = _truth(truth, net.spec, task, dataset.scale) if truth else None
  sizes = tuple(
    float(trees.safe_sqrt(trees.squared_norm(tree)))
    for tree in (delta, variables.params)
  )
  facts = {
    'form': form,
    'meaning': FORMS[form],
    'relative_size': sizes[0] / max(sizes[1], 1e-30),
    'notes': [
      *read.notes,
      *_frozen_notes(form, read.variables, variables),
      *_still_notes(delta),
    ],
  }
  hidden = _hidden(known, stats)

  def check(setup: experiment.Setup) -> None:
    _check_setup(setup, known, hidden)

  def side(setup: experiment.Setup, one: experiment.Item):
    seen = setup._replace(granted=setup.granted - hidden)
    return simulated.side(seen, one)

  def item(setup: experiment.Setup, case: int, control: bool = False):
    count = setup.world.batch_size
    indices = np.full(count, experiment.ELSEWHERE, np.int32)
    return experiment.Item(case, control, indices, known)

  size = jnp.asarray(0 if known is None else len(known.x), jnp.int32)
  update = types.Update(delta, stats, size)
  return experiment.Source(check, item, side, update, trained, facts, hidden)


def _form(received: types.Variables, sent: types.Variables) -> str:
  """Returns what was received where that shows."""
  old, new = (trees.named_leaves(models.whole(v)) for v in (sent, received))
  pairs = [(np.asarray(new[n]), np.asarray(old[n])) for n in new]
  away, size = (
    np.sqrt(sum(float(np.vdot(a, a)) for a in parts))
    for parts in ([n - o for n, o in pairs], [o for _, o in pairs])
  )
  if away < _NEAR * size:
    return 'weights'
  raise ValueError(
    'Expected source.form, because what was received is not near the weights '
    f'that were sent (at {away / max(size, 1e-30):.2g} of their norm); got '
    "none; set it to 'delta', 'gradient', or 'weights' after many steps"
  )


def _check_client(form: str, sends_gradients: bool | None) -> None:
  if sends_gradients is None or sends_gradients == (form == 'gradient'):
    return
  got = 'fedsgd' if sends_gradients else 'fedavg'
  other = 'fedavg' if sends_gradients else 'fedsgd'
  raise ValueError(
    f'Expected a client that sends {form}; got client.name={got!r}, which '
    f'sends {"a gradient" if sends_gradients else "a change of weights"}; set '
    f'client.name={other!r}, or source.form'
  )


def _check_whole(read, variables, received) -> None:
  missing = [
    field
    for field in types.Variables._fields
    if jax.tree.leaves(getattr(variables, field)) and field not in read.sections
  ]
  if missing:
    raise ValueError(
      f'Expected all weights in received={received!r}; got none of '
      f"{', '.join(missing)}; set source.form='delta' if it is a difference"
    )


def _update(
  form: str, read: tensors.Tensors, sent: types.Variables
) -> tuple[types.Tree, types.Tree]:
  """Returns the change of the trained parameters, and the new buffers."""
  params, stats = read.variables.params, read.variables.stats
  if form == 'gradient':
    return params, {}
  if form == 'weights':
    return jax.tree.map(jnp.subtract, params, sent.params), stats
  if 'stats' in read.sections:
    stats = jax.tree.map(jnp.add, sent.stats, stats)
  return params, stats


def _frozen_notes(form, received, sent) -> list[str]:
  """Returns what to say about parameters that should not have moved."""
  if form != 'weights' or not sent.frozen:
    return []
  old, new = (trees.named_leaves(v.frozen) for v in (sent, received))
  moved = [n for n in old if not np.array_equal(old[n], new[n])]
  if not moved:
    return []
  return [
    f'{len(moved)} parameters moved that the config calls frozen: '
    f'{archives.listed(moved)}. Set trainable as the client has it.'
  ]


def _still_notes(delta: types.Tree) -> list[str]:
  """Returns what to say about parameters that have not moved."""
  leaves = trees.named_leaves(delta)
  still = [n for n, leaf in leaves.items() if not np.any(np.asarray(leaf))]
  if not still or len(still) == len(leaves):
    return []
  return [
    f'{len(still)} of {len(leaves)} parameters have not changed at all: '
    f'{archives.listed(still)}. If the client does not train them, say so '
    '(--freeze, or trainable.freeze of a config): an attack would match zeros.'
  ]


def _truth(
  path: str,
  spec: models.Spec,
  task: tasks.Task,
  scale: scales.Scale | None,
) -> types.Batch:
  """Returns the images behind the update, and their targets."""
  arrays = archives.read(paths.expanded(path, 'source.truth'))
  arrays = capture.part_of(arrays, 'truth') or arrays
  x, y = arrays.get('x'), trees.under('y', arrays)
  if x is None or not jax.tree.leaves(y):
    raise ValueError(
      f'Expected images x and labels y in truth={path!r}; got '
      f'{archives.listed(sorted(arrays))}; save them by np.savez(..., x=x, y=y)'
    )
  if x.ndim == 2 and scales.is_row(spec.image_shape):  # rows of a table
    x = x[:, None, None]
  if x.shape[1:] != spec.image_shape:
    raise ValueError(
      f'Expected x in truth={path!r} as [B, H, W, C] of {spec.image_shape}; '
      f'got {x.shape}; transpose it'
    )
  x = scales.to_unit(x, scale, f'the images of {path}')
  y = jax.tree.map(arrays_of.narrowed, y)
  task.check(y, len(x))
  batch = types.Batch(jnp.asarray(x), jax.tree.map(jnp.asarray, y))
  return jax.tree.map(np.asarray, trees.widened(batch))


def _hidden(known, stats) -> frozenset[str]:
  """Returns the grants that nobody can give."""
  hidden = {'matching'}  # that of the client's own pass
  hidden |= set() if jax.tree.leaves(stats) else {'bn_buffers_after'}
  return frozenset(hidden | (set(_ABOUT_IMAGES) if known is None else set()))


def _check_setup(setup, known, hidden) -> None:
  """Raises ValueError for a setting that the captured update is not of."""
  cases, attack = setup.cases, setup.attack
  active = attack.craft is not attacks.honest or attack.on_net is not None
  if cases.count != 1 or attack.num_rounds != 1 or active:
    got = 'an attack that alters what is sent' if active else 'more of them'
    raise ValueError(
      'Expected one update and an attack on what was sent for '
      f'a captured source; got {got}; set cases.count=1, choose another '
      'attack, or simulate the clients'
    )
  if known is not None and len(known.x) != cases.batch_size:
    raise ValueError(
      f'Expected cases.batch_size={len(known.x)}, as many images as '
      f'source.truth has; got {cases.batch_size}; correct one of them'
    )
  hidden = hidden if setup.dataset.size else hidden | {'proxy_data'}
  wanted = sorted(setup.granted & attack.needs & hidden)
  if wanted:
    raise ValueError(
      f'Expected an attack that does without {", ".join(wanted)}, which '
      'nobody knows of this captured update; got attack='
      f'{setup.attack_name!r}; name a label rule in labels, add source.truth '
      'or a dataset, or choose another attack or task.matching'
    )
