"""Modern: Inverting Gradients with later improvements.

The preset of that name of breaching, the framework of Geiping et al.
(2021-2022), around the attack of Geiping et al., Inverting Gradients, NeurIPS
2020, arXiv 2003.14053.

Assumed known: the model, the batch size and the labels. Solves

  min over x in [0, 1]  1 - cos(g(x), g*) + a TV(x) + b F(x)

by Adam on the soft sign of the gradient, with a linear rise over 50 steps and
a cosine decay, from tiled noise. TV is isotropic and includes the differences
of the colours; F compares the classifier's features with those that its
gradient holds (`priors.features`). Defaults are the framework's: 24,000 steps,
learning rate 0.1, a = b = 0.1, tiles of 4 pixels.

Differs from the framework's code: the rise begins at 1/50 instead of 0, and the
cosine ends with the run; differences across the border count 0 in TV.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.priors import features as feature_priors
from giajax.priors import total_variation as variation


def modern(
  world: worlds.World,
  *,
  num_steps: int = 24_000,
  learning_rate: float = 0.1,
  total_variation: float = 0.1,
  features: float = 0.1,
  double_opponents: bool = True,
  warmup_steps: int = 50,
  start: str = 'tiled:4',
  form: str = 'auto',
) -> base.Attack:
  """Cosine matching, colour TV and features, by Adam on soft signs.

  Args:
    world: the attacker's picture of the system.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    total_variation: the weight of the prior; traced.
    features: the weight of the prior; traced.
    double_opponents: whether TV includes the differences of the colours; False
      for grey images.
    warmup_steps: the steps over which the learning rate rises.
    start: see `starts.parse`.
    form: see `match`.

  Raises:
    ValueError: a network whose classifier has no bias, or `double_opponents`
      for images that do not have three channels.
  """
  prior = variation.total_variation(
    world, p=2.0, q=0.5, double_opponents=double_opponents
  )
  return match.match(
    world,
    variable=variables.pixels(world, start=start),
    distance='cosine',
    terms={
      'total_variation': (total_variation, prior),
      'features': (features, feature_priors.features(world)),
    },
    optimizer=optimizers.adam(
      optimizers.cosine_decay(num_steps, warmup_steps),
      before=[optimizers.soft_signed(num_steps)],
    ),
    num_steps=num_steps,
    learning_rate=learning_rate,
    form=form,
  )
