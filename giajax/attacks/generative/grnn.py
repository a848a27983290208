"""GRNN: the weights of a generator of images and of their labels.

Ren, Deng and Xie, GRNN: Generative Regression Neural Network - A Data Leakage
Attack for Federated Learning, ACM TIST 2022, arXiv 2105.00529.

Assumed known: the model and the batch size. For latents z ~ N(0, I), drawn
once, a generator G of images and a linear layer L of labels, untrained and with
weights w, solves

  min over w  |d|^2 + |d| + a TV(G_w(z)),
  d = g(G_w(z), softmax(L_w(z))) - g*

by RMSprop with momentum. The BatchNorm of G is in training mode over the
candidate batch, as is theirs (`generative.grnn`).

The authors attack networks whose activations are sigmoids, with all weights
from U(-0.5, 0.5). What they call a Wasserstein distance is the |d| above.

Differs from the authors' code: TV is the mean squared difference of neighbours
in both directions, so that their weight counts twice here; the iterate of
lowest objective is kept, not the last one.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.generative import grnn as generators
from giajax.priors import total_variation as variation


def grnn(
  world: worlds.World,
  *,
  num_steps: int = 1_000,
  learning_rate: float = 1e-4,
  total_variation: float = 2e-3,
  momentum: float = 0.99,
  latent: int = 128,
  width: int = 32,
) -> base.Attack:
  """The weights of a generator of images and labels, by RMSprop.

  Args:
    world: the attacker's picture of the system, of square images whose side is
      4, 5, 6 or 7, doubled once or more.
    num_steps: the number of steps T.
    learning_rate: the learning rate of RMSprop, in units of the weights;
      traced. Momentum multiplies it by up to 1 / (1 - momentum).
    total_variation: the weight of the prior; traced. The authors take 2e-3 for
      LeNet and 2e-6 for ResNet-18.
    momentum: the momentum of RMSprop, in [0, 1).
    latent: the number of numbers in the latent of an image.
    width: the number of channels in front of the last stage of the generator.

  Raises:
    ValueError: see `generative.grnn.grnn` and `match`.
  """
  spec = world.net.spec
  generator = generators.grnn(
    spec.image_shape, spec.num_classes, latent=latent, width=width
  )
  prior = variation.total_variation(world, p=2.0)
  return match.match(
    world,
    variable=variables.generator_weights(world, generator),
    distance='l2_and_norm',
    terms={'total_variation': (total_variation, prior)},
    optimizer=optimizers.rmsprop(0.99, momentum),
    num_steps=num_steps,
    learning_rate=learning_rate,
  )
