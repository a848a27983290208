"""What `giajax train` can train, each with its learner and what it is worth."""

from collections.abc import Callable, Mapping
import inspect
import types as builtins
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import trees
from giajax import types
from giajax.data import base as data
from giajax.defenses import base as defenses
from giajax.engine import experiment as records
from giajax.engine import identity
from giajax.engine import learning
from giajax.engine import quality
from giajax.engine import trainings
from giajax.learners import adversarial
from giajax.learners import base as learners
from giajax.learners import federated
from giajax.learners import inversion
from giajax.models import base as models
from giajax.tasks import base as tasks

_EVALUATED = 250  # images per pass over the test set
_ROWS, _COLUMNS = 10, 10  # of a sheet of samples, the largest numbers


class Recipe(NamedTuple):
  """How long and how fast to train.

  What is None is what the learner has by default; one that does not take it
  refuses another value.

  Attributes:
    epochs: the number of passes over the training set, at least 1.
    seed: the seed of the initial weights, the order of the images and all
      draws.
    batch_size: the number of images behind one step.
    learning_rate: the highest learning rate, that of the first step without
      warm-up.
    momentum: the momentum of SGD, in [0, 1).
    weight_decay: the weight decay of every parameter, >= 0.
    warmup_steps: the steps over which the learning rate of a model rises.
    critic_steps: the steps of the discriminator in each step of a generator.
    critic_width: the number of channels behind its first layer.
    flip: whether real images are mirrored at random for a generator.
  """

  epochs: int = 1
  seed: int = 0
  batch_size: int | None = None
  learning_rate: float | None = None
  momentum: float | None = None
  weight_decay: float | None = None
  warmup_steps: int | None = None
  critic_steps: int | None = None
  critic_width: int | None = None
  flip: bool | None = None


class Lesson(NamedTuple):
  """What is trained, and what is said about it.

  Attributes:
    name: of the network or the generator.
    learner: the learner.
    taught: the training set.
    settings: of the learner, for the record.
    config: that it was made of, for the record.
    decides: what of it decides the weights, images apart.
    facts: `(variables) -> dict`, what the weights are worth, for the record.
    said: `(record) -> str`, the same in words.
    sheet: `(variables) -> [rows, columns, H, W, C]`; None for no images.
    told: what else the record says, which then is part of the file, too.
  """

  name: str
  learner: learners.Learner
  taught: data.Dataset
  settings: Mapping[str, Any]
  config: Mapping[str, Any]
  decides: Mapping[str, Any]
  facts: Callable[[types.Variables], dict[str, Any]]
  said: Callable[[Mapping[str, Any]], str]
  sheet: Callable[[types.Variables], np.ndarray] | None = None
  told: Mapping[str, Any] = builtins.MappingProxyType({})


def accuracy(
  net: models.Net,
  task: tasks.Task,
  variables: types.Variables,
  dataset: data.Dataset,
) -> float:
  """Returns the share of a data set's targets that a network has right.

  Args:
    net: the network, run in inference mode.
    task: what it learns, whose targets can be read off an output.
    variables: its weights.
    dataset: the test set.
  """
  predict = task.predict or (lambda out: out)

  def right(out, y, valid):
    shares = task.same(y, task.harden(predict(out)))
    return jnp.sum(jnp.where(valid, shares, 0.0))

  return _total(right, net, variables, dataset) / dataset.size


def loss(
  net: models.Net,
  task: tasks.Task,
  variables: types.Variables,
  dataset: data.Dataset,
) -> float:
  """Returns the mean loss of the images of a data set.

  Args:
    net: as for `accuracy`, like `variables` and `dataset`.
    task: what it learns.
    variables: its weights.
    dataset: the test set.
  """

  def each(out, y, valid):
    one = jax.vmap(lambda *pair: task.loss(*map(trees.single, pair)))
    return jnp.sum(jnp.where(valid, one(out, y), 0.0))

  return _total(each, net, variables, dataset) / dataset.size


