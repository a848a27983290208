"""Tests of giajax.tasks.multilabel against values by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from giajax.tasks import multilabel

TASK = multilabel.multilabel(3)
# -log of 1/2, 2/3, 1/3
OUT = jnp.array([[0.0, np.log(2), np.log(2)]])


def test_loss_by_hand():
  loss = TASK.loss(OUT, jnp.array([[1, 1, 0]]))
  expected = [np.log(2), np.log(1.5), np.log(3)]
  np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-6)
  total = multilabel.multilabel(3, reduction='sum')
  loss = total.loss(OUT, jnp.array([[1.0, 1.0, 0.0]]))
  np.testing.assert_allclose(loss, np.sum(expected), rtol=1e-6)


def test_sets_of_labels_are_compared_by_their_overlap():
  y = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
  claimed = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [1, 0, 0]])
  np.testing.assert_allclose(TASK.same(y, claimed), [1 / 3, 1, 1 / 3, 0])


@pytest.mark.parametrize(
  ('y', 'message'),
  [
    (np.array([[0, 2, 1]]), r'from 0 to 1; got y=2 \(1 of 3'),
    (np.array([[0, -1, 1]]), 'got y=-1'),
    (np.array([[0, np.nan, 1]], np.float32), 'got y=nan'),
    (np.array([[0, 1]]), r'shape \(1, 3\); got shape=\(1, 2\)'),
    (np.zeros((1, 3), bool), 'dtype=bool'),
  ],
)
def test_wrong_labels_are_refused(y, message):
  with pytest.raises(ValueError, match=message):
    TASK.check(y, 1)


def test_wrong_arguments_are_refused():
  with pytest.raises(ValueError, match='num_classes=0'):
    multilabel.multilabel(0)
  with pytest.raises(ValueError, match="reduction='max'"):
    multilabel.multilabel(3, reduction='max')
