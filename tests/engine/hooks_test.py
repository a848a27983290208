"""Tests of what is shown while a run goes on."""

import io

import numpy as np
from PIL import Image
import pytest

from giajax.engine import hooks


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def _status(step, seconds, **changes):
  status = hooks.Status(
    step=step, steps=100, alive=3, restarts=4, best=0.5, seconds=seconds
  )
  return status._replace(**changes)


def test_plain_lines_are_few_and_end_with_the_last():
  stream = io.StringIO()
  hook = hooks.progress(stream)
  for step in range(0, 101, 10):
    hook(_status(step, seconds=0.4 * step))
  lines = stream.getvalue().splitlines()
  assert lines == [
    'step 0/100, 3/4 alive, best 0.5',
    'step 30/100, 3/4 alive, best 0.5, 10 restart-steps/s, 00:28 left',
    'step 60/100, 3/4 alive, best 0.5, 10 restart-steps/s, 00:16 left',
    'step 90/100, 3/4 alive, best 0.5, 10 restart-steps/s, 00:04 left',
    'step 100/100, 3/4 alive, best 0.5, 10 restart-steps/s',
  ]


def test_rate_ignores_what_was_done_before_the_first_call():
  stream = io.StringIO()
  hook = hooks.progress(stream, every=0)
  hook(_status(80, seconds=20.0))  # resumed, and 20 s of compilation
  hook(_status(90, seconds=25.0))
  assert '8 restart-steps/s, 00:05 left' in stream.getvalue()


def test_one_call_is_enough():
  stream = io.StringIO()
  hooks.progress(stream)(_status(100, seconds=0.0))
  assert stream.getvalue() == 'step 100/100, 3/4 alive, best 0.5\n'


def test_bar_on_a_terminal_and_again_for_a_second_run():
  stream = _Terminal()
  hook = hooks.progress(stream, width=100)
  for step, seconds in ((0, 1.0), (50, 6.0), (100, 11.0), (50, 1.0)):
    hook(_status(step, seconds))
  text = stream.getvalue()
  assert ' 50/100, 3/4 alive, best 0.5, 40 restart-steps/s, 00:05 left' in text
  assert '100/100' in text
  assert max(map(len, text.replace('\r', '\n').splitlines())) <= 100


@pytest.mark.parametrize('b', [1, 8, 11])
@pytest.mark.parametrize('c', [1, 3])
def test_preview_is_a_grid(tmp_path, b, c):
  path = tmp_path / 'figures' / 'preview.png'
  images = np.linspace(0, 1, b * 32 * 32 * c).reshape(b, 32, 32, c)
  hooks.previews(path)(_status(1, 1.0, images=lambda: images))
  with Image.open(path) as picture:
    assert picture.mode == 'RGB'
    assert picture.size == (min(b, 8) * 66, -(-b // 8) * 66)
  assert [p.name for p in path.parent.iterdir()] == ['preview.png']


def test_preview_fetches_no_more_often_than_asked(tmp_path):
  fetched = []

  def images():
    fetched.append(1)
    return np.zeros((1, 8, 8, 3))

  hook = hooks.previews(tmp_path / 'preview.png', every=60.0)
  for seconds in (0.0, 30.0, 59.0, 61.0, 100.0):
    hook(_status(1, seconds, images=images))
  hook(_status(1, 200.0))
  assert len(fetched) == 2


def test_preview_survives_values_that_are_not_finite(tmp_path):
  images = np.full((2, 8, 8, 3), np.nan)
  hooks.previews(tmp_path / 'p.png')(_status(1, 1.0, images=lambda: images))
  assert (tmp_path / 'p.png').exists()
