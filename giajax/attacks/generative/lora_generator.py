"""LoRA generator: a generator's weights, matched to the adapters' gradient.

Gradient inversion of low-rank adapters, as in eq. 7 of a study of attacks in
three classes; the generator is that of Zhang et al., Generative Gradient
Inversion via Over-Parameterized Networks, ICCV 2023 (`ci_net`). The client
fine-tunes a ViT whose adapters W + A B alone are trained. For latents z, drawn
once, and an untrained network G with weights w, solves

  min over w  1 - cos(g(x), g*) + a TV(x) + p P(x),  x = G_w(z)

over the gradients of the adapters, with patch consistency P (`priors.patch`),
by Adam on the sign of the gradient. In new adapters B is 0, and so is the
gradient of A.

Assumed known: the model, the batch size and the labels; no data and no trained
generator.

Differs from the authors' code: see `ci_net`; both weights are 0 in their runs,
whose ViT has sigmoids in the place of GELU.
"""

import optax

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.generative import ci_net as generators
from giajax.models import inspect
from giajax.priors import patch as patches
from giajax.priors import total_variation as variation


def lora_generator(
  world: worlds.World,
  *,
  num_steps: int = 2_000,
  learning_rate: float = 1e-3,
  total_variation: float = 1e-4,
  patch: float = 1e-4,
  latent: int = 128,
  width: int = 0,
  head: str = 'tanh',
) -> base.Attack:
  """The weights of an untrained generator, from the gradient of adapters.

  Args:
    world: the attacker's picture of the system, of a network of which the
      client trains low-rank adapters alone, and square images as for `ci_net`.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the weights; traced.
    total_variation: the weight a of the prior; traced.
    patch: the weight p of patch consistency; traced.
    latent: see `ci_net`.
    width: see `ci_net`.
    head: see `ci_net`.

  Raises:
    ValueError: an update that covers more than adapters, a network that cannot
      report its layers, or see `generative.ci_net.ci_net` and `match`.
  """
  net = world.net
  names = inspect.leaf_names(net)
  if others := sorted(name for name in names if '.lora_' not in name):
    raise ValueError(
      'Expected an update of low-rank adapters alone for lora_generator; got '
      f'{net.spec.name} with {others[0]}; set model.lora_rank, and '
      "trainable.include=('*.lora_?.*',)"
    )
  first = next(iter(inspect.sites(net).values()))
  generator = generators.ci_net(
    net.spec.image_shape,
    batch_size=world.batch_size,
    latent=latent,
    width=width,
    head=head,
  )
  return match.match(
    world,
    variable=variables.generator_weights(world, generator),
    distance='cosine',
    terms={
      'total_variation': (total_variation, variation.total_variation(world)),
      'patch': (patch, patches.patch(world, size=first.geometry.strides[0])),
    },
    optimizer=optimizers.adam(
      optax.constant_schedule(1.0), before=[optimizers.signed()]
    ),
    num_steps=num_steps,
    learning_rate=learning_rate,
  )
