"""The one runner: an experiment from a config to its results.

audit(config, workdir)
  build: points -> cohorts (one compilation each) -> parts (what memory holds)
  a part: observe -> init -> steps, saved and resumable -> read -> evaluate
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import itertools
import json
import logging
import os
import pathlib
import time
from typing import Any

import jax

from giajax.engine import arguments
from giajax.engine import build
from giajax.engine import checkpoint
from giajax.engine import evaluate
from giajax.engine import exchange
from giajax.engine import experiment
from giajax.engine import guesses
from giajax.engine import hooks as hook_library
from giajax.engine import identity
from giajax.engine import join
from giajax.engine import loop
from giajax.engine import mesh
from giajax.engine import pace
from giajax.engine import plan
from giajax.engine import program as programs
from giajax.engine import progress
from giajax.engine import provenance
from giajax.engine import signals
from giajax.engine import together
from giajax.engine import workdir as folders
from giajax.engine.remote import mirror as mirrors
from giajax.results import wording

Interrupted = signals.Interrupted
_log = logging.getLogger('giajax')


def audit(
  config: Mapping[str, Any],
  workdir: str | os.PathLike[str],
  *,
  hooks: Sequence[hook_library.Hook] = (),
  shard: tuple[int, int] = (0, 1),
  card: str = '',
  command: str = '',
  finish: Callable[[pathlib.Path], Any] = lambda folder: None,
  grounds: build.Grounds | None = None,
) -> join.Rows:
  """Runs an experiment, or what is left of it, and joins its results.

  Args:
    config: see `schema.DEFAULTS`.
    workdir: the folder for the results, or the URL of one, which is copied to
      it. Running the same config again continues.
    hooks: called between pieces of a run.
    shard: (i, n): run only one n-th of the items. The process that finds all of
      them finished joins the results.
    card: the experiment in words, for the report.
    command: how to run it again, for the report.
    finish: a function such as `report.write`, called with the workdir when its
      results are complete.
    grounds: see `build.experiment`.

  Returns:
    The rows of `results.jsonl`; no rows while those of other shards are
    missing.

  Raises:
    ValueError: a user's mistake, in one line; a workdir that was made for it is
      removed again.
    Interrupted: SIGTERM or SIGINT arrived; everything is saved.
  """
  _check_shard(shard)
  with mirrors.opened(workdir, shard) as place:
    folders.check(place.folder, provenance.named(config))
    pace.check_size(config)
    whole = build.experiment(config, grounds)
    meta = provenance.meta(whole, card, command)
    return _audit(place, whole, meta, shard, hooks, finish)


def _audit(place, whole, meta, shard, hooks, finish) -> join.Rows:
  """Runs an experiment in a workdir that is opened."""
  folder = place.folder
  named = {'workdir': place.name, 'shard': '{}/{}'.format(*shard)}
  own = json.dumps({**meta, **named})
  folders.check_alike([*map(json.loads, together.texts(own))])
  folders.check(folder, meta)
  cohorts = plan.cohorts(whole)
  exact = jax.default_matmul_precision('highest')
  with exact, _held(folder, shard), signals.Stop() as stop:
    with place.claiming():
      fresh = _leads() and folders.claim(folder, meta)
    try:
      if place.shared:
        folders.check_shared(folder)
      owner = identity.owner(meta)
      with programs.memory():
        return _run(place, cohorts, owner, shard, hooks, stop, finish)
    except ValueError:
      if fresh and shard[1] == 1:
        folders.withdraw(folder)
      raise


class _Compiler:
  """Compiles each program once, and remembers it."""

  def __init__(self):
    self._programs: dict[Any, programs.Program] = {}

  def __call__(
    self, cohort: plan.CohortWork, where: mesh.Layout, inputs: tuple[Any, ...]
  ) -> programs.Program:
    """Returns a program for such inputs; `inputs` as in `loop.Job`."""
    shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), inputs)
    key = (cohort.setup.program, where, str(shapes))
    if key not in self._programs:
      number = len(self._programs) + 1
      _log.info('compiling program %d', number)
      setup = cohort.setup
      jitted = programs.program(setup.attack, where, setup.products)
      self._programs[key] = programs.compiled(jitted, *inputs)
      seconds = self._programs[key].seconds
      _log.info('compiled program %d in %.1f s', number, seconds)
    return self._programs[key]


def _run(place, cohorts, owner, shard, hooks, stop, finish) -> join.Rows:
  """Runs this shard's parts and joins the parts that exist."""
  folder = place.folder
  if _leads():
    plan.set_aside(folder, owner)
  done = json.dumps([*plan.finished(folder).items()])
  done = dict(json.loads(together.texts(done)[0]))  # as process 0 finds it
  todo = plan.parts(cohorts, done, shard)
  place.fetch_checkpoints([part.name for part in todo])
  _log.info(
    '%s to attack in %s; %d left, in %s',
    wording.plural(sum(len(cohort.work) for cohort in cohorts), 'update'),
    wording.plural(len(cohorts), 'cohort'),
    sum(part.stop - part.start for part in todo),
    wording.plural(len(todo), 'part'),
  )
  sizes = [
    sum(part.stop - part.start for part in parts)
    for parts in (plan.parts(cohorts, {}, shard), todo)
  ]
  told = progress.Progress(folder if _leads() else None, shard, *sizes)
  with told:
    _read_images(todo)
    widths = plan.widths(cohorts, shard)
    every = [*hooks, told, *place.hooks]
    _run_parts(folder, todo, widths, owner, every, stop, told)
  if not _leads():
    return []
  place.fetch_parts()
  with folders.joining(folder):
    rows = join.join(folder, cohorts, owner)
    if rows:
      with folders.writing(folder):
        finish(folder)
      checkpoint.remove(folder / 'checkpoints', plan.saved(folder))
    return rows


