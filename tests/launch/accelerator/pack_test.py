"""Tests of what is packed for a machine without a network."""

import json
import subprocess
import sys

import pytest

from launch.accelerator import pack

# A pip that keeps what it was asked, and makes the wheels that it is to make.
_PIP = """
import json, pathlib, sys
words = sys.argv[3:]
with open({log!r}, 'a') as file:
  file.write(json.dumps(words) + '\\n')
if 'wheel' in words:
  (folder,) = (w[12:] for w in words if w.startswith('--wheel-dir='))
  for word in words[4:]:
    name = 'giajax' if word.startswith('/') else word.replace('==', '-')
    pathlib.Path(folder, f'{{name}}-py3-none-any.whl').touch()
else:
  packages = [('numpy', '2.5.2'), ('dm-pix', '0.4.5'), ('Giajax', '0.1.0')]
  install = [{{'metadata': {{'name': n, 'version': v}}}} for n, v in packages]
  print(json.dumps({{'install': install}}))
"""


@pytest.fixture
def python(tmp_path):
  """Returns an interpreter whose pip needs no network, and its log."""
  log = tmp_path / 'log'
  script = tmp_path / 'pip.py'
  script.write_text(_PIP.format(log=str(log)))
  path = tmp_path / 'python'
  path.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
  path.chmod(0o755)
  return path, log


@pytest.fixture
def there(tmp_path):
  """Returns a list of what is installed on the machine."""
  path = tmp_path / 'installed.txt'
  path.write_text('NumPy==2.5.2\njax\n\nml_dtypes @ file:///wheels/a.whl\n')
  return path


def test_a_folder_has_what_is_lacking(tmp_path, python, there, capsys):
  interpreter, log = python
  data = tmp_path / 'tfds' / 'cifar10' / '3.0.2'
  data.mkdir(parents=True)
  for name in ('cifar10-test.array_record-0', 'cifar10-train.array_record-0'):
    (data / name).write_text(name)
  (data / 'features.json').touch()
  out = tmp_path / 'out'
  flags = [f'--installed={there}', f'--python={interpreter}', f'--out={out}']
  flags += [f'--data_dir={tmp_path / "tfds"}', '--peer']
  assert pack.main(['', *flags]) == 0
  files = {str(p.relative_to(out)) for p in out.rglob('*') if p.is_file()}
  assert files == {
    'run.sh',
    *(f'data/cifar10/3.0.2/{n}' for n in ('features.json', _TEST)),
    *(f'peer/{n}' for n in ('python', f'breaching-0.1.2-{_ANY}')),
    *(f'{folder}/dm-pix-0.4.5-{_ANY}' for folder in ('wheels', 'peer')),
    f'peer/Giajax-0.1.0-{_ANY}',
    f'wheels/giajax-{_ANY}',
  }
  asked = [json.loads(line) for line in log.read_text().splitlines()]
  resolved = next(words for words in asked if words[0] == 'install')
  assert f'--constraint={out / "wheels" / "pins.txt"}' in resolved
  assert resolved[-1] == str(out / 'wheels' / f'giajax-{_ANY}')
  subprocess.run(['sh', '-n', out / 'run.sh'], check=True)
  assert f'{out}: 0 MiB' in capsys.readouterr().out


_ANY = 'py3-none-any.whl'
_TEST = 'cifar10-test.array_record-0'


def test_the_script_installs_once_and_passes_its_flags(tmp_path, python, there):
  interpreter, _ = python
  out = tmp_path / 'out'
  flags = [f'--installed={there}', f'--python={interpreter}', f'--out={out}']
  assert pack.main(['', *flags]) == 0
  log = tmp_path / 'calls'
  spy = tmp_path / 'spy'
  spy.write_text(
    f'#!/bin/sh\necho "$PYTHONPATH $PYTHONSAFEPATH $@" >> {log}\n'
    f'[ "$2" = pip ] && mkdir -p {out}/site.part || true\n'
  )
  spy.chmod(0o755)
  for _ in range(2):
    subprocess.run(
      ['sh', out / 'run.sh', '--minutes=3', '--out=a b'],
      env={'PATH': '/usr/bin:/bin', 'PYTHON': str(spy)},
      check=True,
    )
  install, first, second = log.read_text().splitlines()
  assert 'pip install' in install and str(out / 'wheels') in install
  assert first == second
  assert first == (
    f'{out}/site 1 -m giajax.launch.accelerator --minutes=3 --out=a b'
  )


def test_versions_of_what_is_installed(there, tmp_path):
  assert pack.installed(there) == {'numpy': '2.5.2', 'jax': '', 'ml-dtypes': ''}
  there.write_text('numpy 2.5.2\n')
  with pytest.raises(ValueError, match=r"^Expected a package per .*'numpy 2"):
    pack.installed(there)
  with pytest.raises(ValueError, match=r'^Expected a list of packages'):
    pack.installed(tmp_path / 'nosuch')


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--out={}/a'], '--installed'),
    (['--out={}', '--installed={}/installed.txt'], 'is not empty'),
    (['--out={}/a', '--installed={}/nosuch'], 'Expected a list of packages'),
    (['--out=~nouser', '--installed={}/nosuch'], 'a path in --out; got'),
    (['--out={}/a', '--installed=~nouser'], 'a path in --installed; got'),
    (
      ['--out={}/a', '--installed={}/installed.txt', '--data_dir=~nouser'],
      'a path in --data_dir; got',
    ),
    (['--out=/proc/a', '--installed={}/installed.txt'], 'that can be written'),
    (
      ['--out={}/a', '--installed={}/installed.txt', '--data_dir={}'],
      "CIFAR-10's test split as prepared by tfds",
    ),
    (
      ['--out={}/a', '--installed={}/installed.txt', '--python={}/nosuch'],
      'Expected a Python interpreter',
    ),
    (
      ['--out={}/a', '--installed={}/installed.txt', '--python=false'],
      'Expected pip wheel to succeed; got',
    ),
  ],
)
def test_mistakes_are_one_line(tmp_path, there, capsys, flags, words):
  flags = [flag.format(tmp_path) for flag in flags]
  assert pack.main(['', *flags]) == 2
  shown = capsys.readouterr()
  (line,) = shown.err.splitlines()
  assert line.startswith('launch: ') and words in line


def test_help(capsys):
  assert pack.main(['', '--help']) == 0
  assert capsys.readouterr().out.startswith(pack.__doc__.strip())
