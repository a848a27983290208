"""APRIL by optimisation: the gradient of the positions counts by itself.

Lu, Zhang, Zhao, He and Cheng, APRIL: Finding the Achilles' Heel on Privacy for
Vision Transformers, CVPR 2022, arXiv 2112.14087. The gradient of a learned
position embedding p is that of the tokens, summed over the images, and says
more of them than that of any other parameter. Solves

  min over x in [0, 1]  |g(x) - g*|^2 / 2 + w (1 - cos(g_p(x), g_p*)) + a TV(x)

by Adam on the sign of the gradient, in the normalised image space, with the
step divided by 10 after 3/8, 5/8 and 7/8 of the run. Works on any ViT with
learned positions; `april` solves for the image where the first block allows it.

Assumed known: the model, the batch size and the labels.

Differs from the authors, whose weights and schedule were not at hand: Adam, its
schedule and total variation are those of `inverting_gradients`.
"""

from giajax import require
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import distances
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.models import inspect
from giajax.priors import total_variation as variation


def april_optimisation(
  world: worlds.World,
  *,
  num_steps: int = 5_000,
  learning_rate: float = 0.1,
  positions: float = 1.0,
  total_variation: float = 1e-3,
  distance: str | distances.Distance = 'l2',
  form: str = 'auto',
) -> base.Attack:
  """Matching with a term of the position embedding, by signed Adam.

  Args:
    world: the attacker's picture of the system, with a network of learned
      positions.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    positions: the weight w of the positions' gradient, at least 0.
    total_variation: the weight a of the prior; traced.
    distance: a name in `DISTANCES` or a Distance, of all gradients.
    form: see `match`.

  Raises:
    ValueError: a network without learned positions that the client trains, a
      negative weight, or see `match`.
  """
  require.not_negative(positions, 'positions')
  leaf = f'{inspect.positions(world.net, "april_optimisation")}.value'
  prior = variation.total_variation(world)
  attack = match.match(
    world,
    variable=variables.pixels(world),
    distance=distances.with_direction(distance, leaf, positions),
    terms={'total_variation': (total_variation, prior)},
    optimizer=optimizers.signed_adam(num_steps),
    num_steps=num_steps,
    learning_rate=learning_rate,
    form=form,
  )
  return attack._replace(steady=optimizers.STEADY)
