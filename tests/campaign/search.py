"""The process in which atheris changes bytes until a reader fails on them.

  python -m tests.campaign.search READER SEED FOLDER

The package is imported after atheris, which instruments it.
"""

import importlib
import io
import json
import pathlib
import sys

import numpy as np
from safetensors import numpy as safetensors

RUNS = 20_000
_MEGABYTES = 2000
_ARRAYS = {
  'layers.0.weight': np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 12),
  'layers.0.bias': np.zeros(2, np.float32),
}
_META = {'config': {'seed': 0, 'sweep': {}}, 'hash': 'a', 'class_names': ['b']}


def _archive(path: pathlib.Path) -> None:
  archives = importlib.import_module('giajax.archives')
  archives.read(path)


def _meta(path: pathlib.Path) -> None:
  importlib.import_module('giajax.results.records').run(path)


def _text(path: pathlib.Path) -> None:
  """Overrides of a config, one a line."""
  configs = importlib.import_module('giajax.commands.configs')
  schema = importlib.import_module('giajax.engine.schema')
  lines = path.read_text('utf-8', 'surrogateescape').splitlines()
  pairs = [line.partition('=')[::2] for line in lines]
  configs.override(schema.DEFAULTS, dict(pairs))


def _npz() -> bytes:
  stream = io.BytesIO()
  np.savez(stream, **_ARRAYS)
  return stream.getvalue()


# What reads a file, the ending of its name, and a whole one.
READERS = {
  'npz': (_archive, '.npz', _npz),
  'safetensors': (
    _archive,
    '.safetensors',
    lambda: safetensors.save(_ARRAYS),
  ),
  'config.json': (_meta, '.json', lambda: json.dumps(_META).encode()),
  'overrides': (
    _text,
    '.txt',
    lambda: b'seed=1\nattack.name=dlg\nmodel={"name": "mlp"}\nsweep.seed=1,2',
  ),
}


def _search(name: str, seed: str, folder: pathlib.Path) -> None:
  """Runs in a process of its own, until the runs are made or one fails."""
  atheris = importlib.import_module('atheris')
  reader, suffix, whole = READERS[name]
  with atheris.instrument_imports(
    include=['giajax'], enable_loader_override=False
  ):
    for module in ('archives', 'results.records', 'commands.configs'):
      importlib.import_module(f'giajax.{module}')
  corpus = folder / 'corpus'
  corpus.mkdir()
  (corpus / 'whole').write_bytes(whole())
  path = folder / f'file{suffix}'

  def once(data: bytes) -> None:
    path.write_bytes(data)
    try:
      reader(path)
    except ValueError as error:
      if not str(error).startswith('Expected '):
        raise

  flags = [f'-runs={RUNS}', f'-seed={seed}', f'-rss_limit_mb={_MEGABYTES}']
  flags += ['-timeout=60', f'-artifact_prefix={folder}/', str(corpus)]
  atheris.Setup([sys.argv[0], *flags], once)
  atheris.Fuzz()


if __name__ == '__main__':
  _search(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))
