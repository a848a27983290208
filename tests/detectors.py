"""Detectors of both forms that are small enough for every test."""

from flax import nnx
import jax
import jax.numpy as jnp

from giajax.models import base
from giajax.models import from_nnx
from giajax.models import layers
from giajax.tasks.parts import task_aligned

_BINS = 16


class Level(nnx.Module):
  """What a level of some stride says of an image."""

  def __init__(self, stride, classes, width, *, rngs):
    self.stem = layers.Conv(3, width, stride, stride, 0, rngs=rngs)
    self.box = layers.Conv(width, 4 * _BINS, 1, 1, 0, rngs=rngs)
    self.kind = layers.Conv(width, classes, 1, 1, 0, rngs=rngs)

  def __call__(self, x):
    h = jax.nn.sigmoid(self.stem(x))
    boxes, scores = self.box(h), self.kind(h)
    count = boxes.shape[1] * boxes.shape[2]
    return (
      boxes.reshape(-1, count, 4, _BINS),
      scores.reshape(-1, count, scores.shape[-1]),
    )


class Detector(nnx.Module):
  """Three levels beside each other."""

  def __init__(self, classes, width, *, rngs):
    self.levels = nnx.List(
      Level(stride, classes, width, rngs=rngs)
      for stride in task_aligned.STRIDES
    )

  def __call__(self, x):
    boxes, scores = zip(*(level(x) for level in self.levels))
    return {
      'boxes': jnp.concatenate(boxes, axis=1),
      'scores': jnp.concatenate(scores, axis=1),
    }


def net(image_shape=(32, 32, 3), num_classes=3, width=8):
  """Returns the detector as a Net."""
  spec = base.make_spec('detector', image_shape, num_classes, 'none')
  return from_nnx.from_nnx(
    lambda rngs: Detector(num_classes, width, rngs=rngs), spec
  )


class Cells(nnx.Module):
  """A prediction of each cell, in the form of DETR."""

  def __init__(self, classes, width, stride, *, rngs):
    self.stem = layers.Conv(3, width, stride, stride, 0, rngs=rngs)
    self.boxes = layers.Conv(width, 4, 1, 1, 0, rngs=rngs)
    self.scores = layers.Conv(width, classes + 1, 1, 1, 0, rngs=rngs)

  def __call__(self, x):
    h = jax.nn.sigmoid(self.stem(x))
    boxes, scores = (
      y.reshape(len(y), 1, -1, y.shape[-1])
      for y in (self.boxes(h), self.scores(h))
    )
    return {'boxes': jax.nn.sigmoid(boxes), 'scores': scores}


def cells(image_shape=(32, 32, 3), num_classes=3, width=8, stride=8):
  """Returns a detector of the form of DETR as a Net."""
  spec = base.make_spec('cells', image_shape, num_classes, 'none')
  return from_nnx.from_nnx(
    lambda rngs: Cells(num_classes, width, stride, rngs=rngs), spec
  )
