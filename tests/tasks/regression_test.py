"""Tests of giajax.tasks.regression against values by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from giajax.tasks import regression

OUT = jnp.array([[0.0, 1.0], [5.0, 2.0]])
Y = jnp.array([[0.5, 1.0], [2.0, 2.0]])


@pytest.mark.parametrize(
  ('loss', 'expected'),
  [
    ('squared', (0.25 + 9) / 4),
    ('absolute', 3.5 / 4),
    ('huber', (0.125 + 2.5) / 4),
  ],
)
def test_loss_by_hand(loss, expected):
  task = regression.regression(2, loss=loss)
  np.testing.assert_allclose(task.loss(OUT, Y), expected, rtol=1e-6)


def test_numbers_within_the_tolerance_count():
  task = regression.regression(2, tolerance=0.5)
  np.testing.assert_array_equal(task.same(Y, OUT), [1, 0.5])


@pytest.mark.parametrize(
  ('y', 'message'),
  [
    (np.zeros(2, np.float32), r'shape \(2, 2\); got shape=\(2,\).*reshape'),
    (np.zeros((2, 2), np.int32), 'dtype=int32'),
    (np.array([[0, np.inf], [0, 0]], np.float32), '1 of 4 that are NaN or inf'),
  ],
)
def test_wrong_targets_are_refused(y, message):
  with pytest.raises(ValueError, match=message):
    regression.regression(2).check(y, 2)


def test_wrong_arguments_are_refused():
  with pytest.raises(ValueError, match=r'Expected .*absolute.* got .*squard'):
    regression.regression(2, loss='squard')
  with pytest.raises(ValueError, match='tolerance=0'):
    regression.regression(2, tolerance=0)
