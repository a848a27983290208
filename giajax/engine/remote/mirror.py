"""A run whose workdir is a URL: it works in a folder here, which is copied.

At the start, what the URL has of `config.json`, `parts/` and the checkpoints
of parts that are to run comes to this machine. From then on, a thread copies
what is new, content before what names it, and removes what is gone. Nothing
is locked there: whoever writes last, wins, and all write the same bits.
"""

from collections.abc import Iterator, Sequence
import contextlib
import hashlib
import json
import logging
import os
import pathlib
import shutil
import tempfile
import threading
from typing import Any

import jax

from giajax import files
from giajax import interrupts
from giajax import paths
from giajax.engine import hooks as hook_library
from giajax.engine import identity
from giajax.engine import signals
from giajax.engine import together
from giajax.engine import workdir
from giajax.engine.remote import packed
from giajax.engine.remote import store as stores

EVERY = 2.0  # seconds between two looks at what is new
_RUN = 'run'  # the workdir in the folder of this machine
_CONFIG, _RESULTS = 'config.json', 'results.jsonl'
# What a run is copied from, in this order; checkpoints follow the parts.
_COPIED = (
  *(_CONFIG, 'parts/[0-9]*.npz', 'recon.npz', 'results.parquet', _RESULTS),
  *('figures/[!.]*', 'study.md', 'report.html', 'summary.json'),
)
_PROGRESS = 'progress/[0-9]*.json'
_LAST = 'events/**/*'  # what grows with every piece is copied at the end
_KEPT = 'summary.json', 'advice.json'  # what the next report is made with
_log = logging.getLogger('giajax')


class Here:
  """A workdir of this machine, which needs no copy.

  Attributes:
    folder: where the run works.
    name: what it is called.
    shared: whether all processes of the run see this folder.
    hooks: what the steps of an attack call.
  """

  shared = True
  hooks: Sequence[hook_library.Hook] = ()

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.name = str(folder.absolute())

  @contextlib.contextmanager
  def claiming(self) -> Iterator[None]:
    """Surrounds the claim of the workdir."""
    yield

  def fetch_checkpoints(self, parts: Sequence[str]) -> None:
    """Fetches the checkpoints of parts, in all processes of the run."""

  def fetch_parts(self) -> None:
    """Fetches the parts that others have finished."""


class Follower(Here):
  """What a process that only computes has of a workdir that is a URL."""

  shared = False

  def __init__(self, store: stores.Store, folder: pathlib.Path):
    super().__init__(folder)
    self.name, self._store = store.url, store

  def fetch_checkpoints(self, parts: Sequence[str]) -> None:
    """See `Here`."""
    with workdir.writing(self.folder):
      for part in parts:  # Orbax wants a folder in each process
        path = self.folder / packed.FOLDER / part
        path.mkdir(parents=True, exist_ok=True)
    for part, step in json.loads(together.texts('')[0]).items():
      _fetch_checkpoint(self._store, self.folder, part, step)


