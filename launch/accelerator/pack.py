"""Packs what a machine with an accelerator, but without a network, lacks.

  python -m giajax.launch.accelerator.pack --out=DIR --installed=FILE
    [--python=PYTHON] [--data_dir=CIFAR10] [--peer]

FILE lists what is installed there: a package per line, as printed by
`python3 -m pip list --format=freeze`. The folder gets a wheel of giajax and of
everything that it needs beside that; the test images of CIFAR-10, where
--data_dir holds the data set as prepared by tfds; and with --peer breaching,
whose torch and torchvision have to be there. PYTHON is an interpreter of the
version that the machine has, here, with pip. Carry the folder there and run

  sh DIR/run.sh --minutes=9 --out=OUT

which takes the flags of the kit. In a checkout that is not installed, the
command is `python -m launch.accelerator.pack`.
"""

from .. import errors

if __name__ == '__main__':
  errors.begin('starts again; remove --out first')

from collections.abc import Collection, Sequence
import json
import pathlib
import re
import shutil
import sys
import tempfile

from giajax import paths
from giajax import printable
from giajax.commands import flags

from .. import children

COMMAND = 'python -m giajax.launch.accelerator.pack'
USAGE = f'{COMMAND} --out=DIR --installed=FILE'
FLAGS = (
  flags.Flag('out', 'The folder to make.'),
  flags.Flag(
    'installed', 'A file that lists what is installed on the machine.'
  ),
  flags.Flag(
    'python',
    "A Python interpreter of the machine's version, here.",
    sys.executable,
  ),
  flags.Flag('data_dir', 'CIFAR-10 as prepared by tfds.'),
  flags.Flag('peer', 'Packs breaching, the peer of the speed.', False, bool),
)
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SOURCES = (
  *('pyproject.toml', 'setup.py', 'README.md', 'LICENSE'),
  *('giajax', 'configs', 'launch'),
)
# breaching names torch, and pins what it does not need.
_PEER = ('breaching==0.1.2',)
_PEER_NEEDS = ('omegaconf<2.4', 'hydra-core', 'pandas', 'pyyaml', 'scipy')
_RUN = """#!/bin/sh
# Installs the wheels beside this file, and runs the accelerator kit with them.
#   sh run.sh --minutes=9 --out=DIR [--only=check,speed,figure]
set -eu
export PYTHONSAFEPATH=1  # a checkout in the working directory is not meant
here=$(cd "$(dirname "$0")" && pwd)
install() {
  [ -d "$here/$2" ] && return
  rm -rf "$here/$2.part"
  "${PYTHON:-python3}" -m pip install --quiet --no-index --no-deps \\
    --no-compile --target "$here/$2.part" "$here/$1"/*.whl
  mv "$here/$2.part" "$here/$2"
}
install wheels site
if [ -d "$here/data" ]; then
  set -- --data_dir="$here/data" "$@"
fi
if [ -d "$here/peer" ]; then
  install peer peer_site
  if "$here/peer/python" -c 'import breaching'; then
    set -- --peer="$here/peer/python" "$@"
  else
    echo 'run.sh: breaching cannot be imported: it is left out' >&2
  fi
fi
PYTHONPATH="$here/site" exec "${PYTHON:-python3}" \\
  -m giajax.launch.accelerator "$@"
"""
_PEER_PYTHON = """#!/bin/sh
PYTHONPATH="$(dirname "$0")/../peer_site" exec "${PYTHON:-python3}" "$@"
"""


@errors.reported
def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  arguments = flags.read(COMMAND, USAGE, FLAGS, argv[1:])
  if arguments.help:
    print(flags.help_text(__doc__, FLAGS))
    return 0
  values = arguments.values
  folder = _folder(values.out)
  there = installed(paths.expanded(values.installed, '--installed'))
  with errors.writing():
    _pack(folder, there, values)
  size = sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  for path in sorted(folder.rglob('*')):
    if path.is_file():
      name = printable.line(str(path.relative_to(folder)))
      print(f'{name}  {path.stat().st_size / 2**20:.1f} MiB')
  name = printable.line(str(folder))
  print(f'{name}: {size / 2**20:.0f} MiB; there, run: sh run.sh --out=OUT')
  return 0


def installed(path: pathlib.Path) -> dict[str, str]:
  """Returns what is installed on the machine, versions by name.

  Args:
    path: a file with a line such as 'numpy==2.3.1' per package. A package
      without a version may have any.

  Raises:
    ValueError: there is no such file, or it holds something else.
  """
  try:
    lines = path.read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(
      f'Expected a list of packages in --installed={path}; got {error}; write '
      'one there by python3 -m pip list --format=freeze'
    ) from error
  found = {}
  for line in filter(None, map(str.strip, lines)):
    match = re.fullmatch(r'([A-Za-z0-9][\w.-]*)(?:==([\w.+!-]+)| @ .*)?', line)
    if not match:
      raise ValueError(
        f'Expected a package per line in {path}, such as numpy==2.3.1; got '
        f'{line!r}; write it by python3 -m pip list --format=freeze'
      )
    found[_normal(match[1])] = match[2] or ''
  return found


