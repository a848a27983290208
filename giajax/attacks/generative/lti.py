"""LTI: images by a perceptron that learned to invert updates.

Wu, Chen, Guo and Weinberger, Learning to Invert: Simple Adaptive Attacks for
Gradient Inversion in Federated Learning, UAI 2023, arXiv 2210.10880.

Assumed known: the model, the batch size, and auxiliary images with labels, of
any number. On updates g of random batches x of theirs, which the attacker
computes itself, a perceptron f (`generative.lti`) learned before

  (1)  min over w  E min over permutations p  |f_w(g) - x_p|^2

(`learners.inversion`). The attack is one pass,

  (2)  x = f_w(g*)

and finds no labels. f learned on one message: another one of the server needs
another f. Of an update that says little, f makes the mean of the images that
have such an update, which may look like an image.

The score is the mean square of the entries of g*, each in units of its standard
deviation in training: about 1 if g* is like the updates that f learned on.

Differs from the authors' code: gradients are computed in each step, of batches
drawn anew; those of a client that defends itself come from the attacker's
picture of it; see `generative.lti`.
"""

import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import inversion_networks
from giajax.generative import base as generative
from giajax.models import base as models
from giajax.models import inspect


def lti(world: worlds.World, *, generator: generative.Trained) -> base.Attack:
  """The images by a perceptron that learned to invert updates.

  Args:
    world: the attacker's picture of the system.
    generator: the perceptron, a `generative.lti`.

  Raises:
    ValueError: a generator of other images, or one that reads other updates.
  """
  entries = models.count(inspect.abstract_variables(world.net))
  b, reader = world.batch_size, latents(world)
  invert = inversion_networks.inverter(
    world, generator, reader, size=entries, images=b
  )

  def read(obs):
    weights = trees.widened(generator.variables)
    seen = generator.generator.apply(weights, reader(obs, None), stop=1).out
    score = jnp.mean(jnp.square(seen))
    batch = types.Batch(invert(obs, None), jnp.full(b, -1, jnp.int32))
    return types.Reconstruction(batch, jnp.ones(b, bool), score)

  return base.closed_form(read, needs=inversion_networks.NEEDS)


def latents(world: worlds.World) -> inversion_networks.Latents:
  """Returns `(obs, y) -> [1, entries]`, an update as one vector.

  It is read as a gradient. Its parameters are in the order of their names, and
  the labels do not matter.

  Args:
    world: the attacker's picture of the system.
  """

  def read(obs, y):
    del y
    gradient = world.client.as_gradient(obs.update.delta)
    leaves = trees.named_leaves(gradient)
    return jnp.concatenate([leaves[n].ravel() for n in sorted(leaves)])[None]

  return read