class Mirror(Here):
  """A workdir that is a URL, in the process that writes.

  Args:
    store: what the URL names.
    place: the folder of this machine for all that is kept of it.
  """

  shared = False

  def __init__(self, store: stores.Store, place: pathlib.Path):
    super().__init__(place / _RUN)
    self.name, self._store = store.url, store
    self.hooks = (self._check,)
    self._claimed = place / 'claimed'  # is there once the URL has a config
    self._sent: dict[str, Any] = {}  # what is the same there, as it is here
    self._there: list[str] = []  # the objects that were there
    self._lock = threading.Lock()  # of what copies, and of `_sent`
    self._thread = threading.Thread(target=self._copy, daemon=True)
    self._wake, self._ended = threading.Event(), threading.Event()
    self._failure: ValueError | None = None
    self._asked = self._answered = False
    self.opened = False  # whether the run has the workdir for itself

  def start(self) -> None:
    """Checks that the URL can be used, and fetches what is there.

    Raises:
      ValueError: it cannot be used, or is no workdir.
    """
    sizes = self._store.names()
    self._store.check_rights()
    self._there = [*sizes]
    self._fetch_config(sizes)
    self._fetch_parts(sizes)
    for name in _KEPT:
      if name in sizes and self._store.read(name, self.folder / name):
        self._mark(name, self.folder / name)
    self._thread.start()

  @contextlib.contextmanager
  def claiming(self) -> Iterator[None]:
    """See `Here`; as another machine may have begun meanwhile, it looks."""
    path = self.folder / _CONFIG
    if self._store.read(_CONFIG, path):
      self._mark(_CONFIG, path)
    yield
    self.opened = True
    self.push()

  def fetch_checkpoints(self, parts: Sequence[str]) -> None:
    """See `Here`; what this machine has is copied first."""
    self.push()
    given = {}
    for part in parts:
      newest = packed.newest(self.folder, part)
      for step in packed.steps([*self._there, *self._sent], part):
        if step <= newest or self._fetch_checkpoint(part, step):
          break
      newest = packed.newest(self.folder, part)
      if newest >= 0:
        given[part] = newest
    together.texts(json.dumps(given))

  def fetch_parts(self) -> None:
    """See `Here`; its own are copied first, so that the last one has all."""
    self.push()
    sizes = self._store.names()
    self._there = [*sizes]
    if _CONFIG not in sizes:  # another machine has withdrawn its own
      with self._lock:
        self._sent.pop(_CONFIG, None)
    self._fetch_parts(sizes)

  def push(self) -> None:
    """Copies what is new, and removes what is gone.

    Raises:
      ValueError: the store cannot be reached any more.
    """
    with self._lock:
      if self._failure:
        raise self._failure
      try:
        self._push()
      except ValueError as error:
        self._failure = error
        raise

  def close(self, error: Exception | None) -> None:
    """Copies what is left, at the end of a run.

    Args:
      error: what ended it, if anything did.

    Raises:
      ValueError: the store cannot be reached any more.
    """
    self.end()
    # Whoever asked for this end, and asks again, does not want to wait for it.
    self._asked = self._asked or isinstance(error, signals.Interrupted)
    if self._failure is None:
      _log.info('copying what is left to %s', self.name)
    self._thread.join()
    try:
      self.push()
    except ValueError as failure:
      if error is None or isinstance(error, signals.Interrupted):
        raise failure from error

  def end(self) -> None:
    """Has the thread end."""
    self._ended.set()
    self._wake.set()

  def take(self) -> bool:
    """Takes the first request to stop: what is new is copied before."""
    first = not self._asked
    self._asked = True
    self._wake.set()
    return first

  def answer(self) -> None:
    """Passes on a request that was taken, once everything is copied."""
    if self._asked and not self._answered:
      self._answered = True
      interrupts.ask()

  def _check(self, status: hook_library.Status) -> None:
    if not self._thread.is_alive():
      self.push()  # which says why

  def _copy(self) -> None:
    """Copies until the end, in a thread."""
    while not self._ended.is_set():
      self._wake.wait(EVERY)
      if self._ended.is_set():
        return
      self._wake.clear()
      with contextlib.suppress(ValueError):  # the run raises it
        self.push()
      if self._asked and not self._ended.is_set():
        self.answer()
      if self._failure:
        return

  def _fetch_config(self, sizes: dict[str, int]) -> None:
    path = self.folder / _CONFIG
    there = self.folder.with_name(_CONFIG)
    if not self._store.read(_CONFIG, there):
      if any(name.startswith(('parts/', 'checkpoints/')) for name in sizes):
        raise workdir.UnusableError(
          f'Expected an empty folder, or that of a run; got {self.name}, which '
          'has parts and no config.json; choose another --workdir'
        )
      if self._claimed.exists():
        self._set_aside('has been emptied')
      return
    if path.exists() and not _alike(path, there):
      self._set_aside('is that of another run now')
    self.folder.mkdir(exist_ok=True)
    os.replace(there, path)
    self._mark(_CONFIG, path)
    self._claimed.touch()

  def _set_aside(self, reason: str) -> None:
    _log.warning(
      '%s %s: what %s has of it is set aside', self.name, reason, self.folder
    )
    workdir.set_aside(self.folder, self.folder)
    self._claimed.unlink(missing_ok=True)

  def _fetch_parts(self, sizes: dict[str, int]) -> None:
    for name in sizes:
      path = self.folder / name
      if not pathlib.PurePath(name).match('parts/[0-9]*.npz'):
        continue
      if path.exists() and path.stat().st_size != sizes[name]:
        continue  # it is copied again
      if path.exists() or self._store.read(name, path):
        self._mark(name, path)

  def _fetch_checkpoint(self, part: str, step: int) -> bool:
    if not _fetch_checkpoint(self._store, self.folder, part, step):
      return False
    made = packed.folder(self.folder, part, step)
    self._mark(packed.name(part, step), made)
    return True

  def _mark(self, name: str, path: pathlib.Path) -> None:
    """Notes that an object is what is here."""
    with self._lock:
      self._sent[name] = _stamp(path)

  def _push(self) -> None:
    here = _present(self.folder, self._ended.is_set())
    for name, (path, stamp) in here.items():
      if self._sent.get(name) == stamp:
        continue
      if self._write(path, name):
        self._sent[name] = stamp
        self._told(name)
    for name in [name for name in self._sent if name not in here]:
      if name not in _KEPT:
        self._store.remove(name)
      del self._sent[name]
      if name == _CONFIG:
        self._claimed.unlink(missing_ok=True)

  def _told(self, name: str) -> None:
    """Follows a copy of what makes other objects useless."""
    useless = []
    if name == _CONFIG:
      self._claimed.touch()
    if name.endswith('.zip'):
      part = pathlib.PurePath(name).parent.name
      step = int(pathlib.PurePath(name).stem)
      useless = [packed.name(part, s) for s in packed.steps(self._there, part)]
      useless = [old for old in useless if old != packed.name(part, step)]
    if name == _RESULTS:
      useless = [n for n in self._there if n.startswith(f'{packed.FOLDER}/')]
    for old in useless:
      self._store.remove(old)
      self._there.remove(old)

  def _write(self, path: pathlib.Path, name: str) -> bool:
    if not name.endswith('.zip'):
      return self._store.write(path, name)
    made = self.folder.with_name('checkpoint.zip')
    try:
      return packed.pack(path, made) and self._store.write(made, name)
    finally:
      made.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(
  place: str | os.PathLike[str], shard: tuple[int, int]
) -> Iterator[Here]:
  """Opens the workdir of a run, a path or a URL.

  Args:
    place: the workdir.
    shard: (i, n).

  Raises:
    ValueError: the path or the URL cannot be used, or is not reached any more.
  """
  if not paths.is_url(place):
    yield Here(paths.expanded(place, 'workdir'))
    return
  store = stores.Store(os.fspath(place))
  process = jax.process_index()
  local = local_folder(store.url, shard, process)
  with workdir.locked(local):
    if process:
      shutil.rmtree(local / _RUN, ignore_errors=True)
      yield Follower(store, local / _RUN)
      return
    with _running(Mirror(store, local)) as mirror:
      yield mirror


