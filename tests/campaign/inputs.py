"""Gives commands what nobody should give them.

Each input has to be accepted or refused in one line, within a minute and with
little memory. An audit that has compiled its program, or still does so after a
minute, and training that is under way have accepted their input and are ended;
every tenth audit may run on.
"""

from collections.abc import Callable
import importlib
import inspect
import io
import json
import os
import pathlib
import shutil
import signal
from typing import Any, NamedTuple
import zipfile

import numpy as np
from PIL import Image
from safetensors import numpy as safetensors

from giajax import attacks
from giajax import clients
from giajax import data
from giajax import defenses
from giajax import models
from giajax.engine import schema
from tests import tiny
from tests.campaign import processes
from tests.campaign import tries

_SECONDS = 60.0
_WHOLE = 10  # every so many inputs, an audit runs on to its report
# What a command says when it has begun, and when it begins to compile.
_AT_WORK = ('giajax: compiled program 1', 'giajax: epoch ')
_COMPILES = 'giajax: compiling program 1'
_FAMILIES = {
  'attack': attacks.ATTACKS,
  'client': clients.CLIENTS,
  'dataset': data.DATASETS,
  'defense': defenses.DEFENSES,
  'model': models.MODELS,
}
_TEXTS = (
  *('', '-1', '0', '1', '2', '3.5', '-0.0', '1e-300', '1e308', '1e400', 'nan'),
  *('inf', '-inf', '2147483647', '2147483648', '9223372036854775808'),
  *('1' + 20 * '0', 400 * '9', '-' + 30 * '9', '1_0', '0x10', '1j', "b'x'"),
  *('x', 'None', 'True', 'False', "''", "'x'", '()', '(1,)', '[1, 2]', '[[]]'),
  *('{}', "{'name': 'x'}", "{'name': None}", "{'a': {}}", '[None]', '(0.5, 1)'),
  *("('labels',)", "('x', 'y')", 300 * 'a', '\x1b[2J', '\udcff', 'é', '\n'),
  *('./x', '/dev/zero', '/dev/null', '~nouser', 'smoke', 300 * '('),
  *('lambda: 0', '__import__("os")', '[1] * 10**9', '9**9**9', "'a' * 10**10"),
)
CRAFTED = '--config.attack=' + "{'name': 'robbing_the_fed', 'bins': 9}"
GRANTED = (
  "--config.threat={'level': 'C', 'proxy_images': 4, 'grants': "
  "('labels', 'alter_architecture', 'alter_parameters', 'proxy_data')}"
)
_VALUES = (
  *(None, True, False, 0, 1, -1, 10**20, 0.5, 1e308, float('nan')),
  *('', 'x', 300 * 'a', '\x1b[2J', '\ud800', [], [1], [[1]], [None], {}),
  *({'a': 1}, {'name': 'x'}, ['x', 'y'], 2**31, -(2**63), '<script>'),
)
_WORDS = (
  *('--config', '--config=', '--workdir', '--workdir=', '--shard=0/0'),
  *('--shard=1/0', '--shard=٣/٤', '--shard=-1/2', '--processes=0', '--process'),
  *('--processes=99999999999', '--flagfile=/none', '--undefok=x', '--', '-'),
  *('--config..x=1', '--config.=1', '--config.model.=1', '--config.a[0]=1'),
  *('--noconfig.run', '--config.' + 300 * 'a' + '=1', '--point=-1', '--only=,'),
  *('--out=', '--out=/', '--out=/dev/full', '--received=/dev/zero', '--case=x'),
  *('--epochs=0', '--batch_size=' + 30 * '9', '--seed=1e3', '--json=maybe'),
  *('x', '', '\0', '\x1b[2J', '--help=x', '--list', '--version', '---', '-1'),
)


class Samples(NamedTuple):
  """What inputs are made from.

  Attributes:
    config: the path of a config.
    workdir: a finished run of it.
    weights: weights that the config's network takes.
  images: images of several formats, by name.
  """

  config: pathlib.Path
  workdir: pathlib.Path
  weights: pathlib.Path
  images: dict[str, bytes]


_made: list[Samples] = []


