"""GIFD: the latents of a trained generator, then its features, stage by stage.

Fang, Chen, Wang, Wang and Xia, GIFD: A Generative Gradient Inversion Method
with Feature Domain Optimization, ICCV 2023, arXiv 2308.04699.

Assumed known: the model, the batch size, the labels, or a rule that infers
them, and a generator G that was trained on images like the client's. G is a
composition of stages. With h_0 = z, and G_k all stages behind the k-th, solves
for k = 0, 1, ...

  min over h_k  1 - cos(g(G_k(h_k)), g*) + a TV(G_k(h_k)) + b |G_k(h_k)|^2

by Adam, z on the sphere of its start, and the features h_k in an l1 ball around
what the best candidate so far has there. What is found is that of the least
matching loss in all stages.

Differs from the authors' code: the radius of a ball is in proportion to the
number of features, where theirs are 2,000 to 7,500 for BigGAN's, 0.06 to 0.002
for each; a stage begins at the best candidate of all before it, and the best
image is returned with its own score, where theirs may return that of another
restart; latents are on a sphere image by image; labels are not put into the
true order; the l2 prior is a mean over the pixels.
"""

from giajax import require
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import latents
from giajax.attacks.parts import match
from giajax.attacks.parts import optimizers
from giajax.generative import base as generative
from giajax.priors import l2 as size
from giajax.priors import total_variation as variation


def gifd(
  world: worlds.World,
  *,
  generator: generative.Trained,
  num_steps: int = 5_000,
  layers: int = 0,
  radius: float = 0.02,
  learning_rate: float = 0.1,
  total_variation: float = 1e-4,
  l2: float = 1e-6,
  form: str = 'auto',
) -> base.Attack:
  """The latents of a trained generator, then its features.

  Args:
    world: the attacker's picture of the system.
    generator: the generator.
    num_steps: the number of steps T of all stages together, in equal shares;
      the authors take 1,000 for each.
    layers: the number of boundaries between stages of the generator at which
      features are optimised, from the first on; 0 for all.
    radius: the radius of the l1 ball for each feature of an image.
    learning_rate: the learning rate of Adam, in units of latents and features;
      traced.
    total_variation: the weight of the prior; traced.
    l2: the weight of the prior; traced.
    form: see `match`.

  Raises:
    ValueError: fewer steps than stages; see `latents.latents_then_features` and
      `match.match`.
  """
  variable = latents.latents_then_features(
    world, generator, layers=layers, radius=radius
  )
  stages = 1 + (layers or len(generator.generator.stages) - 1)
  require.whole(
    num_steps, 'num_steps', least=stages, advice=f'there are {stages} stages'
  )
  steps = optimizers.shares(num_steps, stages)
  attack = match.match(
    world,
    variable=variable,
    distance='cosine',
    terms={
      'total_variation': (total_variation, variation.total_variation(world)),
      'l2': (l2, size.l2(world)),
    },
    optimizer=optimizers.adam_in_stages(
      lambda count: optimizers.ramps(count, 0.05, 0.75), steps
    ),
    num_steps=num_steps,
    learning_rate=learning_rate,
    keep_best=False,
    form=form,
  )
  steady = optimizers.steady_in_last((0.05, 0.25), steps)
  attack = attack._replace(steady=steady)
  return compose.in_stages(attack, steps, variable.enter)
