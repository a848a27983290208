"""Tests of giajax.engine.tables: every row can be listed."""

import functools

import pytest

from giajax import registry
from giajax.engine import tables

ROWS = [(kind, name) for kind, table in tables.TABLES.items() for name in table]


@pytest.mark.parametrize(('kind', 'name'), ROWS)
def test_row_has_a_summary_of_its_own(kind, name):
  row = tables.TABLES[kind][name]
  line = registry.summary(row)
  assert line and '\n' not in line and len(line) <= 150
  if isinstance(row, functools.partial):
    line = line[: line.rindex(' [')]
  assert line.endswith('.')
  # Not that of the class behind the row.
  assert not line.startswith(('partial(', 'Create a new function'))
  if isinstance(row, tuple):
    assert line != registry.summary(type(row))


@pytest.mark.parametrize('kind', tables.TABLES)
def test_summaries_tell_rows_apart(kind):
  table = tables.TABLES[kind]
  assert len({registry.summary(row) for row in table.values()}) == len(table)


def test_names_are_words():
  for kind, name in ROWS:
    assert name.isidentifier() and name == name.lower(), (kind, name)


def test_partials_show_what_they_bind():
  models = tables.TABLES['models']
  assert isinstance(models['resnet18'], functools.partial)
  assert registry.summary(models['resnet18']).endswith('[depth=18]')