def attempt(number: int, lab: processes.Lab) -> tries.Try:
  """Gives one command one input; see `kills.attempt`."""
  kind = KINDS[number % len(KINDS)]
  arguments = kind(lab, samples(lab))
  # A word of a command line has no NUL, and what is no UTF-8 arrives so.
  words = [str(word).replace('\0', '') for word in arguments]
  process = lab.start(*words, prepare=_fast)
  whole = number % _WHOLE == 0
  ending = process.ending(
    _SECONDS / 3 if whole else _SECONDS,
    lambda: not whole and _says(process, _AT_WORK),
  )
  if ending is None and _says(process, (*_AT_WORK, _COMPILES)):
    ending = process.killed()
    if ending.code == -signal.SIGKILL:
      # The memory is that of the experiment, and not of reading its input.
      ending = ending._replace(code=0, memory=0)
  ending = ending or process.finished(_SECONDS)
  what = f'{kind.__name__}: {" ".join(words)[-600:]!r}'
  return tries.Try(what, ending.verdict, 1, [ending])


def _says(process: processes.Process, lines: tuple[str, ...]) -> bool:
  return any(line in process.errors for line in lines)


def _fast() -> None:
  os.environ['XLA_FLAGS'] = '--xla_backend_optimization_level=0'


def samples(lab: processes.Lab) -> Samples:
  """Returns what inputs are made from, which is made once."""
  if not _made:
    _made.append(_samples(lab))
  return _made[0]


def _samples(lab: processes.Lab) -> Samples:
  folder = lab.shared / 'inputs'
  folder.mkdir()
  config = tiny.write(
    folder / 'config.py',
    'attack__num_steps=3, cases__count=1, noise_controls=0',
  )
  workdir = folder / 'run'
  weights = folder / 'weights.npz'
  for words in (
    [f'--config={config}', f'--workdir={workdir}'],
    ['train', f'--config={config}', f'--out={weights}', '--batch_size=2'],
    ['craft', f'--config={config}', f'--out={folder}/c.npz', CRAFTED, GRANTED],
  ):
    ending = lab.start(*words).finished()
    if ending.verdict != 'accepted':
      raise RuntimeError(f'What inputs are made from fails:\n{ending.errors}')
  pixels = Image.fromarray(np.arange(432, dtype=np.uint8).reshape(12, 12, 3))
  images = {}
  for name in ('png', 'jpeg', 'gif', 'bmp', 'webp', 'tiff', 'eps', 'ppm'):
    stream = io.BytesIO()
    pixels.save(stream, name)
    images[name] = stream.getvalue()
  return Samples(config, workdir, weights, images)


def _audit(lab, samples: Samples, *changes: str) -> list[object]:
  workdir = lab.own / 'run'
  return [f'--config={samples.config}', f'--workdir={workdir}', *changes]


def _pick(random: np.random.Generator, values: Any) -> Any:
  return values[random.integers(len(values))]


def _keys(node: Any, path: str = '') -> list[str]:
  """Returns the dotted keys of a nested dict."""
  if not isinstance(node, dict) or not node:
    return [path]
  own = [path] if path else []
  inner = (_keys(v, f'{path}.{k}' if path else k) for k, v in node.items())
  return own + [key for keys in inner for key in keys]


def overrides(lab, samples):
  """Values of the keys that every config has."""
  random = lab.random
  changes = []
  for _ in range(random.integers(1, 3)):
    key = _pick(random, _keys(schema.DEFAULTS))
    changes.append(f'--config.{key}={_pick(random, _TEXTS)}')
  return _audit(lab, samples, *changes)


def arguments(lab, samples):
  """A row of a family and a value of one of its arguments."""
  random = lab.random
  family = _pick(random, [*_FAMILIES])
  name = _pick(random, [*_FAMILIES[family]])
  names = [*inspect.signature(_FAMILIES[family][name]).parameters]
  key = f'{family}.{_pick(random, [*names, "nosuch"])}'
  entry = f"{{'name': {name!r}}}"
  changes = [f'--config.{family}={entry}']
  return _audit(
    lab, samples, *changes, f'--config.{key}={_pick(random, _TEXTS)}'
  )


def words(lab, samples):
  """Words that no command has, or that it lacks."""
  random = lab.random
  names = ('', 'run', 'report', 'train', 'craft', 'verify', 'convert', 'x')
  command = _pick(random, names)
  own = [command] if command else []
  own += _audit(lab, samples)[: random.integers(3)]
  own += [_pick(random, _WORDS) for _ in range(random.integers(1, 3))]
  return [word for word in own if word != 'advise']


