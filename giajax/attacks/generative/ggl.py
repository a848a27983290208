"""GGL: the latents of a trained generator, by CMA-ES or by Adam.

Li, Zhang, Liu and Liu, Auditing Privacy Defenses in Federated Learning via
Generative Gradient Leakage, CVPR 2022, arXiv 2203.15696.

Assumed known: the model, the batch size and the labels, or a rule that infers
them, and a generator G that was trained on images like the client's. With P
leaves of the gradient, T the client's defence, imitated, and m_i and s_i the
mean and the deviation of the numbers of latent i, solves

  min over z  (1/P) sum_p |T(g_p(G(z))) - g*_p|^2 + a R(z),
  R(z) = mean_i (m_i^2 + s_i^2 - 1 - ln s_i^2) / 2

`ggl` searches by CMA-ES, which takes no derivatives: the first population is a
sample of the generator's prior. Each image of a batch has a search of its own.
`ggl_adam` follows the gradient.

Nothing behind G can be reached. What an image has in common with what is found
may be what all images of its class have in common: the same search against a
noise gradient tells.

The authors' server knows the kind of the defence and estimates its strength
from the update: a bound on the norm by the observed norm, a share of pruned
entries by the observed zeros, Soteria's mask by the zeros of the classifier's
gradient. Here, T is what `world.client` computes: with the grant 'defense' it
has the strengths as well, and nothing remains to be estimated; without, T is
the identity.

Differs from the authors' code: theirs has either the penalty, with a = 0.1, or
z = tanh(z'), and starts from 0 or from U[0, 1]; batches of several images; no
Bayesian optimisation; nevergrad's CMA-ES restarts silently, this one does not.
"""

import math

from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import evolution
from giajax.attacks.parts import latents
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.generative import base as generative


def ggl(
  world: worlds.World,
  *,
  generator: generative.Trained,
  evaluations: int = 25_000,
  population: int = 50,
  sigma: float = 1.0,
  moments: float = 0.1,
  form: str = 'auto',
) -> base.Attack:
  """The latents of a trained generator, by CMA-ES.

  Args:
    world: the attacker's picture of the system.
    generator: the generator.
    evaluations: the number of candidates whose update is computed.
    population: the number of candidates in a step.
    sigma: the standard deviation of the first population.
    moments: the weight a of the penalty; traced.
    form: see `match`.

  Raises:
    ValueError: see `evolution.cma_es`, `latents.latents` and
      `match.match_by_search`.
  """
  variable = latents.latents(world, generator, moments=moments)
  size = math.prod(generator.generator.spec.latent_shape)
  return match.match_by_search(
    world,
    variable=variable,
    search=evolution.cma_es(size, population=population, sigma=sigma),
    distance='layer_l2',
    evaluations=evaluations,
    form=form,
  )


def ggl_adam(
  world: worlds.World,
  *,
  generator: generative.Trained,
  num_steps: int = 2_500,
  learning_rate: float = 0.1,
  moments: float = 0.1,
  form: str = 'auto',
) -> base.Attack:
  """The latents of a trained generator, by Adam.

  Args:
    world: the attacker's picture of the system.
    generator: the generator.
    num_steps: the number of steps T.
    learning_rate: the learning rate of Adam, in units of the latent; traced.
    moments: the weight a of the penalty; traced.
    form: see `match`.

  Raises:
    ValueError: see `latents.latents` and `match.match`.
  """
  attack = match.match(
    world,
    variable=latents.latents(world, generator, moments=moments),
    distance='layer_l2',
    optimizer=optimizers.adam(optimizers.ramps(num_steps, 0.05, 0.25)),
    num_steps=num_steps,
    learning_rate=learning_rate,
    form=form,
  )
  return attack._replace(steady=(0.05, 0.75))
