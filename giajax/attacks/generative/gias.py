"""GIAS: the latents of a trained generator, then its weights, image by image.

Jeon, Kim, Lee, Oh and Ok, Gradient Inversion with Generative Image Prior,
NeurIPS 2021, arXiv 2110.14962.

Assumed known: the model, the batch size, the labels, and a generator G_w that
was trained on images like the client's. Solves

  (1)  min over z    1 - cos(g(G_w(z)), g*) + a TV(G_w(z))
  (2)  min over d_i  the same of G_{w + d_i}(z_i), for each image i

by Adam, the second from the best latents of the first. d_i has as many numbers
as G has weights, far more than an image has pixels: in (2) the generator is a
start, and what it makes is bounded by the form of a convolutional network only.

Differs from the authors' code: d_i of all layers of G, with its BatchNorm in
inference mode; labels in any order; several restarts take both stages each,
where theirs begin (2) from the best of all; the iterate of the least matching
loss is read, in whichever stage it was, not the last one.
"""

from giajax import require
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import latents
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.generative import base as generative
from giajax.priors import total_variation as variation


def gias(
  world: worlds.World,
  *,
  generator: generative.Trained,
  num_steps: int = 2_000,
  latent_steps: int = 1_000,
  learning_rate: float = 3e-2,
  weight_learning_rate: float = 1e-3,
  total_variation: float = 1e-6,
  form: str = 'auto',
) -> base.Attack:
  """The latents of a trained generator, then its weights.

  Args:
    world: the attacker's picture of the system.
    generator: the generator.
    num_steps: the number of steps T of both stages together; the authors take
      5,500 to 9,000 for networks far larger than a DCGAN.
    latent_steps: those of the first stage; T for latents alone.
    learning_rate: the learning rate of Adam in the first stage, in units of the
      latent; traced.
    weight_learning_rate: that of the second stage, in units of the weights;
      traced.
    total_variation: the weight of the prior; traced.
    form: see `match`.

  Raises:
    ValueError: more steps of the first stage than steps; see
      `latents.latents_then_weights` and `match.match`.
  """
  require.whole(num_steps, 'num_steps')
  require.whole(
    latent_steps,
    'latent_steps',
    most=num_steps,
    advice=f'num_steps={num_steps} counts those of both stages',
  )
  require.positive(weight_learning_rate, 'weight_learning_rate')
  variable = latents.latents_then_weights(world, generator)
  own = {'weight_learning_rate': weight_learning_rate}
  steps = [latent_steps, num_steps - latent_steps]
  attack = match.match(
    world,
    variable=variable._replace(hparams=own),
    distance='cosine',
    terms={
      'total_variation': (total_variation, variation.total_variation(world))
    },
    optimizer=optimizers.adam_in_stages(
      optimizers.step_decay,
      steps,
      last=[optimizers.at_rates({'delta': 'weight_learning_rate'})],
    ),
    num_steps=num_steps,
    learning_rate=learning_rate,
    keep_best=False,
    form=form,
  )
  steady = optimizers.steady_in_last(optimizers.STEADY, steps)
  attack = attack._replace(steady=steady)
  return compose.in_stages(attack, steps, variable.enter)