def flags_of_commands(lab, samples):
  """A command with an odd value of one or two of its own flags."""
  random = lab.random
  name = _pick(random, ('train', 'craft', 'verify', 'convert', 'run'))
  module = importlib.import_module(f'giajax.commands.{name}')
  out = f'--out={lab.own / "out.npz"}'
  usual = {
    'run': _audit(lab, samples),
    'convert': [samples.weights, '--model=mlp', out],
    'craft': ['craft', f'--config={samples.config}', out, CRAFTED, GRANTED],
    'train': ['train', f'--config={samples.config}', out, '--batch_size=2'],
    'verify': [
      'verify',
      f'--config={samples.config}',
      f'--received={samples.weights}',
    ],
  }[name]
  own = [name, *usual] if name in ('run', 'convert') else usual
  for _ in range(random.integers(1, 3)):
    flag = _pick(random, module.FLAGS)
    own.append(f'--{flag.name}={_pick(random, _TEXTS)}')
  return own


def config_files(lab, samples):
  """Python that is no config."""
  del samples
  path = lab.own / 'odd.py'
  path.write_bytes(_pick(lab.random, _CONFIGS))
  command = _pick(lab.random, ('run', 'train', 'craft', 'verify'))
  rest = [f'--workdir={lab.own / "run"}'] if command == 'run' else []
  return [command, f'--config={path}', *rest]


def weights(lab, samples):
  """Archives of weights with something changed."""
  random = lab.random
  arrays = {
    'layers.0.weight': random.normal(size=(8, 432)).astype(np.float32),
    'layers.0.bias': np.zeros(8, np.float32),
    'head.weight': np.zeros((10, 8), np.float32),
    'head.bias': np.zeros(10, np.float32),
  }
  for _ in range(random.integers(2)):
    key = _pick(random, [*arrays])
    arrays[_pick(random, (key, 'x', f'{key}.npy', '\x1b[2J', 'a/../b'))] = (
      _pick(random, _ARRAYS)
    )
  suffix = _pick(random, ('npz', 'safetensors', 'pt', 'zip', ''))
  if suffix == 'safetensors':
    numbers = {k: v for k, v in arrays.items() if v.dtype.kind in 'fib'}
    whole = safetensors.save({k: np.array(v) for k, v in numbers.items()})
  else:
    whole = _npz(random, arrays)
  path = lab.own / f'weights.{suffix}'
  path.write_bytes(_changed(random, whole))
  kind = random.integers(3)
  if kind == 0:
    return ['verify', f'--config={samples.config}', f'--received={path}']
  if kind == 1:
    return ['convert', path, '--model=mlp', f'--out={lab.own / "new.npz"}']
  return _audit(lab, samples, f'--config.weights.path={path}')


def workdirs(lab, samples):
  """Files of a finished run with something changed."""
  random = lab.random
  workdir = shutil.copytree(samples.workdir, lab.own / 'run')
  path = workdir / _pick(
    random, ('config.json', 'results.jsonl', 'recon.npz', 'part', 'advice.json')
  )
  if path.name == 'part':
    (path,) = workdir.glob('parts/*.npz')
  if path.suffix == '.npz':
    with np.load(path) as file:
      content = dict(file)
    if random.random() < 0.7:
      content[_pick(random, [*content])] = _pick(random, _ARRAYS)
    whole = _npz(random, content)
  else:
    text = path.read_text() if path.exists() else '{"changes": []}'
    value = _odd(random, json.loads(text))
    whole = json.dumps(value).encode()
  path.write_bytes(_changed(random, whole))
  if random.random() < 0.7:
    return ['report', workdir]
  (workdir / 'results.jsonl').unlink(missing_ok=True)
  return [f'--config={samples.config}', f'--workdir={workdir}']


def images(lab, samples):
  """A folder of images, one of which is another thing than it seems."""
  random = lab.random
  folder = lab.own / 'images'
  for name in 'ab':
    (folder / name).mkdir(parents=True)
    (folder / name / 'whole.png').write_bytes(samples.images['png'])
  whole = samples.images[_pick(random, [*samples.images])]
  name = _pick(random, ('x.png', 'x.jpg', 'x.gif', '\udcff.png', '\x1b[2J.png'))
  (folder / 'a' / name).write_bytes(_changed(random, whole))
  changes = f"{{'name': 'folder', 'path': {str(folder)!r}, 'size': 12}}"
  return _audit(
    lab,
    samples,
    f'--config.dataset={changes}',
    '--config.cases.batch_size=2',
    '--config.attack.name=dlg',
  )


