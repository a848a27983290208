"""GradInversion: matching with image priors, by restarts that agree.

Yin, Mallya, Vahdat, Alvarez, Kautz and Molchanov, See through Gradients: Image
Batch Recovery via GradInversion, CVPR 2021, arXiv 2104.07586.

Assumed known: the model with its BatchNorm buffers, the batch size and the
labels. Solves

  min over x  w 1/2 |g(x) - g*|^2 + a TV(x) + b L2(x) + c R(x) + d C(x)

with R the distance to the buffers' statistics (`priors.bn_statistics`) and C
the distance to the mean of all restarts (`priors.group_consistency`), by Adam
with a rise over 50 steps, a cosine decay and noise in each step, clipped to
images. The weights are those of breaching, the framework of Geiping et al.,
where it has them, and otherwise the paper's: 20,000 steps, learning rate 0.1,
noise 0.2, w = a = 1e-4, b = 1e-6, c = 0.1, d = 0.01. They are meant for trained
networks: the buffers of an untrained network are not statistics of images, and
mislead the attack.

Differs from the paper: the mean of the restarts is not registered; norms are
mean squares, and the squared l2 distance has no root, as in the framework;
labels are known or come from a rule in `labels`; the first BatchNorm weighs as
much as the others; the result is the iterate of lowest objective.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.priors import bn_statistics as statistics
from giajax.priors import group_consistency as groups
from giajax.priors import l2 as norms
from giajax.priors import total_variation as variation


def grad_inversion(
  world: worlds.World,
  *,
  num_steps: int = 20_000,
  learning_rate: float = 0.1,
  matching: float = 1e-4,
  total_variation: float = 1e-4,
  l2: float = 1e-6,
  bn_statistics: float = 0.1,
  group_consistency: float = 0.01,
  noise: float = 0.2,
  warmup_steps: int = 50,
  distance: str = 'l2',
  start: str = 'normal',
  form: str = 'auto',
) -> base.Attack:
  """Matching, image priors and group consistency, by noisy Adam.

  Args:
    world: the attacker's picture of the system.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    matching: the weight of the distance; traced.
    total_variation: the weight of the prior; traced.
    l2: the weight of the prior; traced.
    bn_statistics: the weight of the prior; traced.
    group_consistency: the weight of the prior; traced.
    noise: the noise in each step, in units of the learning rate.
    warmup_steps: the steps over which the learning rate rises.
    distance: a name in `DISTANCES`.
    start: see `starts.parse`.
    form: see `match`.

  Raises:
    ValueError: a network without BatchNorm.
  """
  return match.match(
    world,
    variable=variables.pixels(world, start=start),
    distance=distance,
    matching=matching,
    terms={
      'total_variation': (total_variation, variation.total_variation(world)),
      'l2': (l2, norms.l2(world)),
      'bn_statistics': (
        bn_statistics,
        statistics.bn_statistics(world, source='before'),
      ),
      'group_consistency': (
        group_consistency,
        groups.group_consistency(world),
      ),
    },
    optimizer=optimizers.adam(
      optimizers.cosine_decay(num_steps, warmup_steps),
      after=[optimizers.langevin(noise)],
    ),
    num_steps=num_steps,
    learning_rate=learning_rate,
    form=form,
  )
