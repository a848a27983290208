"""CI-Net: the weights of an over-parameterised network that makes the images.

Zhang, Zhang, Chen, Zhang, Sun and Liu, Generative Gradient Inversion via
Over-Parameterized Networks in Federated Learning, ICCV 2023.

Assumed known: the model, the batch size and the labels; no data and no trained
generator. For latents z ~ N(0, I), drawn once, and an untrained network G with
weights w, of more numbers than the images have pixels, solves

  min over w  1 - <g(G_w(z)), g*> / (|g(G_w(z))| |g*|)

by Adam on the sign of the gradient. The only prior is the form of G, a
convolutional network (`generative.ci_net`): it makes images of noise badly. The
BatchNorm of G is in training mode over the candidate batch, as is theirs.

The authors attack a network whose ReLUs became sigmoids, in training mode, and
find that ReLU resists.

Differs from the authors' code: images are in [0, 1], see `generative.ci_net`;
spectral norms take two power iterations a step instead of one; the iterate of
lowest objective is kept, not the last one; images are paired with the true ones
one to one.
"""

import optax

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import distances
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.generative import ci_net as generators


def ci_net(
  world: worlds.World,
  *,
  num_steps: int = 2_000,
  learning_rate: float = 1e-3,
  distance: str | distances.Distance = 'cosine',
  latent: int = 128,
  width: int = 0,
  head: str = 'tanh',
  form: str = 'auto',
) -> base.Attack:
  """The weights of an over-parameterised generator, by signed Adam.

  Args:
    world: the attacker's picture of the system, of square images whose side is
      4, 5, 6 or 7, doubled any number of times.
    num_steps: the number of steps T; the authors take 2,000 for CIFAR-10 and
      30,000 for ImageNet.
    learning_rate: the learning rate of Adam, in units of the weights; traced.
    distance: a name in `DISTANCES` or a Distance.
    latent: the number of numbers in the latent of an image.
    width: the number of channels of the generator; 0 for the authors' rule,
      `generative.ci_net.rule`.
    head: the last function of the generator, 'tanh' mapped to [0, 1] or
      'sigmoid'.
    form: see `match`.

  Raises:
    ValueError: see `generative.ci_net.ci_net` and `match`.
  """
  generator = generators.ci_net(
    world.net.spec.image_shape,
    batch_size=world.batch_size,
    latent=latent,
    width=width,
    head=head,
  )
  return match.match(
    world,
    variable=variables.generator_weights(world, generator),
    distance=distance,
    optimizer=optimizers.adam(
      optax.constant_schedule(1.0), before=[optimizers.signed()]
    ),
    num_steps=num_steps,
    learning_rate=learning_rate,
    form=form,
  )