def _odd(random: np.random.Generator, value: Any) -> Any:
  """Returns JSON with one value or key changed, at any depth."""
  inner = value if isinstance(value, dict | list) and value else None
  if inner is None or random.random() < 0.15:
    return _pick(random, _VALUES)
  keys = [*inner] if isinstance(inner, dict) else [*range(len(inner))]
  key = _pick(random, keys)
  if isinstance(inner, dict) and random.random() < 0.1:
    return {k: v for k, v in inner.items() if k != key}
  inner[key] = _odd(random, inner[key])
  return inner


def _npz(random: np.random.Generator, arrays: dict[str, Any]) -> bytes:
  """Returns an npz, whose arrays and names may be any."""
  stream = io.BytesIO()
  method = _pick(random, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
  with zipfile.ZipFile(stream, 'w', method) as file:
    for name, array in arrays.items():
      member = io.BytesIO()
      np.save(member, array, allow_pickle=True)
      file.writestr(f'{name}.npy', member.getvalue())
  return stream.getvalue()


def _changed(random: np.random.Generator, whole: bytes) -> bytes:
  """Returns bytes as they are, flipped, cut, longer, or others."""
  kind = random.integers(6)
  if kind == 0:
    return whole
  if kind == 1:
    return whole[: random.integers(len(whole))]
  if kind == 2:
    return whole + random.bytes(random.integers(1, 300))
  if kind == 3:
    return random.bytes(random.integers(300))
  changed = bytearray(whole)
  # Headers stand at both ends.
  near = min(len(whole), 400)
  for place in random.integers(near, size=random.integers(1, 9)):
    changed[place if random.random() < 0.5 else -1 - place] = random.integers(
      256
    )
  return bytes(changed)


_ARRAYS = (
  np.zeros(0, np.float32),
  np.float32(1),
  np.full(3, np.nan),
  np.full((2, 2), np.inf, np.float32),
  np.zeros((1, 1, 1, 1, 1, 1)),
  np.arange(9),
  np.zeros(3, np.complex64),
  np.array(['a', '\x1b[2J']),
  np.array([None, {}], object),
  np.zeros(3, bool),
  np.zeros(2, [('a', 'f4'), ('b', 'i8')]),
  np.array(2**63, np.uint64),
  np.broadcast_to(np.float32(0), (2000, 2000)),
  np.array('2020-01-01', 'M8[s]'),
)
_CONFIGS = (
  b'',
  b'x = (',
  b'import nosuchmodule',
  b'raise KeyError(1)',
  b'import sys; sys.exit(3)',
  b'\xff\xfe',
  b'# coding: klingon\n',
  b'get_config = 3',
  b'def get_config(): pass',
  b'def get_config(arg=None): return arg',
  b'def get_config(arg=None): return {}',
  b'def get_config(arg=None): return []',
  b'def get_config(arg=None): return {"a": 1}',
  b'def get_config(arg=None): return {1: 1}',
  b'def get_config(arg=None): return {"model": {"name": object()}}',
  b'def get_config(arg=None): raise RuntimeError("a\\nb\\x1b[2J")',
  b'def get_config(arg=None): return get_config(arg)',
  b'def get_config(arg=None): 1/0',
  b'def get_config(arg=None): a = {}; a["sweep"] = a; return a',
  b'def get_config(arg=None): return {"sweep": {"seed": range(10**9)}}',
  b'def get_config(arg=None): return {"sweep": {"seed": list(range(30000))}}',
  b'def get_config(arg=None): return {"study": {"paper": 5}}',
  b'def get_config(arg=None): raise KeyboardInterrupt',
  b'class E(BaseException): pass\ndef get_config(arg=None): raise E("x")',
  b'print("x" * 99); import os; os.abort',
  b'import warnings; warnings.warn("x")\ndef get_config(a=None): return {}',
  b'def get_config(arg=None):\n\treturn 1\n        return 2',
  b'\0',
)
KINDS: tuple[Callable[..., list[object]], ...] = (
  overrides,
  arguments,
  weights,
  workdirs,
  overrides,
  arguments,
  images,
  workdirs,
  words,
  config_files,
  flags_of_commands,
)
