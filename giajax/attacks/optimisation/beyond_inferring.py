"""Beyond Inferring Class Representatives: L-BFGS with smooth images.

Wang, Song, Zhang, Song, Wang and Qi, Beyond Inferring Class Representatives:
User-Level Privacy Leakage From Federated Learning, INFOCOM 2019, arXiv
1812.00535, in the form of breaching, the framework of Geiping et al.
(2021-2022).

Assumed known: the model, the batch size and the labels. Solves

  min over x in [0, 1]  1/2 |g(x) - g*|^2 + a TV(x),  p = 2, q = 1.25

by L-BFGS. Defaults are the framework's: 400 steps, a = 0.2352 (0.00015 of the
paper times the 2 x 28^2 differences of an MNIST image), 100 remembered pairs.

Differs from the paper: its server computes representatives of a client's data,
and a multi-task GAN refines them; there is none here. Differs from the
framework's code as `wei` does.
"""

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import match
from giajax.attacks.parts import variables
from giajax.priors import total_variation as variation


def beyond_inferring(
  world: worlds.World,
  *,
  num_steps: int = 400,
  total_variation: float = 0.2352,
  memory_size: int = 100,
  max_linesearch_steps: int = 20,
  start: str = 'normal',
) -> base.Attack:
  """Squared gradient difference and total variation, by L-BFGS.

  Args:
    world: the attacker's picture of the system.
    num_steps: the number of L-BFGS iterations.
    total_variation: the weight of the prior; traced.
    memory_size: the number of pairs that L-BFGS remembers.
    max_linesearch_steps: the evaluations that a line search may take.
    start: see `starts.parse`.
  """
  prior = variation.total_variation(world, p=2.0, q=1.25)
  return match.match_by_lbfgs(
    world,
    variable=variables.pixels(world, start=start),
    terms={'total_variation': (total_variation, prior)},
    num_steps=num_steps,
    memory_size=memory_size,
    max_linesearch_steps=max_linesearch_steps,
  )
