"""Multiscale: Inverting Gradients at low resolution first.

The pyramid of Ghiasi et al., Plug-In Inversion: Model-Agnostic Inversion for
Vision with Data Augmentations, ICML 2022, arXiv 2201.12961, which breaching,
the framework of Geiping et al. (2021-2022), put around the attack of Geiping et
al., Inverting Gradients, NeurIPS 2020, arXiv 2003.14053.

Assumed known: the model, the batch size and the labels. Solves

  min over x in [0, 1]  1 - cos(g(x), g*) + a TV(x)

by Adam on the sign of the gradient in stages, each over images of twice the
resolution of the one before, and each with the steps of `inverting_gradients`.
Defaults are the framework's: 2,000 steps per stage, learning rate 0.1, a = 0.2.

Differs from the framework's code: three stages instead of seven; pixels are
repeated, not interpolated; Adam's averages are kept between the stages; there
are no augmentations.
"""

from giajax import require
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.priors import total_variation as variation


def multiscale(
  world: worlds.World,
  *,
  num_steps: int = 6_000,
  stages: int = 3,
  learning_rate: float = 0.1,
  total_variation: float = 0.2,
  distance: str = 'cosine',
  start: str = '',
  form: str = 'auto',
) -> base.Attack:
  """Cosine matching from low resolution to full, by signed Adam.

  Args:
    world: the attacker's picture of the system.
    num_steps: the number of steps T of all stages together.
    stages: the number of stages S; the first has 1 / 2^(S - 1) of the image's
      resolution.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    total_variation: the weight of the prior; traced.
    distance: a name in `DISTANCES`.
    start: see `starts.parse`; if empty, noise of the first stage's resolution.
    form: see `match`.

  Raises:
    ValueError: the stages are fewer than one or more than the steps, or so many
      that the first has no pixel.
  """
  require.whole(num_steps, 'num_steps')
  side = min(world.net.spec.image_shape[:2])
  if not 1 <= stages <= num_steps or side < 2 ** (stages - 1):
    raise ValueError(
      'Expected 1 <= stages <= num_steps and images of at least '
      f'2^(stages - 1) pixels per side; got stages={stages} with '
      f'num_steps={num_steps} and {side} pixels; lower stages'
    )
  sides = [2**i for i in reversed(range(stages))]
  steps = optimizers.shares(num_steps, stages)
  attack = match.match(
    world,
    variable=variables.pixels(world, start=start or f'coarse:{sides[0]}'),
    distance=distance,
    terms={
      'total_variation': (total_variation, variation.total_variation(world))
    },
    optimizer=optimizers.adam(
      optimizers.repeated(optimizers.step_decay, steps),
      before=[
        optimizers.coarse_to_fine(sides, num_steps),
        optimizers.signed(),
      ],
    ),
    num_steps=num_steps,
    learning_rate=learning_rate,
    form=form,
  )
  steady = optimizers.steady_in_last(optimizers.STEADY, steps)
  return attack._replace(steady=steady)
