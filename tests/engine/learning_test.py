"""Tests of giajax.engine.learning."""

import pathlib
import signal

import jax
import numpy as np
import pytest

from giajax.engine import learning
from giajax.engine import signals
from tests.learners import pupils


def interrupted_course(at):
  """Returns a course in which SIGINT arrives before step `at` of each run."""
  calls = []

  def take(indices):
    calls.append(None)
    if len(calls) == at + 1:  # the shapes of a batch are asked for first
      signal.raise_signal(signal.SIGINT)
    return pupils.EASY.take(indices)

  return learning.Course(pupils.EASY._replace(take=take), 3, 0)


def test_a_run_that_was_stopped_continues_to_the_same_bits(
  tmp_path, caplog, monkeypatch
):
  """It stops within an epoch, and at the end of one."""
  monkeypatch.chdir(tmp_path)
  whole = learning.learn(pupils.pupil(), pupils.course())
  saving = learning.Saving(pathlib.Path('saved'), 'owner', seconds=0.0)
  learner = pupils.pupil()
  for at, step in ((7, 7), (5, 12), (1, 13)):
    with pytest.raises(signals.Interrupted, match=f'at step {step} of 36'):
      learning.learn(learner, interrupted_course(at), saving=saving)
  with caplog.at_level('INFO', 'giajax'):
    end = learning.learn(learner, pupils.course(), saving=saving)
  assert 'continuing at step 13 of 36' in caplog.messages
  jax.tree.map(np.testing.assert_array_equal, whole[:2], end[:2])


def test_the_checkpoint_of_another_run_is_not_continued(tmp_path, caplog):
  saving = learning.Saving(tmp_path, 'owner', seconds=0.0)
  with pytest.raises(signals.Interrupted):
    learning.learn(pupils.pupil(), interrupted_course(3), saving=saving)
  with caplog.at_level('WARNING', 'giajax'):
    learning.learn(
      pupils.pupil(), pupils.course(), saving=saving._replace(owner='another')
    )
  assert 'belongs to another run' in caplog.text


def test_losses_are_means_since_the_last_mark(monkeypatch):
  _, every, _ = learning.learn(pupils.pupil(), pupils.course())
  assert every.steps.tolist() == [*range(1, 37)]
  monkeypatch.setattr(learning, '_MARKS', 5)
  _, few, _ = learning.learn(pupils.pupil(), pupils.course())
  assert few.steps.tolist() == [7, 14, 22, 29, 36]
  wanted = np.split(every.values['loss'], few.steps[:-1])
  np.testing.assert_allclose(
    few.values['loss'], [part.mean() for part in wanted], rtol=1e-6
  )


def test_epochs_are_told_and_progress_says_how_long(monkeypatch, caplog):
  monkeypatch.setattr(learning, '_QUIET', 0.0)
  epochs = []
  with caplog.at_level('INFO', 'giajax'):
    learning.learn(
      pupils.pupil(),
      pupils.course(),
      every=1,
      on_epoch=lambda e, v: epochs.append(e),
    )
  assert epochs == [1, 2]
  lines = [line.split(', ') for line in caplog.messages]
  assert len(lines) == 35  # nothing is left after the last step
  assert lines[12][:2] == ['epoch 2 of 3', 'step 13 of 36']
  assert lines[12][2].startswith('loss 0.') and lines[12][3].endswith(' left')


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (dict(epochs=0), 'got epochs=0'),
    (dict(seed=2**63), 'got seed=9223'),
  ],
)
def test_mistakes(change, words):
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    learning.steps(pupils.course()._replace(**change), 20)


def test_a_batch_larger_than_the_training_set_is_refused():
  with pytest.raises(ValueError, match=r'^Expected a batch_size of 1 to 240'):
    learning.steps(pupils.course(), 241)