def _run_parts(folder, todo, widths, owner, hooks, stop, told) -> None:
  """Runs parts to their end, one after the other."""
  compiler = _Compiler()
  for number, parts in itertools.groupby(todo, lambda p: p.cohort.number):
    parts = list(parts)
    setup = parts[0].cohort.setup
    play = exchange.player(setup)
    observe = exchange.observer(setup, play)
    for part in parts:
      if together.agreed((stop.asked,))[0]:
        raise Interrupted('stopped between two parts, which are saved')
      told.begins(part.stop - part.start)
      width = widths[number]
      tools = play, observe, compiler
      _run_part(folder, part, width, owner, tools, hooks, stop)
      told.ends()


def _read_images(parts: Sequence[plan.Part]) -> None:
  """Reads every image that the parts need, before the first of them runs.

  Raises:
    ValueError: an image that cannot be read.
  """
  settings = {part.cohort.number: part.cohort.setup for part in parts}
  updates = {(p.cohort.number, w.case) for p in parts for w in p.work}
  _read_auxiliary(settings, updates)
  needed: dict[Callable[..., Any], set[int]] = {}
  for number, case in updates:
    setup = settings[number]
    indices = needed.setdefault(setup.dataset.take, set())
    indices |= evaluate.images(setup, case)
  for take, indices in needed.items():
    for i in sorted(indices):
      take([i])


def _read_auxiliary(
  settings: Mapping[int, experiment.Setup], updates: set[tuple[int, int]]
) -> None:
  """Reads the auxiliary images, and tells which updates they give away.

  Args:
    settings: the setups by the number of their cohorts.
    updates: numbers of cohorts, and cases.

  Raises:
    ValueError: an image that cannot be read.
  """
  known = []
  for number, case in sorted(updates):
    setup = settings[number]
    if setup.generator is not None:  # nobody else learned from them
      item = setup.source.item(setup, case)
      known.append(guesses.known_before(setup, item, setup.seed))
  if any(known):
    _log.warning(
      'images behind %s are in the auxiliary data: the setting is diagnostic',
      wording.plural(sum(known), 'update'),
    )


def _run_part(folder, part, width, owner, tools, hooks, stop) -> None:
  """Runs one part to its end and keeps its results."""
  began = time.perf_counter()
  setup = part.cohort.setup
  items = [setup.source.item(setup, w.case, w.control) for w in part.work]
  where = arguments.layout(setup, width)
  play, observe, compiler = tools
  observation = observe(items)
  degenerates = join.degenerates(setup, observation, len(items))
  inputs = arguments.of_part(part, observation, where)
  del observation  # it may be gigabytes
  program = compiler(part.cohort, where, inputs)
  saved = folder / 'checkpoints' / part.name
  job = loop.Job(
    program=program,
    inputs=inputs,
    items=len(items),
    restarts=setup.restarts,
    steps=setup.attack.num_steps,
    marks=loop.marks(setup.attack.num_steps, setup.records),
    saved=saved,
    owner=plan.owner(owner, part.name),
    save_seconds=setup.run.save_seconds,
  )
  outcome = loop.run(job, hooks, stop)
  facts = {
    'seconds_per_update': outcome.seconds / len(items),
    'compile_seconds': program.seconds,
    'layout': mesh.describe(where),
  }
  each = [facts | {'degenerate': reason} for reason in degenerates]
  rows, arrays = join.score(part, items, outcome, job.marks, play, each)
  _log.info('%s took %.1f s', part.name, time.perf_counter() - began)
  if _leads():
    name = plan.owner(owner, part.name)
    folders.write_part(plan.path(folder, part), name, rows, arrays)
    checkpoint.remove(saved.parent, [part.name])


def _leads() -> bool:
  """Whether this process writes; the others of the run only compute."""
  return jax.process_index() == 0


def _held(folder, shard) -> contextlib.AbstractContextManager[None]:
  return folders.locked(folder, shard) if _leads() else contextlib.nullcontext()


def _check_shard(shard: tuple[int, int]) -> None:
  index, count = shard
  if not 0 <= index < count:
    raise ValueError(
      f'Expected shard i/n with 0 <= i < n; got {index}/{count}; number them '
      'from 0'
    )
