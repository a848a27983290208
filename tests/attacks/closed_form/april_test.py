"""Tests of giajax.attacks.closed_form.april and of its optimisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.attacks.closed_form import april
from giajax.attacks.optimisation import april_optimisation
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models import subset
from giajax.models.classification import lenet
from giajax.models.classification import mlp
from giajax.models.classification import vit
from giajax.tasks import classification

K = 5
TASK = classification.classification(K)
vit_of_8 = functools.partial(
  vit.vit,
  (8, 8, 3),
  K,
  patch=4,
  width=64,
  heads=2,
  depth=2,
  init='timm',
  bare_first_attention=True,
)


def world(net, batch_size=1, client=fedsgd.fedsgd):
  return worlds.World(net, TASK, client(net, TASK), batch_size)


def reader(net, client):
  """Returns the function from an image, its label and noise to what is read."""
  w = world(net, client=client)
  attack = april.april(w)
  message = types.ServerMessage(net.init(jax.random.key(0)))

  @jax.jit
  @jax.vmap
  def run(x, y, noise):
    batch = types.Batch(x[None], y[None])
    update = w.client.update(jax.random.key(0), message, batch)[0]
    noisy = jax.tree.map(
      lambda v: (
        v + noise * v.std() * jax.random.normal(jax.random.key(3), v.shape)
      ),
      update.delta,
    )
    update = update._replace(delta=noisy)
    obs = types.Observation(message, update, {})
    return attack.read(attack.init(jax.random.key(0), obs, {}), obs, {})

  return run


def images(count=3):
  x = jax.random.uniform(jax.random.key(1), (count, 8, 8, 3))
  return x, jax.random.randint(jax.random.key(2), (count,), 0, K)


NET = vit_of_8()
FROZEN = subset.subset(NET, freeze=('conv_proj.*', 'class_token.*'))


@pytest.mark.parametrize(
  ('net', 'client', 'least'),
  [
    (NET, fedsgd.fedsgd, 45),
    # The difference of two weights rounds more than a gradient.
    (FROZEN, functools.partial(fedavg.fedavg, num_images=1), 25),
  ],
  ids=['fedsgd', 'one local step, frozen patch embedding'],
)
def test_finds_random_images_and_labels_but_not_in_noise(net, client, least):
  x, y = images()
  found = reader(net, client)(x, y, jnp.array([0.0, 0.0, 1.0]))
  assert found.valid.all()
  psnr = METRICS['psnr'].score(found.batch.x[:, 0], x)
  assert psnr[:2].min() >= least and psnr[2] < 15, psnr
  np.testing.assert_array_equal(found.batch.y[:2, 0], y[:2])
  assert found.score[:2].max() < 1e-6 and found.score[2] > 1e-3, found.score


def test_a_head_of_zeros_gives_nothing_away():
  found = reader(vit_of_8(init='torchvision'), fedsgd.fedsgd)(
    *images(1), jnp.zeros(1)
  )
  assert not found.valid.any()
  assert np.isfinite(found.batch.x).all() and np.isfinite(found.score).all()


def test_patches_fold_back():
  front = april.Front('', '', '', (2, 4), 12)
  x = jax.random.uniform(jax.random.key(0), (1, 8, 12, 3))
  rows = april._unfolded(x, front)
  np.testing.assert_array_equal(april._folded(rows, front, (8, 12, 3)), x[0])


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (lambda: world(NET, 2), 'batch_size=2'),
    (
      lambda: world(
        NET, 1, functools.partial(fedavg.fedavg, num_images=1, epochs=2)
      ),
      'local_steps=2',
    ),
    (
      lambda: world(
        vit_of_8(dropout=0.1),
        1,
        functools.partial(fedsgd.fedsgd, train_mode=True),
      ),
      'no random layers',
    ),
    (
      lambda: world(vit_of_8(bare_first_attention=False)),
      'without a norm and a skip .* as a norm does',
    ),
    (lambda: world(vit_of_8(lora_rank=2)), 'a norm and a skip'),
    (lambda: world(vit_of_8(width=32)), '32 features, 5 tokens and 48 values'),
    (
      lambda: world(subset.subset(NET, freeze=('*.pos_embedding.*',))),
      'learned positions, which the client trains',
    ),
    (
      lambda: world(subset.subset(NET, freeze=('*_0.self_attention.*',))),
      'without encoder.*in_proj.kernel',
    ),
    (lambda: world(mlp.mlp((8, 8, 3), K)), 'learned positions'),
    (lambda: world(lenet.lenet((8, 8, 3), K)), 'learned positions'),
  ],
)
def test_refusals(wrong, message):
  with pytest.raises(ValueError, match=f'^Expected .*{message}') as error:
    april.april(wrong())
  assert '\n' not in str(error.value)


def test_optimisation_wants_positions():
  with pytest.raises(ValueError, match='for april_optimisation; got mlp'):
    april_optimisation.april_optimisation(world(mlp.mlp((8, 8, 3), K)))
  with pytest.raises(ValueError, match='positions=-1'):
    april_optimisation.april_optimisation(world(NET), positions=-1)
