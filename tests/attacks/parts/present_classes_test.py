"""Tests of the rule that reads the classes of a detector's objects."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.parts import labels
from giajax.clients import fedsgd
from giajax.data import DATASETS
from giajax.models.classification import mlp
from giajax.models.parts import score_biases
from giajax.tasks import TASKS
from tests import detectors

K = 6
NET = detectors.net((64, 64, 3), K)
TASK = TASKS['detection'](K, image_shape=NET.spec.image_shape)
CLIENT = fedsgd.fedsgd(NET, TASK)
RULE = labels.present_classes(worlds.World(NET, TASK, CLIENT, 1))
UPDATE, INFER = jax.jit(CLIENT.update), jax.jit(RULE.infer)


@functools.cache
def sent():
  """Returns what the server sends."""
  return types.ServerMessage(NET.init(jax.random.key(0)))


def infer(message, batch):
  """Returns what the rule makes of a client's update."""
  update = UPDATE(jax.random.key(0), message, batch)[0]
  return INFER(jax.random.key(1), types.Observation(message, update, {}))


def test_biases_of_the_scores_are_found():
  assert score_biases.names(NET) == tuple(
    f'levels.{i}.kind.bias' for i in range(3)
  )
  with pytest.raises(
    ValueError, match='whose class scores have a trained bias'
  ):
    score_biases.names(mlp.mlp((4, 4, 1), 3))


@pytest.mark.parametrize('index', range(4))
def test_no_absent_class_is_named(index):
  batch = DATASETS['shapes'](size=64, count=4).take([index])
  y = batch.y._replace(classes=batch.y.classes + 2)
  found = infer(sent(), types.Batch(batch.x, y))
  assert found['classes'].shape == found['valid'].shape == (1, K)
  named = {*np.asarray(found['classes'][found['valid']]).tolist()}
  assert named <= {*np.asarray(y.classes[y.valid]).tolist()}


def test_a_sure_target_is_named():
  """A point that lies on its object has a slope below 0."""
  boxes = jnp.array([[[0.1, 0.1, 0.9, 0.9]]])
  y = TASK.join(
    {
      'boxes': boxes,
      'labels': {'classes': jnp.array([[4]]), 'valid': jnp.array([[True]])},
    }
  )
  variables = sent().variables
  biases = {name: jnp.full(K, -7.0) for name in score_biases.names(NET)}
  low = trees.replaced(variables.params, biases)
  message = types.ServerMessage(variables._replace(params=low))
  x = jnp.full((1, 64, 64, 3), 0.5)
  found = infer(message, types.Batch(x, y))
  assert found['classes'][0, 0] == 4 and found['valid'][0, 0]
  assert not found['valid'][0, 1:].any()


def test_refusals():
  other = TASKS['classification'](K)
  with pytest.raises(
    ValueError, match='task=detection for the present_classes'
  ):
    labels.present_classes(worlds.World(NET, other, CLIENT, 1))
  with pytest.raises(ValueError, match='batch_size=2'):
    labels.present_classes(worlds.World(NET, TASK, CLIENT, 2))
