"""A captured update: what a small server sent and received, in files."""

import jax
import numpy as np
import tiny

from giajax import archives
from giajax import types
from giajax.engine import build
from giajax.models import convert

CLIENT = {'name': 'fedavg', 'learning_rate': 0.1, 'train_mode': True}
MODEL = {'name': 'mlp', 'widths': (8,)}
SHAPE, CLASSES = (12, 12, 3), 16


def write(folder, images=1, model=MODEL, client=CLIENT, key=0):
  """Plays a client, and writes sent.npz, received.npz and truth.npz.

  Args:
    folder: where to write them.
    images: the number of images behind the update.
    model: the entry of the network.
    client: the entry of the client.
    key: the seed of its draws.

  Returns:
    The weights that were sent, and those that came back.
  """
  played = tiny.config(
    cases__batch_size=images, cases__count=1, model=dict(model), client=client
  )
  setup = build.setup(build.resolve(played))
  batch = setup.source.item(setup, 0).batch
  message = types.ServerMessage(setup.variables)
  play = jax.jit(setup.client.update)
  update, _ = play(jax.random.key(key), message, batch)
  params = jax.tree.map(
    lambda old, change: old + change, setup.variables.params, update.delta
  )
  received = setup.variables._replace(params=params, stats=update.stats)
  for name, variables in (('sent', setup.variables), ('received', received)):
    archives.write(folder / f'{name}.npz', convert.to_state_dict(variables))
  np.savez(folder / 'truth.npz', x=batch.x, y=batch.y)
  return setup.variables, received


def config(folder, images=1, model=MODEL, client=CLIENT, **changes):
  """Returns the config of an attack on what `write` wrote."""
  source = {'name': 'captured', 'received': str(folder / 'received.npz')}
  known = {'truth': str(folder / 'truth.npz'), **changes.pop('source', {})}
  return tiny.config(
    dataset={
      'name': 'unknown',
      'image_shape': SHAPE,
      'num_classes': CLASSES,
    },
    source={**source, **known},
    weights__path=str(folder / 'sent.npz'),
    cases__count=1,
    cases__batch_size=images,
    model=dict(model),
    client=client,
    threat__grants=(),
    labels='idlg' if images == 1 else 'column_minimum',
    **changes,
  )
