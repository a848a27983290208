"""Tests of giajax.engine.loop: where a part stands, and what is said of it."""

import jax
import numpy as np
import pytest
import tiny

from giajax.engine import checkpoint
from giajax.engine import loop
from giajax.engine import program as programs
from giajax.engine import run


def test_status_counts_no_padding(tmp_path):
  statuses = []
  run.audit(
    tiny.config(run__cases_per_batch=2),  # the second part is filled up
    tmp_path,
    hooks=[statuses.append],
  )
  status = statuses[-1]
  assert (status.step, status.steps) == (12, 12)
  assert status.restarts == status.alive == 2
  own = [s for s in statuses if s.restarts == 2]  # of its part
  assert len(own) < len(statuses) and status.best <= own[0].best


def test_marks_are_within_the_steps():
  assert loop.marks(10, 4).tolist() == [2, 5, 8, 10]
  assert loop.marks(3, 50).tolist() == [1, 2, 3]
  assert loop.marks(0, 50).tolist() == []


def test_a_step_that_the_run_does_not_have(tmp_path):
  carry = programs.Carry(np.ones((1, 1, 3)), np.ones((1, 1)), np.ones((1, 1)))
  fresh = loop._Position(0, carry, np.zeros((1, 1, 2), np.float32), 0.0)
  for step in (-1, 13):
    fields = (tmp_path / str(step), 'run', 1e6)
    job = loop.Job(None, (), 1, 1, 12, np.array([6, 12]), *fields)
    leaves = jax.tree.leaves(carry)
    with checkpoint.manager(job.saved) as opened:
      forged = loop._tree(leaves, fresh._replace(step=step))
      checkpoint.save(opened, forged, 'run')
    with pytest.raises(ValueError, match=f'^Expected a .* got step {step} in'):
      loop._restored(job, fresh)
