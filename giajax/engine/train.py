"""Training what an audit uses: its network, or the generator of its attack.

A run is named by everything that decides its weights. One that was stopped
continues from the checkpoints beside the file that it will write, to the same
bits.
"""

import hashlib
import json
import logging
import pathlib
from typing import Any, NamedTuple

import numpy as np

from giajax import archives
from giajax import registry
from giajax.engine import checkpoint
from giajax.engine import identity
from giajax.engine import learning
from giajax.engine import lessons
from giajax.engine import provenance
from giajax.engine import sweep
from giajax.engine import trainings
from giajax.engine import workdir
from giajax.generative import base as generative
from giajax.models import convert

_log = logging.getLogger('giajax')


class Outcome(NamedTuple):
  """What was trained.

  Attributes:
    path: the file of the weights.
    text: what it is, in a line.
    losses: the curves.
    sheet: [rows, columns, H, W, C] samples of a generator; None for others.
  """

  path: pathlib.Path
  text: str
  losses: learning.Losses
  sheet: np.ndarray | None


def train_config(
  config: Any,
  out: str,
  recipe: lessons.Recipe,
  *,
  part: str = 'model',
  point: int | None = None,
  split: str = 'train',
  every: int = 0,
  command: str = '',
) -> Outcome:
  """Trains a part of a config and writes its weights.

  Args:
    config: the config of an audit.
    out: the path of the npz file.
    recipe: how long and how fast.
    part: a name in `lessons.PARTS`.
    point: the point of the config's sweep, if it has one.
    split: the split of the data set to train on.
    every: the epochs between intermediate weights that are kept; 0 keeps none.
    command: the command line, for the record.

  Raises:
    ValueError: a number out of range; no such point; weights that became NaN
      or infinite; files that cannot be read or written.
    Interrupted: the process was asked to stop; everything is saved.
  """
  path = pathlib.Path(out)
  archives.check(path)
  make = registry.lookup(lessons.PARTS, part, 'part')
  resolved = sweep.only(config, point).config
  lesson = make(resolved, recipe, split)
  course = learning.Course(lesson.taught, recipe.epochs, recipe.seed)
  training = {
    'part': part,
    'training_set': lesson.taught.name,
    'epochs': recipe.epochs,
    'seed': recipe.seed,
    **lesson.settings,
  }
  owner = _owner(training, lesson)

  def record(file, epochs, variables, seconds=None):
    facts = {
      'epochs': epochs,
      **({} if seconds is None else {'seconds': round(seconds, 1)}),
      **lesson.facts(variables),
      **lesson.told,
      'training': training,
      'config': lesson.config,
      'command': command,
      'versions': provenance.versions(),
      'device': provenance.device(),
    }
    arrays = convert.to_state_dict(variables)
    if lesson.told:
      arrays |= generative.provenance(facts)
    archives.write(file, arrays)
    facts = {
      'sha256': archives.sha256(file),
      'model': lesson.name,
      **facts,
    }
    text = json.dumps(facts, indent=2) + '\n'
    workdir.write_text(file.with_suffix('.json'), text)
    return facts

  def on_epoch(epoch, variables):
    name = f'{path.stem}-epoch{epoch}.npz'
    facts = record(path.with_name(name), epoch, variables)
    _log.info('%s: %s', name, lesson.said(facts))

  saved = path.with_suffix('.training')
  with workdir.locked(saved):
    folder = saved / 'checkpoints' / part
    seconds = trainings.save_seconds(resolved)
    saving = learning.Saving(folder, owner, seconds=seconds)
    try:
      learned = learning.learn(
        lesson.learner, course, saving=saving, every=every, on_epoch=on_epoch
      )
      facts = record(path, recipe.epochs, learned.variables, learned.seconds)
      checkpoint.remove(saving.folder.parent, [part])
    finally:
      workdir.leave(saved)
  text = (
    f'{path}: {lesson.name} after {recipe.epochs} epochs, '
    f'{lesson.said(facts)}, {learned.seconds:.0f} s'
  )
  sheet = lesson.sheet(learned.variables) if lesson.sheet else None
  return Outcome(path, text, learned.losses, sheet)


def _owner(training, lesson: lessons.Lesson) -> str:
  """Returns what names a run: of everything that decides its weights."""
  images = identity.facts(lesson.taught)
  text = json.dumps([training, lesson.decides, images], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()
