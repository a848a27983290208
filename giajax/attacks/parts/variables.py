"""What an optimisation attack optimises, and how it becomes a batch."""

from collections.abc import Callable, Mapping, Sequence
import types as builtins
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import registry
from giajax import require
from giajax import types
from giajax import world as worlds
from giajax.attacks.parts import starts
from giajax.generative import base as generative
from giajax.models.parts import spectral


class Variable(NamedTuple):
  """A parametrisation of the candidate batch.

  Attributes:
    init: `(key, obs, hp) -> tree` of float32 arrays; the key is consumed.
    batch: `(tree, obs) -> Batch`, differentiable.
    project: `tree -> tree`, the nearest allowed tree.
    needs: the grants that it uses.
    hparams: the default values of the traced knobs that `init` reads.
    terms: `{name: (weight, tree -> [])}`, what is to be low of the tree itself;
      the weights are traced.
    enter: `(tree, stage, obs) -> tree`, the same candidate at the start of a
      later stage, whose number is [].
  """

  init: Callable[[types.Array, types.Observation, types.HParams], types.Tree]
  batch: Callable[[types.Tree, types.Observation], types.Batch]
  project: Callable[[types.Tree], types.Tree]
  needs: frozenset[str]
  hparams: Mapping[str, float] = builtins.MappingProxyType({})
  terms: Mapping[str, tuple[float, Callable[[types.Tree], types.Array]]] = (
    builtins.MappingProxyType({})
  )
  enter: Callable[[types.Tree, types.Array, types.Observation], types.Tree] = (
    lambda tree, stage, obs: tree
  )


def pixels(
  world: worlds.World,
  *,
  start: str = 'normal',
  box: bool = True,
  space: str = 'normalised',
  joint: bool | Sequence[str] = False,
) -> Variable:
  """The pixels themselves, and soft labels where these are unknown.

  Args:
    world: the attacker's picture of the system, for the image shape, its
      normalisation and the number of images.
    start: see `starts.parse`; noise is drawn in the space of optimisation.
    box: whether to project onto images in [0, 1] after each step.
    space: 'normalised', the network's input space, in which the literature's
      learning rates are meant, or 'unit' for [0, 1].
    joint: what of the targets is optimised with the images instead of being
      taken from the observation: names of `world.task.facts`, True for all of
      them.

  Raises:
    ValueError: an unknown start or space, or a task without targets that can be
      optimised.
  """
  spec = world.net.spec
  require.one_of(space, 'space', ('normalised', 'unit'))
  beginning = starts.parse(start, spec.image_shape)
  shape = (world.batch_size, *spec.image_shape)
  mean, std = jnp.asarray(spec.mean), jnp.asarray(spec.std)
  free = _joint(world, joint)
  if space == 'unit':
    mean, std = jnp.zeros_like(mean), jnp.ones_like(std)

  def to_space(x):
    return (x - mean) / std

  def init(key, obs, hp):
    key_x = keys.named(key, 'x')
    tree: dict[str, Any] = {
      'x': beginning.draw(key_x, shape, to_space, obs, hp)
    }
    if free:
      key_y = keys.named(key, 'y')
      tree['y'] = {
        name: fact.draw(keys.named(key_y, name), world.batch_size, obs.side)
        for name, fact in free.items()
      }
    return project(tree)

  def batch(tree, obs):
    own = {name: fact.relax(tree['y'][name]) for name, fact in free.items()}
    y = targets(world, obs, own)
    return types.Batch(tree['x'] * std + mean, y)

  def project(tree):
    if not box:
      return tree
    return {**tree, 'x': jnp.clip(tree['x'], to_space(0), to_space(1))}

  needs = frozenset(world.task.facts.keys() - free.keys())
  return Variable(
    init, batch, project, needs | beginning.needs, beginning.hparams
  )


def _joint(
  world: worlds.World, joint: bool | Sequence[str]
) -> Mapping[str, Any]:
  """Returns the facts that are optimised, by their names."""
  facts = world.task.facts
  names = tuple(facts) if joint is True else tuple(joint or ())
  for name in names:
    registry.lookup(facts, name, 'part of the targets')
    if facts[name].draw is None:
      raise ValueError(
        f'Expected a task whose {name} can be optimised for joint={joint!r}; '
        'got one that can only grant them; name others, or choose an attack '
        'that needs them'
      )
  return {name: facts[name] for name in names}


def targets(
  world: worlds.World,
  obs: types.Observation,
  own: Mapping[str, Any] = builtins.MappingProxyType({}),
) -> types.Tree:
  """Returns the targets: what was granted of them, and the attack's own.

  Args:
    world: the attacker's picture of the system.
    obs: what the attacker sees.
    own: the values of facts that are not granted, by name.
  """
  task = world.task
  given = {name: obs.side[name] for name in task.facts if name not in own}
  return task.join({**given, **own})


def generator_weights(
  world: worlds.World, generator: generative.Generator
) -> Variable:
  """The weights of an untrained generator, whose latents stay fixed.

  Weights and latents, one for each image, are drawn from the restart's key. The
  generator's BatchNorm uses the statistics of the candidate batch (training
  mode), so that the images of a batch depend on each other. Spectral norms take
  a power iteration in each pass, and one more between two steps. Latents and
  vectors of spectral norms are part of the tree; no gradient reaches them.

  Labels are those of the generator if it makes labels, else of the observation.

  Args:
    world: the attacker's picture of the system.
    generator: the generator, of images like the network's.

  Raises:
    ValueError: see `require_generator`.
  """
  require_generator(world, generator)
  if generator.labels is not None or generator.takes_labels:
    require.exclusive_classes(world, generator.spec.name)
  shape = (world.batch_size, *generator.spec.latent_shape)

  def init(key, obs, hp):
    del obs, hp
    weights = generator.init(keys.named(key, 'weights'))
    z = keys.normal(keys.named(key, 'z'), shape)
    return {'params': weights.params, 'stats': weights.stats, 'z': z}

  def batch(tree, obs):
    variables, z = _weights(tree), jax.lax.stop_gradient(tree['z'])
    if generator.labels is None:
      y = targets(world, obs)
    else:
      logits = generator.labels(variables, z)
      y = world.task.facts['labels'].relax(logits)
    own = y if generator.takes_labels else None
    return types.Batch(generator.apply(variables, z, own, train=True).out, y)

  def project(tree):
    return {**tree, 'stats': spectral.renewed(_weights(tree))}

  needs = world.task.facts if generator.labels is None else ()
  return Variable(init, batch, project, frozenset(needs))


def require_generator(
  world: worlds.World, generator: generative.Generator
) -> None:
  """Requires a generator of images and classes like the network's.

  Args:
    world: the attacker's picture of the system.
    generator: the generator.
  """
  spec, net = generator.spec, world.net.spec
  if spec.image_shape != net.image_shape:
    raise ValueError(
      f'Expected a generator of images {net.image_shape}, as {net.name} takes '
      f'them; got {spec.name} with {spec.image_shape}; build it with their '
      'image_shape'
    )
  if spec.num_classes not in (0, net.num_classes):
    raise ValueError(
      f'Expected a generator of {net.num_classes} classes, as {net.name} has; '
      f'got {spec.name} with {spec.num_classes}; build it with num_classes='
      f'{net.num_classes}'
    )


def _weights(tree: types.Tree) -> types.Variables:
  stats = jax.lax.stop_gradient(tree['stats'])
  return types.Variables(tree['params'], stats)
