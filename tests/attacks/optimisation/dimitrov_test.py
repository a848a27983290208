"""Tests of giajax.attacks.optimisation.dimitrov."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.attacks.optimisation import dimitrov
from giajax.clients import aggregate
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.defenses import pruning
from giajax.models.classification import mlp
from giajax.tasks import classification

B, EPOCHS = 3, 2
TASK = classification.classification(3)
NET = mlp.mlp((2, 2, 1), 3, widths=(6,), activation='tanh')
QUERY = types.ServerMessage(NET.init(jax.random.key(0)))
CLIENT = fedavg.fedavg(
  NET, TASK, num_images=B, epochs=EPOCHS, batch_size=1, learning_rate=0.1
)
WORLD = worlds.World(NET, TASK, CLIENT, B)
BATCH = types.Batch(
  jax.random.uniform(jax.random.key(1), (B, 2, 2, 1)), jnp.array([0, 1, 1])
)


def test_unrolled_takes_the_images_as_they_lie():
  still = fedavg.fedavg(
    NET,
    TASK,
    num_images=B,
    epochs=EPOCHS,
    batch_size=1,
    learning_rate=0.1,
    shuffle=False,
  )
  key = jax.random.key(2)
  twice = jax.tree.map(lambda a: jnp.concatenate([a] * EPOCHS), BATCH)
  found = CLIENT.unrolled(key, QUERY, twice)[0].delta
  wanted = still.update(key, QUERY, BATCH)[0].delta
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted
  )


def test_epochs_are_aligned_within_labels_and_averaged():
  """The second epoch holds the first's images, two of one label swapped."""
  x = np.asarray(BATCH.x)
  second = x[[0, 2, 1]] + 0.02 * np.arange(3)[:, None, None, None]
  alike = BATCH.y[:, None] == BATCH.y
  own = dimitrov._align(jnp.asarray(x), jnp.asarray(second), alike)
  np.testing.assert_allclose(own, second[[0, 2, 1]])
  # Another label is never taken, however near.
  swapped = x[[1, 0, 2]]
  own = dimitrov._align(jnp.asarray(x), jnp.asarray(swapped), alike)
  np.testing.assert_allclose(own[0], swapped[0])


def test_it_finds_what_the_shuffled_epochs_saw():
  attack = dimitrov.dimitrov(
    WORLD, num_steps=600, total_variation=0.0, epoch_order=0.01
  )
  sent = CLIENT.update(jax.random.key(3), QUERY, BATCH)[0]
  obs = types.Observation(QUERY, sent, {'labels': BATCH.y})
  hp = {n: jnp.float32(v) for n, v in attack.hparams.items()}

  @jax.jit
  def run(key):
    start = attack.init(key, obs, hp)
    end, infos = jax.lax.scan(
      lambda s, k: attack.step(k, s, obs, hp), start, jax.random.split(key, 600)
    )
    return attack.read(start, obs, hp), attack.read(end, obs, hp), infos

  first, last, infos = run(jax.random.key(4))
  assert last.batch.x.shape == BATCH.x.shape and last.valid.shape == (B,)
  assert last.score < 0.05 * first.score
  assert infos.terms['epoch_order'][-1] < infos.terms['epoch_order'][0]
  # The label of its own came back as such; the other two in either order.
  alone = float(jnp.abs(last.batch.x[0] - BATCH.x[0]).mean())
  assert alone < 0.6 * float(jnp.abs(first.batch.x[0] - BATCH.x[0]).mean())


@pytest.mark.parametrize(
  'client',
  [
    fedsgd.fedsgd(NET, TASK),
    aggregate.aggregate(CLIENT, 2),
    pruning.pruning(keep=0.5).on_belief(CLIENT),
  ],
)
def test_clients_that_cannot_be_simulated(client):
  with pytest.raises(ValueError, match=r'^Expected a single client that takes'):
    dimitrov.dimitrov(WORLD._replace(client=client))
