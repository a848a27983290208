"""Tests of giajax.results.parquet."""

import math

from pyarrow import parquet as arrow
import pytest
import tiny

from giajax.engine import run
from giajax.results import columns
from giajax.results import parquet


def test_nested_values_have_dotted_names():
  row = {
    'row': 3,
    'sweep': {'attack.total_variation': 0.1, 'model': {'name': 'mlp'}},
    'grants': ['labels', 'model'],
    'baselines': {'start': {'psnr': 5.5, 'iip': None}},
    'psnr': math.nan,
  }
  assert parquet.flat(row) == {
    'row': 3,
    'sweep.attack.total_variation': 0.1,
    'sweep.model': '{"name": "mlp"}',
    'grants': 'labels, model',
    'baselines.start.psnr': 5.5,
    'baselines.start.iip': None,
    'psnr': None,
  }


@pytest.mark.parametrize(
  ('values', 'kind', 'written'),
  [
    ([1, 2], int, [1, 2]),
    ([1, 0.5, None], float, [1.0, 0.5, None]),
    ([10**19, 1], float, [1e19, 1.0]),
    ([True, None], bool, [True, None]),
    ([1, 'auto'], str, ['1', 'auto']),
    ([{'name': 'x'}, 2.5], str, ['{"name": "x"}', '2.5']),
    ([None, None], str, [None, None]),
  ],
)
def test_a_column_has_one_type(tmp_path, values, kind, written):
  rows = [{'sweep': {'key': value}} for value in values]
  flat = [*map(parquet.flat, rows)]
  assert parquet.kinds(flat) == {'sweep.key': kind}
  parquet.write(tmp_path / 'a.parquet', rows)
  table = arrow.read_table(tmp_path / 'a.parquet')
  assert table.to_pydict() == {'sweep.key': written}


def test_a_run_has_its_rows_as_a_table(tmp_path):
  config = tiny.config(
    attack={'name': 'linear_layer'}, sweep={'restarts': (1, 2)}
  )
  rows = run.audit(config, tmp_path)
  table = arrow.read_table(tmp_path / 'results.parquet').to_pylist()
  assert [found['row'] for found in table] == [row['row'] for row in rows]
  for found, row in zip(table, rows):
    assert found['sweep.restarts'] == row['sweep']['restarts']
    assert found['baselines.mean_image.psnr'] == pytest.approx(
      row['baselines']['mean_image']['psnr']
    )
    for name, column in columns.COLUMNS.items():
      if column.kind in (bool, int, float, str) and name in row:
        assert found[name] == row[name], name
