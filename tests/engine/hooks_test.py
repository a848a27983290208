"""Tests of what is shown while a run goes on."""

import io

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


def test_each_part_of_a_run_has_lines_and_a_rate_of_its_own():
  stream = io.StringIO()
  hook = hooks.progress(stream)
  for step, seconds in ((0, 0.0), (100, 500.0), (0, 1.0), (50, 21.0)):
    hook(_status(step, seconds))
  assert stream.getvalue().splitlines()[2:] == [
    'step 0/100, 3/4 alive, best 0.5',
    'step 50/100, 3/4 alive, best 0.5, 10 restart-steps/s, 00:20 left',
  ]


def test_bar_on_a_terminal_and_again_for_a_second_run():
  stream = _Terminal()
  hook = hooks.progress(stream, width=100)
  for step, seconds in (
    *((0, 1.0), (50, 6.0), (100, 11.0)),
    *((0, 1.0), (50, 21.0)),
  ):
    hook(_status(step, seconds))
  text = stream.getvalue()
  assert ' 50/100, 3/4 alive, best 0.5, 40 restart-steps/s, 00:05 left' in text
  assert '100/100' in text
  assert ' 50/100, 3/4 alive, best 0.5, 10 restart-steps/s, 00:20 left' in text
  assert max(map(len, text.replace('\r', '\n').splitlines())) <= 100
