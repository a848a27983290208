"""The steps of a learner, saved and resumable, and what became of its losses.

The order of the images follows from the seed, each epoch's from its own draw,
and the key of a step from its number, so that a run that was stopped continues
to the same bits.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import logging
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from giajax import keys
from giajax import require
from giajax import trees
from giajax import types
from giajax.data import base as data
from giajax.engine import checkpoint
from giajax.engine import signals
from giajax.learners import base as learners

_QUIET = 10.0  # seconds between two lines of progress
_MARKS = 400  # the largest number of points of a curve
_log = logging.getLogger('giajax')


class Course(NamedTuple):
  """How often a learner sees which images.

  Attributes:
    dataset: the training set.
    epochs: the number of passes over it, at least 1. What remains of a pass
      when no whole batch is left is not used.
    seed: the seed of the order of the images and of all draws.
  """

  dataset: data.Dataset
  epochs: int
  seed: int


class Losses(NamedTuple):
  """The losses of a learner, each the mean over the steps since the last."""

  steps: np.ndarray  # [L] int32, the number of steps done
  values: Mapping[str, np.ndarray]  # [L] float32 by name


class Learned(NamedTuple):
  """What came of training."""

  variables: types.Variables  # that are kept
  losses: Losses
  seconds: float  # over all processes that worked on it


class Saving(NamedTuple):
  """Where and how often the state is saved.

  Attributes:
    folder: for the checkpoints.
    owner: what they belong to: a digest of everything that decides the result.
    seconds: between two of them.
  """

  folder: pathlib.Path
  owner: str
  seconds: float = 30.0


class _Position(NamedTuple):
  """Where training stands: its state on the device, its losses on the host."""

  step: int
  state: Any
  sums: Mapping[str, types.Array]  # of the losses since the last mark
  trace: np.ndarray  # [L, losses]
  seconds: float  # until here


def steps(course: Course, batch_size: int) -> int:
  """Returns the number of steps of a course.

  Args:
    course: the course.
    batch_size: the number of images that a step takes.

  Raises:
    ValueError: a number out of range, or a data set without a whole batch.
  """
  require.whole(course.epochs, 'epochs')
  require.whole(course.seed, 'seed', least=0)
  require.whole(batch_size, 'batch_size')
  size = course.dataset.size
  if batch_size > size:
    raise ValueError(
      f'Expected a batch_size of 1 to {size}, the training set; got '
      f'batch_size={batch_size}; lower it'
    )
  return course.epochs * (size // batch_size)


def learn(
  learner: learners.Learner,
  course: Course,
  *,
  saving: Saving | None = None,
  every: int = 0,
  on_epoch: Callable[[int, types.Variables], Any] = lambda *_: None,
) -> Learned:
  """Trains to the end, from where it was saved.

  Args:
    learner: what is trained.
    course: how often it sees which images.
    saving: where its state is saved; None for nowhere.
    every: the epochs between two calls of `on_epoch`; 0 for no call.
    on_epoch: a function that is called with the number of epochs done and the
      variables that would be kept, but not after the last epoch.

  Raises:
    ValueError: see `steps`; weights that became NaN or infinite; a folder that
      cannot be written.
    Interrupted: the process was asked to stop; everything is saved.
  """
  work = _Work(learner, course)
  with contextlib.ExitStack() as stack:
    start, keep = work.fresh(), None
    if saving is not None:
      stop = stack.enter_context(signals.Stop())
      stack.enter_context(stop.saving())
      start = work.restored(saving, start)
      opened = stack.enter_context(checkpoint.manager(saving.folder))
      keep = _keeper(work, saving, opened, stop)
    here, show = start, _shower(work, start.step)
    for here in work.positions(start):
      if here.step == work.total:
        break
      if every and here.step % (every * work.per_epoch) == 0:
        on_epoch(here.step // work.per_epoch, work.read(here))
      show(here)
      if keep is not None:
        keep(here)
  losses = Losses(work.marks, dict(zip(work.names, here.trace.T)))
  return Learned(work.read(here), losses, here.seconds)


class _Work:
  """A learner on its course, from step to step.

  Attributes:
    total: the number of steps.
    per_epoch: the number of steps of an epoch.
    marks: the steps after which losses are kept, [L] int32.
    names: the names of the losses.
  """

  def __init__(self, learner: learners.Learner, course: Course):
    self.total = steps(course, learner.batch_size)
    self.per_epoch = self.total // course.epochs
    spaced = np.linspace(0, self.total, min(self.total, _MARKS) + 1)
    self.marks = spaced[1:].round().astype(np.int32)
    self._learner, self._course = learner, course
    self._root = keys.named(jax.random.key(course.seed), 'train')
    self._read = jax.jit(learner.read)
    self._step = jax.jit(self._add, donate_argnums=(1, 2))
    batch = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        (learner.batch_size, *leaf.shape[1:]), leaf.dtype
      ),
      course.dataset.take([0]),
    )
    state = jax.eval_shape(learner.init, self._root)
    self.names = (*jax.eval_shape(learner.step, self._root, state, batch)[1],)

  def fresh(self) -> _Position:
    """Returns the start."""
    trace = np.zeros((len(self.marks), len(self.names)), np.float32)
    return _Position(0, self._start(), self._zeros(), trace, 0.0)

  def positions(self, here: _Position) -> Iterator[_Position]:
    """Yields where training stands after each step.

    A step takes the arrays of the one before apart.
    """
    step, state, sums, trace, before = here
    began = time.perf_counter()
    for epoch, place, indices in self._order(step):
      jax.block_until_ready(sums)  # no more than one step is in flight
      batch = self._course.dataset.take(indices)
      key = keys.at(self._root, epoch, place)
      state, sums = self._step(key, state, sums, batch)
      step += 1
      mark = int(np.searchsorted(self.marks, step))
      if self.marks[mark] == step:
        count = step - (self.marks[mark - 1] if mark else 0)
        trace[mark] = [float(sums[name]) / count for name in self.names]
        self._require_finite(bool(np.isfinite(trace[mark]).all()), epoch)
        sums = self._zeros()
      seconds = before + time.perf_counter() - began
      yield _Position(step, state, sums, trace, seconds)

  def read(self, here: _Position) -> types.Variables:
    """Returns the variables that would be kept.

    Raises:
      ValueError: they are NaN or infinite.
    """
    key = keys.at(keys.named(self._root, 'read'), here.step)
    variables = self._read(key, here.state)
    epoch = (here.step - 1) // self.per_epoch
    self._require_finite(bool(trees.all_finite(variables)), epoch)
    return variables

  def restored(self, saving: Saving, fresh: _Position) -> _Position:
    """Returns what the last checkpoint holds, or `fresh`."""
    tree = checkpoint.restore(saving.folder, saving.owner, self.host(fresh))
    if tree is None:
      return fresh
    step = int(tree['step'])
    _log.info('continuing at step %d of %d', step, self.total)
    leaves, treedef = jax.tree.flatten((fresh.state, fresh.sums))
    leaves = [jnp.asarray(tree['leaves'][str(i)]) for i in range(len(leaves))]
    state, sums = jax.tree.unflatten(treedef, leaves)
    trace, seconds = np.array(tree['trace']), float(tree['seconds'])
    return _Position(step, state, sums, trace, seconds)

  def host(self, here: _Position) -> dict[str, Any]:
    """Returns a position as it is saved; copies."""
    leaves = jax.tree.leaves((here.state, here.sums))
    return {
      'leaves': checkpoint.numbered([np.array(leaf) for leaf in leaves]),
      'trace': here.trace.copy(),
      'step': np.asarray(here.step, np.int64),
      'seconds': np.asarray(here.seconds, np.float64),
    }

  def _require_finite(self, finite: bool, epoch: int) -> None:
    if not finite:
      raise ValueError(
        'Expected finite losses and weights; got NaN or inf in epoch '
        f'{epoch + 1}; lower the learning_rate'
      )

  def _add(self, key, state, sums, batch):
    state, losses = self._learner.step(key, state, batch)
    return state, {name: sums[name] + losses[name] for name in self.names}

  def _start(self):
    state = self._learner.init(keys.named(self._root, 'init'))
    return jax.tree.map(jnp.array, state)  # what a step may take apart

  def _zeros(self):
    return {name: jnp.zeros(()) for name in self.names}

  def _order(self, first: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields epoch, place in it, and indices of the steps from `first` on."""
    rng = np.random.default_rng(self._course.seed)
    size = self._course.dataset.size
    for epoch in range(self._course.epochs):
      order = rng.permutation(size)
      order = order[: self.per_epoch * self._learner.batch_size]
      for place, indices in enumerate(order.reshape(self.per_epoch, -1)):
        if epoch * self.per_epoch + place >= first:
          yield epoch, place, indices


