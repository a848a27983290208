"""Checkpoints as single objects: what is not whole is not there.

The folder of a checkpoint, `checkpoints/PART/STEP`, becomes a zip that is not
compressed, `checkpoints/PART/STEP.zip`; unzip makes the folder again.
"""

import os
import pathlib
import tempfile
import zipfile

from giajax import archives
from giajax import files
from giajax.engine import workdir

FOLDER = 'checkpoints'


def folder(root: pathlib.Path, part: str, step: int) -> pathlib.Path:
  """Returns the folder of a checkpoint."""
  return root / FOLDER / part / str(step)


def newest(root: pathlib.Path, part: str) -> int:
  """Returns the newest step of a part that a workdir has, -1 for none."""
  names = [path.name for path in (root / FOLDER / part).glob('*')]
  return max((int(name) for name in names if name.isdecimal()), default=-1)


def steps(names: list[str], part: str) -> list[int]:
  """Returns the steps of a part that objects hold, the newest first."""
  start = f'{FOLDER}/{part}/'
  found = [pathlib.PurePath(name) for name in names if name.startswith(start)]
  return sorted(
    (int(p.stem) for p in found if p.suffix == '.zip' and p.stem.isdecimal()),
    reverse=True,
  )


def name(part: str, step: int) -> str:
  """Returns the name of the object of a checkpoint."""
  return f'{FOLDER}/{part}/{step}.zip'


def pack(step: pathlib.Path, target: pathlib.Path) -> bool:
  """Makes one file of a checkpoint.

  Args:
    step: the folder of the checkpoint.
    target: the file.

  Returns:
    Whether the folder stayed while this lasted.

  Raises:
    ValueError: the file cannot be written.
  """
  try:
    before = _sizes(step)
    with workdir.writing(target.parent), zipfile.ZipFile(target, 'w') as made:
      for inner in before:
        made.write(step / inner, inner)
    return bool(before) and _sizes(step) == before
  except (FileNotFoundError, workdir.UnusableError):
    if step.is_dir():
      raise
    return False


def unpack(source: pathlib.Path, step: pathlib.Path) -> None:
  """Makes a checkpoint of a file, whole or not at all.

  Args:
    source: the file.
    step: the folder of the checkpoint, which is not there yet.

  Raises:
    OSError: the folder cannot be written.
    ValueError: the file is damaged.
  """
  step.parent.mkdir(parents=True, exist_ok=True)
  own = tempfile.TemporaryDirectory(
    dir=step.parent, prefix='.', ignore_cleanup_errors=True
  )
  with own as made:
    try:
      with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        files.check_names(member.filename for member in members)
        size = sum(member.file_size for member in members)
        archives.check_room(size, source.stat().st_size)
        archive.extractall(made)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
      raise ValueError(str(error)) from error
    os.rename(made, step)


def _sizes(step: pathlib.Path) -> dict[str, int]:
  return {
    str(path.relative_to(step)): path.stat().st_size
    for path in sorted(step.rglob('*'))
    if path.is_file()
  }
