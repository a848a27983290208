"""Inverting Gradients: cosine matching with a total variation prior.

Geiping, Bauermeister, Dröge and Moeller, Inverting Gradients - How easy is it
to break privacy in federated learning?, NeurIPS 2020, arXiv 2003.14053.

Assumed known: the model, the batch size and the labels. Solves (eq. 4)

  min over x in [0, 1]  1 - <g(x), g*> / (|g(x)| |g*|) + a TV(x)

by Adam on the sign of the gradient, in the normalised image space, with the
step divided by 10 after 3/8, 5/8 and 7/8 of the way. The defaults are the
CIFAR-10 ones of the authors' framework: 24,000 steps, learning rate 0.1,
a = 0.2, one restart.

Differs from the authors' code: differences across the border count 0 in TV.
"""

import jax
import jax.numpy as jnp
import optax

from giajax.attacks import base
from giajax.attacks import compose
from giajax.attacks import distances
from giajax.attacks import match
from giajax.attacks import variables
from giajax.priors import total_variation as priors


def inverting_gradients(
  world: base.World,
  *,
  num_steps: int = 24_000,
  learning_rate: float = 0.1,
  total_variation: float = 0.2,
  distance: str | distances.Distance = 'cosine',
  start: str = 'normal',
  form: str = 'auto',
) -> base.Attack:
  """Cosine matching with a total variation prior, by signed Adam.

  Args:
    world: the attacker's picture of the system.
    num_steps: T.
    learning_rate: of Adam, in units of the normalised image; traced.
    total_variation: weight of the prior; traced.
    distance: a name in `DISTANCES` or a Distance.
    start: a name in `variables.STARTS`.
    form: see `match`.
  """
  return compose.keep_best(
    match.match(
      world,
      variable=variables.pixels(world, start=start),
      distance=distance,
      terms={'total_variation': priors.total_variation(world)},
      optimizer=signed_adam(num_steps),
      num_steps=num_steps,
      hparams={
        'learning_rate': learning_rate,
        'total_variation': total_variation,
      },
      form=form,
    )
  )


def signed_adam(num_steps: int) -> optax.GradientTransformation:
  """Returns Adam on the sign of the gradient, with `step_decay`."""
  return optax.chain(
    signed(),
    optax.scale_by_adam(),
    optax.scale_by_schedule(step_decay(num_steps)),
    optax.scale(-1.0),
  )


def signed() -> optax.GradientTransformation:
  """Replaces every entry of a gradient by its sign."""
  return optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates))


def step_decay(num_steps: int) -> optax.Schedule:
  """Returns 1, divided by 10 at T/2.667, T/1.6 and T/1.142."""
  return optax.piecewise_constant_schedule(
    1.0, {int(num_steps / d): 0.1 for d in (2.667, 1.6, 1.142)}
  )
