"""What an optimisation attack optimises, and how it becomes a batch."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp

from giajax import keys
from giajax import registry
from giajax import types
from giajax.attacks import base


class Variable(NamedTuple):
  """A parametrisation of the candidate batch.

  Attributes:
    init: `(key, obs) -> tree` of float32 arrays; the key is consumed.
    batch: `(tree, obs) -> Batch`, differentiable.
    project: `tree -> tree`, the nearest allowed one.
    needs: the grants that it uses.
  """

  init: Callable[[types.Array, types.Observation], Any]
  batch: Callable[[Any, types.Observation], types.Batch]
  project: Callable[[Any], Any]
  needs: frozenset[str]


def _zeros(key: types.Array, shape: tuple[int, ...]) -> types.Array:
  del key
  return jnp.zeros(shape)


STARTS = {
  'normal': keys.normal,
  'uniform': functools.partial(keys.uniform, bound=1.0),
  'zeros': _zeros,
}


def pixels(
  world: base.World,
  *,
  start: str = 'normal',
  box: bool = True,
  space: str = 'normalised',
  joint_labels: bool = False,
) -> Variable:
  """The pixels themselves, and soft labels where these are unknown.

  Args:
    world: for the image shape, its normalisation and the number of images.
    start: a name in `STARTS`, drawn in the space of optimisation.
    box: project onto images in [0, 1] after each step.
    space: 'normalised', the network's input space, in which the literature's
      learning rates are meant, or 'unit' for [0, 1].
    joint_labels: optimise soft labels too (through the task's `relax`)
      instead of taking them from the observation.

  Raises:
    ValueError: an unknown start or space.
  """
  spec = world.net.spec
  draw = registry.lookup(STARTS, start, 'start')
  registry.lookup({'normalised': 0, 'unit': 0}, space, 'space')
  shape = (world.batch_size, *spec.image_shape)
  mean, std = jnp.asarray(spec.mean), jnp.asarray(spec.std)
  if space == 'unit':
    mean, std = jnp.zeros_like(mean), jnp.ones_like(std)

  def init(key, obs):
    del obs
    tree = {'x': draw(keys.named(key, 'x'), shape)}
    if joint_labels:
      label_shape = (world.batch_size, spec.num_classes)
      tree['y'] = keys.normal(keys.named(key, 'y'), label_shape)
    return project(tree)

  def batch(tree, obs):
    y = world.task.relax(tree['y']) if joint_labels else obs.side['labels']
    return types.Batch(tree['x'] * std + mean, y)

  def project(tree):
    if not box:
      return tree
    x = jnp.clip(tree['x'], (0 - mean) / std, (1 - mean) / std)
    return {**tree, 'x': x}

  needs = frozenset() if joint_labels else frozenset({'labels'})
  return Variable(init, batch, project, needs)
