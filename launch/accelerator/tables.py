"""Rows of the kit in words: a line each, and tables of them."""

from collections.abc import Iterable, Mapping, Sequence
import os
import pathlib
import re
from typing import Any

from .. import timing
from . import rows as rows_library

Row = Mapping[str, Any]
_LOAD = ('other_load', 'other load', timing.shown)
# The figures of each kind of row: key, title, format or what gives a text.
_FIGURES: dict[str, tuple[tuple[str, str, Any], ...]] = {
  'lowering': (
    ('shapes', 'shapes', 'd'),
    ('value', 'value', '.1e'),
    ('first', 'first derivative', '.1e'),
    ('second', 'second derivative', '.1e'),
  ),
  'moments': (('error', 'error', '.1e'),),
  'layouts': (('devices', 'devices', 'd'), ('error', 'error', '.1e')),
  'resumed': (('difference', 'largest difference of a pixel', '.1e'),),
  'alike': (
    ('decibels', 'largest difference (dB)', '.3f'),
    ('psnr', 'PSNR here (dB)', '.2f'),
    ('psnr_cpu', 'PSNR on the CPU (dB)', '.2f'),
  ),
  'precision': (('psnr', 'PSNR (dB)', '.2f'),),
  'matmul': (('tflops', 'TFLOP/s', '.1f'),),
  'speed': (
    ('restarts_per_second', 'restart-steps/s', '.1f'),
    ('ms_per_step', 'ms per restart-step', '.3f'),
    ('ratio', 'times breaching', '.1f'),
    ('matmul_share', 'share of the rate of a large product', '.2f'),
    ('restarts_per_batch', 'together', 'd'),
    ('program_gib', 'GiB', '.2f'),
    ('compile_seconds', 'compile s', '.1f'),
    ('first_step_seconds', 'first step s', '.1f'),
    _LOAD,
  ),
  'peer': (
    ('peer_ms_per_step', 'ms per restart-step', '.1f'),
    ('ratio', 'ratio', '.1f'),
    ('peer_device', 'its device', ''),
    _LOAD,
  ),
  'figure': (
    ('updates', 'updates', 'd'),
    ('steps', 'steps', 'd'),
    ('dataset', 'images', ''),
    ('psnr', 'PSNR (dB)', '.2f'),
    ('baseline_psnr', 'best baseline (dB)', '.2f'),
    ('ssim', 'SSIM', '.3f'),
    ('seconds_per_update', 's per update', '.1f'),
  ),
}
# Title, kind, and the names of the parts of a key behind its kind.
_TABLES = (
  (
    'Lowerings compared with float64 on the host: relative errors',
    'lowering',
    ('network', 'lowering', 'products'),
  ),
  ('Moments compared with the explicit gradient', 'moments', ('network',)),
  ('Restarts spread over devices compared with one', 'layouts', ('network',)),
  ('A killed run compared with an undisturbed one', 'resumed', ('flags',)),
  ('The same attack here and on the CPU', 'alike', ()),
  ('DLG at each precision of the attacker', 'precision', ('precision',)),
  ('Large matrix products', 'matmul', ('precision',)),
  (
    'Restart-steps of Inverting Gradients',
    'speed',
    ('workload', 'restarts', 'lowering', 'precision'),
  ),
  (
    'breaching on the same device: one restart at a time, compared with the '
    'first row above of the same workload',
    'peer',
    ('workload',),
  ),
  (
    'Inverting Gradients, untrained ResNet-18',
    'figure',
    ('batch', 'precision'),
  ),
)


def line(row: Row) -> str:
  """Returns a row in one line for the terminal."""
  figures = [
    f'{title} {text}'
    for (_, title, _), text in zip(_FIGURES[_kind(row)], _texts(row))
    if text
  ]
  said = ', '.join(figures) or row.get('why', '')
  return f'{row["key"]}: {row["verdict"]}' + (f' ({said})' if said else '')


def write(
  rows: rows_library.Rows, folder: pathlib.Path, command: str
) -> pathlib.Path:
  """Writes the tables of a device, in one piece.

  Args:
    rows: the rows of the device.
    folder: the folder for the file.
    command: the command that measured the last of them.

  Returns:
    The path of the file.
  """
  path = folder / f'accelerator_{slug(rows.device)}.md'
  temporary = path.with_suffix('.tmp')
  temporary.write_text(markdown(rows, command), encoding='utf-8')
  os.replace(temporary, path)
  return path


def slug(device: str) -> str:
  """Returns the name of a device as a part of a path."""
  return re.sub(r'\W+', '_', device).strip('_').lower()


def markdown(rows: rows_library.Rows, command: str) -> str:
  """Returns the tables of a device.

  Args:
    rows: the rows of the device.
    command: the command that measured the last of them.
  """
  facts = next(row for row in rows if row['key'] == 'device')
  versions = ', '.join(f'{k} {v}' for k, v in facts['versions'].items())
  memory = facts['memory_gib']
  room = f', {memory:.0f} GiB for JAX' if memory else ''
  parts = [
    f'# The accelerator kit on {rows.device}\n',
    f'`{command}`\n',
    f'{rows.device}{room}; {versions}\n',
  ]
  every = [_compared(r, rows) for r in rows if r['key'] != 'device']
  for title, kind, names in _TABLES:
    own = [row for row in every if _kind(row) == kind]
    if own:
      parts += [f'## {title}\n', _table(own, kind, names)]
      if any(timing.disturbed(r['other_load']) for r in own if _LOAD[0] in r):
        parts.append(f'{timing.NOTE}\n')
  return '\n'.join(parts)


def _compared(row: Row, rows: rows_library.Rows) -> Row:
  """Returns a row of the speed with its ratio to the peer, if that is there."""
  network = row['key'].split('/')[1]
  theirs = (rows.get(f'speed/peer/{network}') or {}).get('peer_ms_per_step')
  if _kind(row) != 'speed' or theirs is None or 'ms_per_step' not in row:
    return row
  return {**row, 'ratio': theirs / row['ms_per_step']}


def _table(own: Iterable[Row], kind: str, names: Sequence[str]) -> str:
  titles = [title for _, title, _ in _FIGURES[kind]]
  lines = []
  for row in own:
    words = row['key'].split('/')[_depth(row) :]
    words = [*words, *[''] * (len(names) - len(words))][: len(names)]
    why = row.get('why', '')
    lines.append([*words, *_texts(row), row['verdict'], why.replace('|', '/')])
  return rows_library.table([*names, *titles, 'verdict', 'why'], lines)


def _texts(row: Row) -> list[str]:
  """Returns the figures of a row as texts, empty where there is none."""
  return [_text(row, key, form) for key, _, form in _FIGURES[_kind(row)]]


def _text(row: Row, key: str, form: Any) -> str:
  if callable(form):
    return form(row[key]) if key in row else ''
  return '' if row.get(key) is None else format(row[key], form)


def _kind(row: Row) -> str:
  """Returns the kind of a row, which decides its figures."""
  section, second, *_ = row['key'].split('/')
  if section == 'figure' or second not in _FIGURES:
    return section
  return second


def _depth(row: Row) -> int:
  """Returns where the names begin in a row's key."""
  return 1 if _kind(row) == row['key'].split('/')[0] else 2
