"""What commands that read see of workdirs that are URLs: copies of some files.

A view lasts as long as the command; the URL itself is not changed, unless a
command copies what it has written back.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import pathlib
import tempfile

from giajax import paths
from giajax.engine import workdir
from giajax.engine.remote import store as stores

# The files of a workdir that a report is made of, and those that it is.
_OF_REPORT = (
  *('config.json', 'results.jsonl', 'recon.npz', 'summary.json'),
  'advice.json',
)
_REPORT = 'figures/[!.]*', 'study.md', 'report.html', 'summary.json'


class Views:
  """Folders of this machine that stand for what a user named.

  Attributes:
    folders: in the order of the names.
  """

  def __init__(self, folders: Sequence[pathlib.Path], urls: dict[str, str]):
    self.folders = folders
    self._urls = urls

  def name(self, path: pathlib.Path) -> str:
    """Returns what a user calls a folder, or a file in it."""
    return self.text(str(path))

  def text(self, text: str) -> str:
    """Returns a text with URLs for the folders that stand for them."""
    for folder, url in self._urls.items():
      text = text.replace(folder, url)
    return text


@contextlib.contextmanager
def opened(
  words: Sequence[str],
  flag: str,
  needed: Sequence[str],
  seen: Sequence[str] = (),
) -> Iterator[Views]:
  """Opens folders for reading: paths as they are, URLs as copies.

  Args:
    words: what a user wrote.
    flag: what that is called.
    needed: patterns of the names of files that are read.
    seen: patterns of the names of files which are only there or not.

  Yields:
    Where they are.

  Raises:
    ValueError: a path or a URL that cannot be used; or what the `with` raised,
      with URLs in it.
  """
  with contextlib.ExitStack() as stack:
    folders, urls = [], {}
    for word in words:
      if not paths.is_url(word):
        folders.append(paths.expanded(word, flag))
        continue
      temporary = tempfile.TemporaryDirectory(prefix='giajax-')
      folders.append(pathlib.Path(stack.enter_context(temporary)).resolve())
      store = stores.Store(word)
      urls[str(folders[-1])] = store.url
      _fetch(store, folders[-1], needed, seen)
    views = Views(folders, urls)
    try:
      yield views
    except ValueError as error:
      text = views.text(str(error))
      if text == str(error):
        raise
      raise ValueError(text) from error


def reported(word: str, write: Callable[[pathlib.Path], pathlib.Path]) -> str:
  """Rebuilds the report of a workdir; returns where it is.

  Args:
    word: the workdir, a path or a URL.
    write: makes the report of a folder, and returns where it is.

  Raises:
    ValueError: as `write`; or a URL that cannot be used.
  """
  with opened([word], 'WORKDIR', _OF_REPORT) as views:
    (folder,) = views.folders
    page = write(folder)
    if paths.is_url(word):
      store = stores.Store(word)
      for pattern in _REPORT:
        for path in sorted(folder.glob(pattern)):
          store.write(path, str(path.relative_to(folder)))
    return views.name(page)


def _fetch(
  store: stores.Store,
  folder: pathlib.Path,
  needed: Sequence[str],
  seen: Sequence[str],
) -> None:
  for name in store.names():
    path = pathlib.PurePosixPath(name)
    target = folder / path
    if '..' in path.parts:
      continue  # no name of giajax's
    if any(path.match(pattern) for pattern in needed):
      store.read(name, target)
    elif any(path.match(pattern) for pattern in seen):
      with workdir.writing(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
