"""Tests of the rows on disk, and of their tables."""

import pytest

from launch.accelerator import rows
from launch.accelerator import tables

_FACTS = {
  'verdict': rows.MEASURED,
  'name': 'card x1',
  'memory_gb': 60.0,
  'versions': {'giajax': '1', 'jax': '2'},
}


def test_rows_are_of_one_device(tmp_path):
  own, other = (rows.Rows(tmp_path, name) for name in ('card x1', 'cpu x2'))
  own.add('check/resumed', {'verdict': rows.OK, 'device': 'no'})
  other.add('check/resumed', {'verdict': rows.DIFFERS})
  again = rows.Rows(tmp_path, 'card x1')
  assert again.others == ['cpu x2']
  assert [row['verdict'] for row in again] == [rows.OK]
  assert again.get('check/resumed')['device'] == 'card x1'
  assert again.done('check/resumed') and not again.done('check/alike')


def test_a_torn_row_is_dropped_and_a_failed_one_measured_again(tmp_path):
  first = rows.Rows(tmp_path, 'card x1')
  first.add('a/b', {'verdict': rows.FAILED})
  first.add('a/c', {'verdict': rows.NO_MEMORY})
  path = tmp_path / 'rows.jsonl'
  with path.open('a') as file:
    file.write('{"key": "a/d", "ver')
  second = rows.Rows(tmp_path, 'card x1')
  assert not second.done('a/b') and second.done('a/c')
  second.add('a/b', {'verdict': rows.OK})
  assert [row['key'] for row in rows.Rows(tmp_path, 'card x1')] == [
    'a/b',
    'a/c',
  ]
  assert rows.Rows(tmp_path, 'card x1').done('a/b')


@pytest.mark.parametrize('text', ['nonsense\n', '[]\n', '{"key": "a"}\n'])
def test_another_file_is_refused_and_left_alone(tmp_path, text):
  path = tmp_path / 'rows.jsonl'
  path.write_text(text)
  with pytest.raises(ValueError, match=r'^Expected rows .* another --out'):
    rows.Rows(tmp_path, 'card x1')
  assert path.read_text() == text


def test_tables(tmp_path):
  own = rows.Rows(tmp_path, 'card x1')
  own.add('device', _FACTS)
  errors = {'shapes': 3, 'value': 1e-7, 'first': 2e-7, 'second': 3e-7}
  own.add('check/lowering/lenet:1/patches', {'verdict': rows.OK, **errors})
  own.add('check/resumed', {'verdict': rows.DIFFERS})
  own.add('speed/matmul/full', {'verdict': rows.MEASURED, 'tflops': 51.25})
  speed = {'restarts_per_second': 1234.5, 'ms_per_step': 0.81}
  key = 'speed/resnet18:1:224/64/auto/full'
  own.add(key, {'verdict': rows.MEASURED, **speed})
  why = {'verdict': rows.NO_MEMORY, 'why': 'RESOURCE_EXHAUSTED: a | b'}
  row = own.add('speed/vit_base:1:224/64/auto/full', why)
  own.add(
    'speed/peer/resnet18:1:224',
    {'verdict': rows.MEASURED, 'ratio': 50.0, 'peer_ms_per_step': 40.5},
  )
  own.add(
    'figure/4/full', {'verdict': rows.MEASURED, 'updates': 8, 'psnr': 17.0}
  )
  path = tables.write(own, tmp_path, 'the command')
  text = path.read_text()
  assert path.name == 'accelerator_card_x1.md'
  assert '`the command`\n' in text
  assert 'card x1, 60 GB for JAX; giajax 1, jax 2\n' in text
  for line in (
    '| lenet:1 | patches | 3 | 1.0e-07 | 2.0e-07 | 3.0e-07 | ok |',
    '| differs |',
    '| full | 51.2 | measured |',
    '| resnet18:1:224 | 64 | auto | full | 1234.5 | 0.810 | measured |  |',
    '| vit_base:1:224 | 64 | auto | full |  |  | no memory '
    '| RESOURCE_EXHAUSTED: a / b |',
    '| resnet18:1:224 | 40.5 | 50.0 | measured |',
    '| 4 | full | 8 | 17.00 | measured |',
  ):
    assert f'\n{line}\n' in text
  assert tables.line(row) == (
    'speed/vit_base:1:224/64/auto/full: no memory (RESOURCE_EXHAUSTED: a | b)'
  )