def worth(
  net: models.Net,
  task: tasks.Task,
  variables: types.Variables,
  dataset: data.Dataset,
) -> dict[str, float]:
  """Returns what a network is rated by, by names; {} for nothing but targets.

  Args:
    net: as for `accuracy`, like `variables` and `dataset`.
    task: what it learns.
    variables: its weights.
    dataset: the test set.
  """
  if task.worth is None:
    return {}
  read = task.worth.read
  passes = _passes(
    lambda out, y, valid: (read(out), y), net, variables, dataset
  )
  kept, y = jax.tree.map(lambda *parts: np.concatenate(parts), *passes)
  whole = jax.tree.map(lambda leaf: leaf[: dataset.size], (kept, y))
  return dict(zip(task.worth.names, task.worth.rate(*whole)))


def _total(measure, net, variables, dataset) -> float:
  """Returns the sum of a measure `(out, y, valid) -> []` over a data set."""
  return sum(map(float, _passes(measure, net, variables, dataset)))


def _passes(measure, net, variables, dataset) -> list[Any]:
  """Returns what `(out, y, valid)` gives for each pass over a data set."""

  @jax.jit
  def run(variables, batch, valid):
    output = net.apply(variables, batch.x, train=False, key=jax.random.key(0))
    return measure(output.out, batch.y, valid)

  count, passes = min(_EVALUATED, dataset.size), []
  for first in range(0, dataset.size, count):
    indices = np.arange(first, first + count)
    batch = dataset.take(indices % dataset.size)  # the last pass is filled up
    passes.append(jax.device_get(run(variables, batch, indices < dataset.size)))
  return passes


def model(resolved: Mapping[str, Any], recipe: Recipe, split: str) -> Lesson:
  """The network of a config, with the updates that its audit attacks."""
  settings = _settings(federated.federated, recipe)
  lesson = trainings.of_model(
    resolved,
    split=split,
    batch_size=settings['batch_size'],
    seed=recipe.seed,
  )
  system, tested = lesson.system, lesson.tested
  readable = system.task.predict is not None
  course = learning.Course(system.dataset, recipe.epochs, recipe.seed)
  learner = federated.federated(
    defenses.protect(system.client, system.defense),
    system.task,
    lesson.start,
    num_steps=learning.steps(course, settings['batch_size']),
    **settings,
  )

  def facts(variables):
    measure = accuracy if readable else loss
    own = system.net, system.task, variables, tested
    rated = {measure.__name__: measure(*own), **worth(*own)}
    return {**rated, 'tested_on': tested.name}

  def said(facts):
    if not readable:
      return f'a mean loss of {facts["loss"]:.4g} on {facts["tested_on"]}'
    if system.task.worth is not None:
      names = system.task.worth.names
      numbers = ', '.join(f'{name} {facts[name]:.3f}' for name in names)
      return f'{numbers} on {facts["tested_on"]}'
    of = '' if system.task.exclusive else 'the targets of '
    return f'{facts["accuracy"]:.2%} of {of}{facts["tested_on"]} right'

  return Lesson(
    name=system.net.spec.name,
    learner=learner,
    taught=system.dataset,
    settings=settings,
    config=lesson.config,
    decides=lesson.decides,
    facts=facts,
    said=said,
  )


def generator(
  resolved: Mapping[str, Any], recipe: Recipe, split: str
) -> Lesson:
  """The generator of a config's attack: of samples, or from its updates."""
  lesson = trainings.of_generator(resolved, split=split)
  inverts = lesson.generator.spec.name in inversion.READERS
  return (_inverting if inverts else _sampling)(lesson, recipe)


def _sampling(lesson: records.GeneratorTraining, recipe: Recipe) -> Lesson:
  """A generator of samples, by adversarial training."""
  made = lesson.generator
  settings = _settings(adversarial.adversarial, recipe)
  course = learning.Course(lesson.taught, recipe.epochs, recipe.seed)
  learner = adversarial.adversarial(
    made,
    num_steps=learning.steps(course, settings['batch_size']),
    **settings,
  )

  def facts(variables):
    if not lesson.net_is_trained:
      return {}
    judge = quality.Judge(lesson.net, lesson.variables)
    return quality.quality(
      judge, made, variables, lesson.taught, lesson.tested, recipe.seed
    )

  def said(facts):
    words = (
      ('classified_as_asked', '{:.1%} of its samples classified as asked'),
      ('frechet_distance', 'Frechet distance {:.3g}'),
    )
    numbers = [text.format(facts[k]) for k, text in words if k in facts]
    judged = f' by {facts["network"]}' if numbers else ''
    return f'{", ".join(numbers) or "not judged"}{judged}'

  return _of_generator(
    lesson,
    learner,
    settings,
    facts,
    said,
    sheet=lambda variables: _sheet(made, variables, recipe.seed),
  )


