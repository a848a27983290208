"""A folder of an object store, through fsspec: whole objects, and no locks."""

from collections.abc import Callable, Iterator
import contextlib
import logging
import pathlib
import secrets
import sys
import time
from typing import Any

import fsspec

from giajax import files
from giajax.engine import workdir

WAITS = [1.0, 2.0, 4.0, 8.0, 16.0]  # seconds behind attempts that failed
_RIGHTS = (
  'give this machine credentials with which it may list, read, write and '
  'delete objects there'
)
# The extra of giajax and the package that have the driver of a protocol.
_EXTRAS = {
  **dict.fromkeys(('gcs', 'gs'), ('gcs', 'gcsfs')),
  **dict.fromkeys(('s3', 's3a'), ('s3', 's3fs')),
}
# What drivers raise beside OSError, as far as they are loaded.
_FAILURES = (
  ('aiohttp', 'ClientError'),
  ('botocore.exceptions', 'BotoCoreError'),
  ('botocore.exceptions', 'ClientError'),
  ('gcsfs.retry', 'HttpError'),
  ('google.auth.exceptions', 'GoogleAuthError'),
)
# Of these, and in the texts of OSErrors, what no other attempt helps.
_DENIED = (
  ('botocore.exceptions', 'NoCredentialsError'),
  ('google.auth.exceptions', 'DefaultCredentialsError'),
  ('google.auth.exceptions', 'RefreshError'),
)
_DENIED_TEXTS = ('Forbidden', 'Invalid Credentials')
_log = logging.getLogger('giajax')


class Store:
  """The objects below a URL, by names such as 'parts/000-00000-00002.npz'.

  What fails is tried again, with growing waits. All methods raise ValueError
  where that does not help.

  Args:
    url: of the folder.

  Raises:
    ValueError: a URL that no driver takes, or credentials that are missing.
  """

  def __init__(self, url: str):
    self.url = check(url)
    _check_driver(self.url)
    with self._saying():
      self._system, self._root = fsspec.core.url_to_fs(self.url)

  def names(self) -> dict[str, int]:
    """Returns the size of every object, by its name, in order."""
    found = self._tried(self._find)
    start = len(self._root.rstrip('/')) + 1
    return {name[start:]: found[name]['size'] for name in sorted(found)}

  def read(self, name: str, path: pathlib.Path) -> bool:
    """Writes an object to a file, whole or not at all.

    Args:
      name: of the object.
      path: of the file.

    Returns:
      Whether there is such an object.
    """
    with workdir.writing(path.parent):
      path.parent.mkdir(parents=True, exist_ok=True)
    try:
      self._tried(self._read, name, path)
    except FileNotFoundError:
      return False
    return True

  def write(self, path: pathlib.Path, name: str) -> bool:
    """Makes an object of a file.

    Args:
      path: of the file.
      name: of the object.

    Returns:
      Whether there is such a file.
    """
    try:
      self._tried(self._system.put_file, str(path), self._path(name))
    except FileNotFoundError as error:
      if path.exists():
        raise self._error(error) from error
      return False
    return True

  def remove(self, name: str) -> None:
    """Removes an object, if it is there."""
    with contextlib.suppress(FileNotFoundError):
      self._tried(self._system.rm_file, self._path(name))

  def check_rights(self) -> None:
    """Writes and removes a tiny object."""
    name = f'.giajax-{secrets.token_hex(8)}'
    try:
      self._tried(self._system.pipe_file, self._path(name), b'giajax')
    except FileNotFoundError as error:  # such as a bucket that is not there
      raise self._error(error) from error
    self.remove(name)

  def _path(self, name: str) -> str:
    return f'{self._root.rstrip("/")}/{name}'

  def _find(self) -> dict[str, Any]:
    self._system.invalidate_cache()
    try:
      return self._system.find(self._root, detail=True)
    except FileNotFoundError:  # of an empty folder
      return {}

  def _read(self, name: str, path: pathlib.Path) -> None:
    with files.written(path) as made:
      self._system.get_file(self._path(name), str(made))

  def _tried(self, call: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what a call returns, at once or behind further attempts."""
    for wait in (*WAITS, None):
      try:
        return call(*arguments)
      except FileNotFoundError:
        raise
      except (OSError, *_loaded(_FAILURES)) as error:
        if wait is None or _is_denied(error):
          raise self._error(error) from error
        _log.warning(
          '%s: %s; trying again in %.0f s', self.url, _reason(error), wait
        )
        time.sleep(wait)
    raise AssertionError  # the last attempt returns or raises

  @contextlib.contextmanager
  def _saying(self) -> Iterator[None]:
    try:
      yield
    except (OSError, *_loaded(_FAILURES)) as error:
      raise self._error(error) from error

  def _error(self, error: Exception) -> workdir.UnusableError:
    """Returns the one line that says why a store cannot be used."""
    if _is_denied(error) or isinstance(error, FileNotFoundError):
      return workdir.UnusableError(
        f'Expected a folder that can be used; got {self.url}: {_reason(error)};'
        f' {_RIGHTS}'
      )
    return workdir.UnusableError(
      f'Expected a connection to {self.url}; got {_reason(error)}, '
      f'{len(WAITS) + 1} times; what was finished is kept on this machine, and '
      'the same command continues'
    )


def check(url: str) -> str:
  """Returns a URL in the one form that this package uses.

  Raises:
    ValueError: it is not that of a folder in an object store.
  """
  protocol, _, rest = url.partition('://')
  protocol, rest = protocol.lower(), rest.strip('/')
  if '::' in url or not rest or not rest.isprintable():
    raise workdir.UnusableError(
      f'Expected a URL such as gs://bucket/run; got {url}; correct it'
    )
  if protocol in ('file', 'local'):
    raise workdir.UnusableError(
      f'Expected a path for what this machine has mounted; got {url}; write '
      f'/{rest}'
    )
  if protocol not in {*fsspec.available_protocols(), *fsspec.registry}:
    raise workdir.UnusableError(
      f'Expected a URL that fsspec knows; got {url}; write gs:// or s3://, or '
      'install what drives it'
    )
  return f'{protocol}://{rest}'


def extra(url: str) -> str:
  """Returns the extra of giajax with the driver of a URL, '' for none."""
  return _EXTRAS.get(url.partition('://')[0], ('', ''))[0]


def _check_driver(url: str) -> None:
  protocol, _, _ = url.partition('://')
  try:
    fsspec.get_filesystem_class(protocol)
  except ImportError as error:
    advice = ' '.join(str(error).split())
    if protocol in _EXTRAS:
      extra, package = _EXTRAS[protocol]
      advice = f"install {package}, as by pip install 'giajax[{extra}]'"
    raise workdir.UnusableError(
      f'Expected the driver of {protocol}://; got {url} without it; {advice}'
    ) from error


def _loaded(names: tuple[tuple[str, str], ...]) -> tuple[type[Exception], ...]:
  """Returns the exceptions of drivers that are loaded."""
  return tuple(
    getattr(sys.modules[module], name)
    for module, name in names
    if module in sys.modules
  )


def _is_denied(error: Exception) -> bool:
  return isinstance(error, (PermissionError, *_loaded(_DENIED))) or str(
    error
  ).startswith(_DENIED_TEXTS)


def _reason(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__
