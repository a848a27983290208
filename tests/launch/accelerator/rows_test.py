"""Tests of the rows on disk, and of their tables."""

import pytest

from launch import timing
from launch.accelerator import rows
from launch.accelerator import tables

_FACTS = {
  'verdict': rows.MEASURED,
  'name': 'card x1',
  'memory_gib': 60.0,
}


def _rows(folder, name='card x1', jax='2'):
  return rows.Rows(folder, name, {'giajax': '1', 'jax': jax})


def test_rows_are_of_one_device(tmp_path):
  own, other = (_rows(tmp_path, name) for name in ('card x1', 'cpu x2'))
  own.add('check/resumed', {'verdict': rows.OK, 'device': 'no'})
  other.add('check/resumed', {'verdict': rows.DIFFERS})
  again = _rows(tmp_path)
  assert again.others == ['cpu x2']
  assert [row['verdict'] for row in again] == [rows.OK]
  assert again.get('check/resumed')['device'] == 'card x1'
  assert again.done('check/resumed') and not again.done('check/alike')
  newer = _rows(tmp_path, jax='3')
  assert not [*newer] and newer.others == ['cpu x2']


def test_a_torn_row_is_dropped_and_a_failed_one_measured_again(tmp_path):
  first = _rows(tmp_path)
  first.add('a/b', {'verdict': rows.FAILED})
  first.add('a/c', {'verdict': rows.NO_MEMORY})
  path = tmp_path / 'rows.jsonl'
  with path.open('a') as file:
    file.write('{"key": "a/d", "ver')
  second = _rows(tmp_path)
  assert not second.done('a/b') and not second.done('a/c')
  second.add('a/b', {'verdict': rows.OK})
  assert [row['key'] for row in _rows(tmp_path)] == [
    'a/b',
    'a/c',
  ]
  assert _rows(tmp_path).done('a/b')


@pytest.mark.parametrize(
  'text', ['nonsense\n', '[]\n', '{"key": "a"}\n', 'nonsense', '{"a": 1}']
)
def test_another_file_is_refused_and_left_alone(tmp_path, text):
  path = tmp_path / 'rows.jsonl'
  path.write_text(text)
  with pytest.raises(ValueError, match=r'^Expected rows .* another --out'):
    _rows(tmp_path)
  assert path.read_text() == text


def test_tables(tmp_path):
  own = _rows(tmp_path)
  own.add('device', _FACTS)
  errors = {'shapes': 3, 'value': 1e-7, 'first': 2e-7, 'second': 3e-7}
  own.add('check/lowering/lenet:1/patches', {'verdict': rows.OK, **errors})
  own.add('check/resumed', {'verdict': rows.DIFFERS, 'difference': 0.25})
  own.add('speed/matmul/full', {'verdict': rows.MEASURED, 'tflops': 51.25})
  speed = {'restarts_per_second': 1234.5, 'ms_per_step': 0.81}
  speed['other_load'] = 0.02
  key = 'speed/resnet18:1:224/64/auto/full'
  own.add(key, {'verdict': rows.MEASURED, **speed})
  why = {'verdict': rows.NO_MEMORY, 'why': 'RESOURCE_EXHAUSTED: a | b'}
  row = own.add('speed/vit_base:1:224/64/auto/full', why)
  own.add(
    'speed/peer/resnet18:1:224',
    {'verdict': rows.MEASURED, 'ratio': 50.0, 'peer_ms_per_step': 40.5}
    | {'other_load': 0.31},
  )
  own.add(
    'figure/4/full', {'verdict': rows.MEASURED, 'updates': 8, 'psnr': 17.0}
  )
  path = tables.write(own, tmp_path, 'the command')
  text = path.read_text()
  assert path.name == 'accelerator_card_x1.md'
  assert '`the command`\n' in text
  assert 'card x1, 60 GiB for JAX; giajax 1, jax 2\n' in text
  for line in (
    '| lenet:1 | patches | 3 | 1.0e-07 | 2.0e-07 | 3.0e-07 | ok |',
    '| 2.5e-01 | differs |',
    '| full | 51.2 | measured |',
    '| resnet18:1:224 | 64 | auto | full | 1234.5 | 0.810 | 50.0 | 2% '
    '| measured |  |',
    '| vit_base:1:224 | 64 | auto | full |  |  |  |  | no memory '
    '| RESOURCE_EXHAUSTED: a / b |',
    '| resnet18:1:224 | 40.5 | 50.0 | 31% * | measured |',
    timing.NOTE,
    '| 4 | full | 8 | 17.00 | measured |',
  ):
    assert f'\n{line}\n' in text
  assert tables.line(row) == (
    'speed/vit_base:1:224/64/auto/full: no memory (RESOURCE_EXHAUSTED: a | b)'
  )
