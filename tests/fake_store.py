"""An object store for tests: whole objects, no locks, and errors on request.

Its objects are files below the folder that the variable FAKE_STORE names, so
that several processes share them. A URL is fake://bucket/name. What goes wrong
is set by `knobs`, and what was asked for stands in `log`.
"""

import fcntl
import json
import os
import pathlib
import shutil
import time

import fsspec

_QUIET = {'fails': 0, 'denies': False, 'hides': 0.0, 'waits': 0.0, 'only': ''}


def folder():
  """Returns where the objects are."""
  return pathlib.Path(os.environ['FAKE_STORE'])


def knobs(**changes):
  """Sets what goes wrong; what is not named is well.

  Args:
    **changes: fails: the number of calls that fail from now on. denies:
      whether writing is forbidden. hides: the seconds for which a listing does
      not show what is new. waits: the seconds that a write takes. only: a part
      of the names that the former are about.
  """
  assert changes.keys() <= _QUIET.keys()
  path = folder() / '.knobs'
  path.with_suffix('.new').write_text(json.dumps({**_QUIET, **changes}))
  os.replace(path.with_suffix('.new'), path)


def log():
  """Returns the calls so far, as 'put bucket/name'."""
  path = folder() / '.log'
  return path.read_text().splitlines() if path.exists() else []


def install(path):
  """Has processes know the protocol that have a folder in their PYTHONPATH."""
  place = path / 'fake_store-1.dist-info'
  place.mkdir(parents=True)
  place.joinpath('METADATA').write_text('Name: fake_store\nVersion: 1\n')
  place.joinpath('entry_points.txt').write_text(
    '[fsspec.specs]\nfake = fake_store:Store\n'
  )
  shutil.copy(__file__, path / 'fake_store.py')


class Store(fsspec.AbstractFileSystem):
  """The driver."""

  protocol = 'fake'
  cachable = False

  def put_file(self, lpath, rpath, **options):
    """Writes an object."""
    self._write(rpath, pathlib.Path(lpath).read_bytes())

  def pipe_file(self, path, value, **options):
    """Writes an object."""
    self._write(path, value)

  def get_file(self, rpath, lpath, **options):
    """Reads an object."""
    self._called('get', rpath)
    data = self._path(rpath).read_bytes()
    pathlib.Path(lpath).write_bytes(data)

  def rm_file(self, path):
    """Removes an object."""
    self._called('rm', path)
    self._path(path).unlink()

  def find(self, path, maxdepth=None, withdirs=False, detail=False, **options):
    """Lists the objects below a name."""
    told = self._called('find', path)
    found = {}
    for file in self._path(path).rglob('*'):
      name = str(file.relative_to(folder()))
      try:
        facts = file.stat()
      except FileNotFoundError:
        continue
      old = time.time() - facts.st_mtime >= told['hides']
      if file.is_file() and old and not file.name.startswith('.new-'):
        found[name] = {'name': name, 'size': facts.st_size, 'type': 'file'}
    return found

  def _path(self, name):
    return folder() / self._strip_protocol(name)

  def _write(self, name, data):
    told = self._called('put', name)
    if told['denies']:
      raise PermissionError(13, 'no right to write', name)
    path = self._path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f'.new-{os.getpid()}-{time.monotonic_ns()}')
    made.write_bytes(data)
    time.sleep(told['waits'])
    os.replace(made, path)

  def _called(self, what, name):
    """Notes a call and fails if that was asked for."""
    name = self._strip_protocol(name)
    with open(folder() / '.log', 'a+') as file:
      fcntl.flock(file, fcntl.LOCK_EX)
      file.write(f'{what} {name}\n')
      file.flush()
      path = folder() / '.knobs'
      told = json.loads(path.read_text()) if path.exists() else _QUIET
      if told['only'] not in f'{what} {name}':
        return _QUIET
      if told['fails']:
        knobs(**{**told, 'fails': told['fails'] - 1})
        raise OSError('connection reset')
    return told