def _folder(out: str) -> pathlib.Path:
  folder = paths.expanded(out, '--out')
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise ValueError(
      f'Expected --out to be a new folder; got --out={out}, which is not '
      'empty; choose another'
    )
  return folder


def _pack(folder, there, values) -> None:
  data = _test_images(values.data_dir) if values.data_dir else []
  if not (_ROOT / 'pyproject.toml').is_file():
    raise ValueError(
      f'Expected a checkout of giajax to make a wheel of; got {_ROOT}; run '
      'python -m launch.accelerator.pack in one'
    )
  wheels = folder / 'wheels'
  wheels.mkdir(parents=True)
  with tempfile.TemporaryDirectory() as source:
    _copy_sources(pathlib.Path(source))
    words = 'wheel', '--no-deps', f'--wheel-dir={wheels}', source
    _pip(values.python, *words)
  (own,) = wheels.glob('giajax-*.whl')
  _fetch(values.python, wheels, [str(own)], {**there, 'giajax': ''})
  for source, target in data:
    path = folder / 'data' / target
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
  if values.peer:
    peer = folder / 'peer'
    peer.mkdir()
    _pip(values.python, 'wheel', '--no-deps', f'--wheel-dir={peer}', *_PEER)
    _fetch(values.python, peer, _PEER_NEEDS, there)
    _write(peer / 'python', _PEER_PYTHON)
  _write(folder / 'run.sh', _RUN)


def _copy_sources(folder: pathlib.Path) -> None:
  """Copies what a wheel is made of, without what earlier ones left behind."""
  ignored = shutil.ignore_patterns('__pycache__')
  for name in _SOURCES:
    path = _ROOT / name
    if path.is_dir():
      shutil.copytree(path, folder / name, ignore=ignored)
    else:
      shutil.copy(path, folder)


def _test_images(data_dir: str) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Returns the files of CIFAR-10's test split, and where they go.

  Raises:
    ValueError: there are none.
  """
  root = paths.expanded(data_dir, '--data_dir')
  files = [
    path
    for path in (root / 'cifar10').rglob('*')
    if path.suffix == '.json' or '-test.' in path.name
  ]
  if not any('-test.' in path.name for path in files):
    raise ValueError(
      "Expected a folder with CIFAR-10's test split as prepared by tfds; got "
      f'--data_dir={data_dir}; correct the path'
    )
  return [(path, path.relative_to(root)) for path in sorted(files)]


def _fetch(
  python: str,
  folder: pathlib.Path,
  requirements: Sequence[str],
  there: dict[str, str],
) -> None:
  """Adds the wheels that requirements need beside what is there."""
  pins = folder / 'pins.txt'
  pins.write_text(
    ''.join(f'{n}=={v}\n' for n, v in there.items() if v), encoding='utf-8'
  )
  report = _pip(
    python,
    'install',
    '--dry-run',
    '--ignore-installed',
    '--report=-',
    f'--constraint={pins}',
    *requirements,
  )
  pins.unlink()
  lacking = _lacking(json.loads(report), there)
  if lacking:
    _pip(python, 'wheel', '--no-deps', f'--wheel-dir={folder}', *lacking)


def _lacking(report: dict, there: Collection[str]) -> list[str]:
  """Returns the packages of pip's report that are not there, pinned."""
  packages = [entry['metadata'] for entry in report['install']]
  return sorted(
    f'{package["name"]}=={package["version"]}'
    for package in packages
    if _normal(package['name']) not in there
  )


def _pip(python: str, *words: str) -> str:
  """Runs pip and returns what it printed.

  Raises:
    ValueError: it failed.
  """
  command = [python, '-m', 'pip', words[0], '--quiet', *words[1:]]
  try:
    done = children.run(command)
  except OSError as error:
    raise ValueError(
      f'Expected a Python interpreter; got --python={python} '
      f'({error.strerror}); correct the path'
    ) from error
  if done.returncode:
    errors = [x for x in done.stderr.splitlines() if x.startswith('ERROR')]
    last = (errors or done.stderr.strip().splitlines() or ['no message'])[-1]
    raise ValueError(
      f'Expected pip {words[0]} to succeed; got {last!r}; run '
      f'{" ".join(command)}'
    )
  return done.stdout


def _write(path: pathlib.Path, text: str) -> None:
  path.write_text(text, encoding='utf-8')
  path.chmod(0o755)


def _normal(name: str) -> str:
  return re.sub(r'[-_.]+', '-', name).lower()


if __name__ == '__main__':
  sys.exit(main(sys.argv))
