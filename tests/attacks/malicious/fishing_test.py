"""Tests of giajax.attacks.fishing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.malicious import fishing
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.models.classification import vgg
from giajax.tasks import classification

K, B, ROUNDS = 4, 8, 5
TASK = classification.classification(K)
NET = mlp.mlp((4, 4, 3), K, widths=(12, 16))
CLIENT = fedsgd.fedsgd(NET, TASK)
WORLD = worlds.World(NET, TASK, CLIENT, B)
FISHING = functools.partial(fishing.fishing, WORLD, num_steps=2)
X = jax.random.uniform(jax.random.key(1), (B, 4, 4, 3))


@functools.cache
def compiled():
  attack = FISHING(feature_rounds=ROUNDS)

  def play(y):
    """Returns what was seen in all rounds, and what is made of it."""
    message, history = types.ServerMessage(NET.init(jax.random.key(0))), ()
    for _ in range(attack.num_rounds):
      sent = attack.craft(jax.random.key(2), message, {}, history)
      update = CLIENT.update(jax.random.key(0), sent, types.Batch(X, y))[0]
      history += (types.Observation(sent, update, {}),)
    merged = attack.merge(history)
    return merged, each(merged.message)

  def each(message):
    """Returns the gradients of single images with the label of the message."""
    bias = trees.named_leaves(message.variables.params)['layers.2.bias']

    def one(x):
      batch = types.Batch(x[None], jnp.argmin(bias)[None])
      return CLIENT.update(jax.random.key(0), message, batch)[0].delta

    return jax.vmap(one)(X)

  return jax.jit(play)


def isolated(y):
  """Returns the label found, and how far each image's gradient is off."""
  merged, own = compiled()(jnp.asarray(y, jnp.int32))
  bias = trees.named_leaves(merged.message.variables.params)['layers.2.bias']
  off = jax.vmap(
    lambda g: trees.squared_norm(
      jax.tree.map(jnp.subtract, g, merged.update.delta)
    )
  )(own)
  return int(jnp.argmin(bias)), jnp.sqrt(
    off / jax.vmap(trees.squared_norm)(own)
  )


@pytest.mark.parametrize(
  'y, alone',
  [
    ([0, 0, 1, 2, 1, 0, 3, 3], 3),  # class fishing
    ([1, 0, 0, 0, 3, 3, 1, 3], None),
    ([2, 2, 2, 2, 2, 2, 2, 2], None),
    ([3, 3, 3, 2, 2, 2, 2, 2], None),
  ],
)
def test_the_gradient_of_one_image_is_left(y, alone):
  label, off = isolated(y)
  found = int(jnp.argmin(off))
  # Any other image's gradient is far from what is left.
  assert off[found] < 1e-2
  assert jnp.sort(off)[1] > 0.1
  if alone is not None:
    assert found == alone
  assert label == y[found]


def test_class_fishing_takes_two_rounds_and_features_more():
  assert FISHING(feature_rounds=0).num_rounds == 2
  assert FISHING(feature_rounds=5).num_rounds == 8


@pytest.mark.parametrize('target_class', [0, 3])
def test_an_absent_target_is_not_claimed(target_class):
  attack = FISHING(
    target_class=target_class, feature_rounds=0, total_variation=0.0
  )
  y = jnp.asarray([0, 1, 1, 2, 1, 2, 1, 1], jnp.int32)

  @jax.jit
  def run(key):
    message, history = types.ServerMessage(NET.init(key)), ()
    for _ in range(attack.num_rounds):
      sent = attack.craft(key, message, {}, history)
      update = CLIENT.update(key, sent, types.Batch(X, y))[0]
      history += (types.Observation(sent, update, {}),)
    obs = attack.merge(history)
    return attack.read(attack.init(key, obs, {}), obs, {})

  found = run(jax.random.key(0))
  assert found.valid.shape == (1,) and found.valid[0] == (target_class == 0)
  assert found.batch.y[0] == target_class


def test_only_the_classifier_is_altered():
  attack = FISHING(target_class=2)
  message = types.ServerMessage(NET.init(jax.random.key(0)))
  sent = attack.craft(jax.random.key(2), message, {}, ())
  before, after = (
    trees.named_leaves(q.variables.params) for q in (message, sent)
  )
  changed = {n for n in before if np.abs(before[n] - after[n]).max() > 0}
  assert changed == {'layers.2.kernel', 'layers.2.bias'}


def test_refusals():
  for kwargs, message in (
    (dict(target_class=K), f'target_class={K}'),
    (dict(feature_rounds=-1), 'feature_rounds=-1'),
    (dict(class_multiplier=0.0), 'class_multiplier=0.0'),
    (dict(feature_multiplier=float('nan')), 'feature_multiplier=nan'),
    (dict(bias_multiplier=float('inf')), 'bias_multiplier=inf'),
  ):
    with pytest.raises(ValueError, match=message):
      FISHING(**kwargs)
  client = fedavg.fedavg(NET, TASK, num_images=B, epochs=2, batch_size=B)
  with pytest.raises(ValueError, match='local_steps=2'):
    fishing.fishing(WORLD._replace(client=client))
  net = resnet.resnet((8, 8, 3), K, depth=18, blocks=(1,), width=0.05)
  client = fedsgd.fedsgd(net, TASK, train_mode=True)
  with pytest.raises(ValueError, match='train_mode=True'):
    fishing.fishing(WORLD._replace(net=net, client=client))
  net = vgg.vgg((32, 32, 3), K, depth=11, width=0.02, form='imagenet')
  client = fedsgd.fedsgd(net, TASK, train_mode=True)
  with pytest.raises(ValueError, match='no random layers for fishing'):
    fishing.fishing(WORLD._replace(net=net, client=client))
  client = fedsgd.fedsgd(NET, TASK, augment=True)
  with pytest.raises(ValueError, match='augment=True'):
    fishing.fishing(WORLD._replace(client=client))
  # It draws nothing where nothing is trained.
  fishing.fishing(WORLD._replace(net=net, client=fedsgd.fedsgd(net, TASK)))