def _inverting(lesson: records.GeneratorTraining, recipe: Recipe) -> Lesson:
  """A network from updates to images, on updates of the training set."""
  made = lesson.generator
  settings = _settings(inversion.inversion, recipe)
  images = settings['batch_size'] * lesson.world.batch_size
  least = min(lesson.taught.size // settings['batch_size'], lesson.tested.size)
  if least < lesson.world.batch_size:
    raise ValueError(
      f'Expected images for batch_size={settings["batch_size"]} updates of '
      f'cases.batch_size={lesson.world.batch_size} in the training set and for '
      f'one in the data set; got {lesson.taught.size} and '
      f'{lesson.tested.size} images; lower one of them'
    )
  course = learning.Course(lesson.taught, recipe.epochs, recipe.seed)
  learner = inversion.inversion(
    lesson.world,
    made,
    lesson.message,
    num_steps=learning.steps(course, images),
    **settings,
  )
  error = inversion.error(lesson.world, made, lesson.message)

  def facts(variables):
    own, mean = quality.inversion_psnr(
      error, variables, lesson.world.batch_size, lesson.tested, recipe.seed
    )
    return {
      'psnr': own,
      'psnr_of_mean_image': mean,
      'tested_on': lesson.tested.name,
    }

  def said(facts):
    return (
      f'PSNR {facts["psnr"]:.1f} dB on {facts["tested_on"]}, of the mean image '
      f'{facts["psnr_of_mean_image"]:.1f}'
    )

  return _of_generator(
    lesson,
    learner,
    settings,
    facts,
    said,
    told={'victim': lesson.victim},
  )


def _of_generator(
  lesson, learner, settings, facts, said, *, sheet=None, told=None
) -> Lesson:
  return Lesson(
    name=lesson.generator.spec.name,
    learner=learner,
    taught=lesson.taught,
    settings=settings,
    config=lesson.config,
    decides=lesson.decides,
    facts=facts,
    said=said,
    sheet=sheet,
    told={'images': identity.facts(lesson.taught), **(told or {})},
  )


# What can be trained, by name.
PARTS = {'generator': generator, 'model': model}


def _settings(factory: Callable[..., Any], recipe: Recipe) -> dict[str, Any]:
  """Returns the arguments of a learner that a recipe decides.

  Raises:
    ValueError: the recipe has one that the learner does not take.
  """
  parameters = inspect.signature(factory).parameters
  settings = {}
  for name in Recipe._fields[2:]:  # epochs and seed are everybody's
    value = getattr(recipe, name)
    if name in parameters:
      settings[name] = parameters[name].default if value is None else value
    elif value is not None:
      own = ', '.join(n for n in Recipe._fields if n in parameters)
      raise ValueError(
        f'Expected an argument of {factory.__name__} training ({own}); got '
        f'{name}={value!r}; leave it out'
      )
  return settings


def _sheet(generator, variables, seed: int) -> np.ndarray:
  """Returns samples, a row for each class; rows of any if there are none."""
  spec = generator.spec
  rows = min(spec.num_classes or _ROWS, _ROWS)
  key = keys.named(jax.random.key(seed), 'sheet')
  z = keys.normal(key, (rows * _COLUMNS, *spec.latent_shape))
  y = jnp.repeat(jnp.arange(rows), _COLUMNS) if generator.takes_labels else None
  x = jax.jit(lambda v: generator.apply(v, z, y).out)(variables)
  return np.asarray(x).reshape(rows, _COLUMNS, *spec.image_shape)
