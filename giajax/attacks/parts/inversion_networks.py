"""What attacks by a network that inverts updates share.

Such a network is a generator whose latents are read off an update. It learned
from updates that the attacker computed of auxiliary images
(`learners.inversion`), and runs in inference mode.
"""

from collections.abc import Callable

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks.parts import variables
from giajax.generative import base as generative

# `(obs, y) -> latents [M, *latent_shape]`, of the update of a batch with the
# labels y [B]. Each becomes B / M images.
Latents = Callable[[types.Observation, types.Array | None], types.Array]
NEEDS = frozenset({'model', 'batch_size', 'auxiliary_data'})


def inverter(
  world: worlds.World,
  trained: generative.Trained,
  latents: Latents,
  *,
  size: int,
  images: int,
) -> Callable[[types.Observation, types.Array | None], types.Array]:
  """Returns `(obs, y) -> images [B, H, W, C]`, by a trained network.

  Args:
    world: the attacker's picture of the system.
    trained: the network.
    latents: what it reads of an update.
    size: how many numbers of each latent.
    images: the number of images that each latent becomes.

  Raises:
    ValueError: a network that reads or makes something else.
  """
  generator, spec = trained.generator, trained.generator.spec
  variables.require_generator(world, generator)
  if spec.latent_shape != (size,) or spec.images != images:
    raise ValueError(
      f'Expected a network from {size} numbers of an update to {images} images '
      f'for {world.net.spec.name}; got {spec.name} from latents of shape '
      f'{spec.latent_shape} to {spec.images}; build it for this network and '
      'batch size'
    )

  def invert(obs, y):
    weights = trees.widened(trained.variables)
    return generator.apply(weights, latents(obs, y)).out

  return invert