def _shower(work: _Work, first: int) -> Callable[[_Position], None]:
  """Returns what writes a line of progress, now and then."""
  began = last = time.perf_counter()

  def show(here: _Position) -> None:
    nonlocal last
    now = time.perf_counter()
    if now - last < _QUIET:
      return
    last = now
    left = (now - began) / (here.step - first) * (work.total - here.step)
    mark = int(np.searchsorted(work.marks, here.step, side='right'))
    shown = ''.join(
      f', {name} {value:.3g}'
      for name, value in zip(work.names, here.trace[mark - 1])
      if mark
    )
    _log.info(
      'epoch %d of %d, step %d of %d%s, %s left',
      -(-here.step // work.per_epoch),
      work.total // work.per_epoch,
      here.step,
      work.total,
      shown,
      tqdm.tqdm.format_interval(left),
    )

  return show


def _keeper(
  work: _Work, saving: Saving, opened: Any, stop: signals.Stop
) -> Callable[[_Position], None]:
  """Returns what saves a position, now and then, and when asked to stop."""
  last = time.perf_counter()

  def keep(here: _Position) -> None:
    nonlocal last
    now = time.perf_counter()
    if now - last < saving.seconds and not stop.asked:
      return
    last = now
    checkpoint.save(opened, work.host(here), saving.owner)
    if stop.asked:
      checkpoint.wait(opened)
      raise signals.Interrupted(
        f'stopped and saved at step {here.step} of {work.total}'
      )

  return keep