@contextlib.contextmanager
def _running(mirror: Mirror) -> Iterator[Mirror]:
  mirror.start()
  with interrupts.passed_to(mirror.take):
    try:
      yield mirror
    except Exception as error:
      mirror.close(error)
      text = str(error)
      if mirror.opened or not text.startswith('Expected'):
        raise
      kind = (
        workdir.UnusableError
        if isinstance(error, workdir.UnusableError)
        else ValueError
      )
      text = text.replace(str(mirror.folder), mirror.name)
      raise kind(text) from error
    else:
      mirror.close(None)
    finally:
      mirror.end()
  mirror.answer()  # it came behind the last look


def working(
  place: str | os.PathLike[str], shard: tuple[int, int], process: int = 0
) -> pathlib.Path:
  """Returns the folder in which a process of a run works.

  Args:
    place: the workdir, a path or a URL.
    shard: (i, n).
    process: its number.

  Raises:
    ValueError: the path or the URL cannot be used.
  """
  if paths.is_url(place):
    return local_folder(os.fspath(place), shard, process) / _RUN
  return paths.expanded(place, 'workdir')


def local_folder(
  url: str, shard: tuple[int, int], process: int = 0
) -> pathlib.Path:
  """Returns the folder of this machine in which a shard of a URL works."""
  home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  folder = paths.expanded(home, 'XDG_CACHE_HOME') / 'giajax' / 'remote'
  name = '{}-{}-of-{}'.format(prefix(url), *shard)
  return folder / (f'{name}-process-{process}' if process else name)


def prefix(url: str) -> str:
  """Returns how the name of `local_folder` begins."""
  return hashlib.sha256(stores.check(url).encode()).hexdigest()[:16]


def _present(
  folder: pathlib.Path, ended: bool
) -> dict[str, tuple[pathlib.Path, tuple[int, int]]]:
  """Returns what there is to copy, in order: its path and its stamp."""
  told = sorted(folder.glob(_PROGRESS))
  # In this order, since a checkpoint is removed when its part is there.
  saved = {}
  for path in sorted((folder / packed.FOLDER).glob('[0-9]*')):
    step = packed.newest(folder, path.name)
    if step >= 0:
      saved[path.name] = step
  found: dict[str, pathlib.Path] = {}
  for pattern in _COPIED:
    for path in sorted(folder.glob(pattern)):
      found[str(path.relative_to(folder))] = path
  for part, step in saved.items():
    if f'parts/{part}.npz' not in found:
      found[packed.name(part, step)] = packed.folder(folder, part, step)
  last = folder.glob(_LAST) if ended else ()
  for path in (*sorted(filter(pathlib.Path.is_file, last)), *told):
    found[str(path.relative_to(folder))] = path
  present = {}
  for name, path in found.items():
    with contextlib.suppress(FileNotFoundError):
      present[name] = path, _stamp(path)
  return present


def _stamp(path: pathlib.Path) -> tuple[int, int]:
  """Returns what differs between two files of one name."""
  facts = path.stat()
  return facts.st_mtime_ns, facts.st_ino


def _alike(one: pathlib.Path, other: pathlib.Path) -> bool:
  """Returns whether two files of configs are those of one run."""
  try:
    owners = [
      identity.owner(files.parsed(files.read_text(path)))
      for path in (one, other)
    ]
  except (ValueError, KeyError, TypeError):  # `workdir.check` says why
    return False
  return owners[0] == owners[1]


def _fetch_checkpoint(
  store: stores.Store, folder: pathlib.Path, part: str, step: int
) -> bool:
  """Fetches a checkpoint; returns whether it is there and whole."""
  with tempfile.TemporaryDirectory() as made:
    path = pathlib.Path(made) / 'checkpoint.zip'
    name = packed.name(part, step)
    if not store.read(name, path):
      return False
    try:
      with workdir.writing(folder):
        packed.unpack(path, packed.folder(folder, part, step))
    except workdir.UnusableError:
      raise
    except ValueError as error:
      _log.warning('passing over %s of %s: %s', name, store.url, error)
      return False
  return True
