"""Inverting Gradients: cosine matching with a total variation prior.

Geiping, Bauermeister, Dröge and Moeller, Inverting Gradients - How easy is it
to break privacy in federated learning?, NeurIPS 2020, arXiv 2003.14053.

Assumed known: the model, the batch size and the labels. Solves (eq. 4)

  min over x in [0, 1]  1 - <g(x), g*> / (|g(x)| |g*|) + a TV(x)

by Adam on the sign of the gradient, in the normalised image space, with the
step divided by 10 after 3/8, 5/8 and 7/8 of the run. The defaults are those of
the authors' framework for CIFAR-10: 24,000 steps, learning rate 0.1, a = 0.2,
one restart.

For ImageNet their code also matches only the ten parameter arrays of largest
observed norm and replaces images by their medians every 500 steps:
`top_leaves=10`, `median_every=500`. It also offers layer weights that fall with
depth.

Differs from the authors' code: differences across the border count 0 in TV.
"""

from collections.abc import Sequence

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import distances
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.attacks.parts import variables
from giajax.models import inspect
from giajax.priors import total_variation as variation


def inverting_gradients(
  world: worlds.World,
  *,
  num_steps: int = 24_000,
  learning_rate: float = 0.1,
  total_variation: float = 0.2,
  distance: str | distances.Distance = 'cosine',
  top_leaves: int = 0,
  leaf_weights: str = 'equal',
  median_every: int = 0,
  start: str = 'normal',
  joint: bool | Sequence[str] = False,
  form: str = 'auto',
) -> base.Attack:
  """Cosine matching with a total variation prior, by signed Adam.

  Args:
    world: the attacker's picture of the system.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the normalised image;
      traced.
    total_variation: the weight of the prior; traced.
    distance: a name in `DISTANCES` or a Distance.
    top_leaves: the number of parameter arrays that are matched, 0 for all; see
      `distances.on_leaves`.
    leaf_weights: the weights of the layers: 'equal', or falling with depth,
      'linear' or 'exponential'.
    median_every: the steps between two 3 x 3 median filters, 0 for none.
    start: see `starts.parse`.
    joint: what of the targets is optimised as well, where nothing tells it: see
      `variables.pixels`. The authors optimise none.
    form: see `match`.

  Raises:
    ValueError: see `distances.on_leaves` and `optimizers.median_filter`.
  """
  order = inspect.in_order(world.net) if leaf_weights != 'equal' else ()
  attack = match.match(
    world,
    variable=variables.pixels(world, start=start, joint=joint),
    distance=distances.on_leaves(
      distance, top=top_leaves, weights=leaf_weights, order=order
    ),
    terms={
      'total_variation': (total_variation, variation.total_variation(world))
    },
    optimizer=optimizers.adam(
      optimizers.step_decay(num_steps),
      before=[optimizers.signed()],
      last=[optimizers.median_filter(median_every)],
    ),
    num_steps=num_steps,
    learning_rate=learning_rate,
    form=form,
  )
  return attack._replace(steady=optimizers.STEADY)
