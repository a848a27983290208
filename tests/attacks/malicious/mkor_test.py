"""Tests of giajax.attacks.malicious.mkor."""

import math

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.attacks.malicious import mkor
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.metrics import METRICS
from giajax.models import base as models
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models import subset
from giajax.models.classification import mlp
from giajax.models.classification import vgg
from giajax.tasks import classification

K, SHAPE = 6, (6, 5, 3)
TASK = classification.classification(K)


def network(**kwargs):
  return mlp.mlp(SHAPE, K, widths=(9, 7), normalisation='cifar10', **kwargs)


def attacked(labels):
  """Returns the images of these labels and what was found of them."""
  net, y = network(), jnp.asarray(labels, jnp.int32)
  client = fedsgd.fedsgd(net, TASK)
  attack = mkor.mkor(worlds.World(net, TASK, client, len(labels)))
  x = jax.random.uniform(jax.random.key(1), (len(labels), *SHAPE))

  @jax.jit
  def run(key):
    message = attack.craft(key, types.ServerMessage(net.init(key)), {}, ())
    update = client.update(key, message, types.Batch(x, y))[0]
    return attack.read({}, types.Observation(message, update, {}), {})

  found = run(jax.random.key(0))
  return x, found.batch.x[found.valid], found.batch.y[found.valid], found.score


def test_every_image_that_is_alone_in_its_class_is_found():
  x, found, y, score = attacked([4, 0, 3, 1])
  np.testing.assert_array_equal(y, [0, 1, 3, 4])
  assert METRICS['psnr'].score(found, x[jnp.array([1, 3, 2, 0])]).min() >= 60
  assert score < 1e-3


def test_classes_of_several_images_give_their_mean_and_come_last():
  x, found, y, _ = attacked([2, 5, 2, 2, 1])
  np.testing.assert_array_equal(y, [1, 5, 2])
  wanted = jnp.stack([x[4], x[1], (x[0] + x[2] + x[3]) / 3])
  assert METRICS['psnr'].score(found, wanted).min() >= 60


def test_of_a_batch_of_all_classes_one_is_given_up():
  x, found, y, _ = attacked([0, 1, 2, 3, 4, 5])
  np.testing.assert_array_equal(y, range(K - 1))
  assert METRICS['psnr'].score(found, x[:-1]).min() >= 60


def test_where_nothing_is_claimed_the_score_is_the_worst():
  net = network()
  client = fedsgd.fedsgd(net, TASK)
  attack = mkor.mkor(worlds.World(net, TASK, client, 4))
  message = types.ServerMessage(net.init(jax.random.key(0)))
  nothing = jax.tree.map(jnp.zeros_like, message.variables.params)
  update = types.Update(nothing, message.variables.stats, 4.0)
  found = attack.read({}, types.Observation(message, update, {}), {})
  assert not found.valid.any()
  assert found.score == 1


def test_refusals():
  def make(net, client=fedsgd.fedsgd, **kwargs):
    return mkor.mkor(worlds.World(net, TASK, client(net, TASK, **kwargs), 4))

  for net in (
    mlp.mlp(SHAPE, K, widths=(K - 1,)),
    network(activation='sigmoid'),
    subset.subset(network(), freeze=['layers.1.*']),
  ):
    with pytest.raises(ValueError, match='as many units as classes'):
      make(net)
  with pytest.raises(ValueError, match='hand images on'):
    make(vgg.vgg((32, 32, 3), K, depth=11, width=0.02))
  with pytest.raises(ValueError, match='local_steps=2'):
    make(network(), fedavg.fedavg, num_images=4, epochs=2, batch_size=4)
  dropping = from_nnx.from_nnx(
    _Dropping, models.make_spec('dropping', SHAPE, K, 'none')
  )
  with pytest.raises(ValueError, match='no random layers for mkor'):
    make(dropping, train_mode=True)
  make(dropping)


class _Dropping(nnx.Module):
  def __init__(self, rngs):
    self.hidden = layers.Linear(math.prod(SHAPE), 9, rngs=rngs)
    self.dropout = layers.Dropout(0.1)
    self.fc = layers.Linear(9, K, rngs=rngs)

  def __call__(self, x):
    return self.fc(self.dropout(nnx.relu(self.hidden(layers.flatten(x)))))
