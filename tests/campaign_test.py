"""The short form of the campaign, and what its table says."""

import pathlib
import signal
import subprocess
import sys

from tests.campaign import __main__ as campaign
from tests.campaign import processes
from tests.campaign import tries

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def _run(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'tests.campaign', *arguments],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    timeout=600,
    # As nohup and the shell's `&` do, whose processes ignore these signals.
    preexec_fn=_ignore,
  )


def _ignore():
  for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)


def test_the_short_form(tmp_path):
  done = _run('--short', f'--out={tmp_path}')
  assert (done.returncode, done.stderr) == (0, ''), done.stdout + done.stderr
  rows = [line.split('|')[1:3] for line in done.stdout.splitlines()[2:]]
  short = {n for n, c in campaign.CAMPAIGNS.items() if c.short}
  assert {name.strip() for name, _ in rows} == short
  assert all(int(tried) > 0 for _, tried in rows)


def test_a_mistake_is_one_line():
  done = _run('--only=kils')
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert line.endswith("did you mean 'kills'?")


def test_verdicts():
  refusal = 'giajax: Expected a; got b; c\n'
  for code, errors, verdict in (
    (0, 'giajax: 2 updates\nstep 1/2, alive\n', 'accepted'),
    (0, 'some library: warning\n', 'traceback'),
    (0, refusal, 'traceback'),
    (0, 'giajax: a\x1b[2J\n', 'traceback'),
    (1, '', 'traceback'),
    (2, refusal, 'refused'),
    (2, 2 * refusal, 'traceback'),
    (2, '', 'traceback'),
    (2, f'Traceback\n{refusal}', 'traceback'),
    (3, '', 'traceback'),
    (85, 'giajax: stopped; the same command continues\n', 'stopped'),
    (-6, '', 'traceback'),
    (-9, '', 'killed'),
    (None, '', 'hang'),
  ):
    ending = processes.Ending(code, errors, '', 1.0, 1)
    assert ending.verdict == verdict, (code, errors)
    assert verdict in (*tries.GOOD, *tries.BAD)
  objecting = processes.Ending(1, '', 'a check objects', 1.0, 1, objects=True)
  assert objecting.verdict == 'accepted'
  assert objecting._replace(output='\x1b[2J').verdict == 'traceback'
