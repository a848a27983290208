"""Files of a workdir are read, or refused in one line, whatever they hold."""

import json

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import tiny

from giajax.engine import run
from giajax.results import collection
from giajax.results import study

fuzzed = hypothesis.settings(
  max_examples=200, deadline=None, derandomize=True, database=None
)
_FILES = ('config.json', 'results.jsonl')
_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3)
  ),
  max_leaves=6,
)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """Returns the bytes of the files of a finished run, by their paths."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  run.audit(tiny.config(attack={'name': 'linear_layer'}), folder)
  paths = [folder / name for name in (*_FILES, 'recon.npz')]
  return {path: path.read_bytes() for path in paths}


def _read(files):
  """Reads the workdir as a report does, and writes it whole again."""
  (folder,) = {path.parent for path in files}
  try:
    whole = collection.read(folder)
    with whole.arrays:
      study.check_run(whole)
      for row in whole.rows:
        collection.array(whole, row, 'x_hat')
    return whole
  except ValueError as error:
    text = str(error)
    assert text.startswith('Expected ') and '; got ' in text, text
    assert text.isprintable()
    return None
  finally:
    for path, data in files.items():
      path.write_bytes(data)


def test_the_whole_workdir_is_read(files):
  assert len(_read(files).rows) == 2


@fuzzed
@hypothesis.given(data=st.data())
def test_any_value_anywhere(files, data):
  path = data.draw(st.sampled_from(sorted(files)[::2]))
  lines = [json.loads(line) for line in _lines(files[path])]
  node = data.draw(st.sampled_from(lines))
  while True:
    key = data.draw(st.sampled_from([*_keys(node)]))
    inner = node[key]
    if not (isinstance(inner, dict | list) and inner) or data.draw(
      st.booleans()
    ):
      break
    node = inner
  node[key] = data.draw(_JSON)
  path.write_text('\n'.join(map(json.dumps, lines)))
  _read(files)


def _lines(data):
  """Returns the JSON texts of a file: one, or one on each line."""
  return [data] if data.startswith(b'{\n') else data.splitlines()


def _keys(node):
  return node if isinstance(node, dict) else range(len(node))


@fuzzed
@hypothesis.given(data=st.data())
def test_any_bytes(files, data):
  path = data.draw(st.sampled_from(sorted(files)))
  whole = bytearray(files[path])
  # What says how an archive is to be read stands at its ends.
  ends = st.integers(0, 300) | st.integers(-300, -1)
  places = ends | st.integers(0, len(whole) - 1)
  for place, value in data.draw(
    st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)
  ):
    whole[place] = value
  cut = data.draw(st.none() | st.integers(0, len(whole)))
  path.write_bytes(whole[:cut])
  _read(files)


_ODD = (
  np.float32(0),
  np.zeros(3, 'c8'),
  np.zeros((1, 12, 12, 3), 'i4'),
  np.full((1, 12, 12, 3), np.nan, 'f'),
  np.zeros((2, 12, 12, 3), 'f'),
  np.zeros((0, 12, 12, 3), 'f'),
  np.array('x'),
  np.array(-1),
  np.array(2**63, 'u8'),
  np.zeros(1, [('a', 'f4')]),
)


@fuzzed
@hypothesis.given(data=st.data())
def test_any_array(files, data):
  (path,) = [path for path in files if path.suffix == '.npz']
  with np.load(path) as archive:
    arrays = dict(archive)
  name = data.draw(st.sampled_from(sorted(arrays)))
  other = data.draw(st.sampled_from([name, 'x', '0000/x', '9999/x']))
  arrays[other] = data.draw(st.sampled_from(_ODD))
  with open(path, 'wb') as file:
    np.savez(file, **arrays)
  _read(files)
