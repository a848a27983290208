"""Tests of giajax.defenses.pruning."""

import jax.numpy as jnp
import numpy as np
import pytest

from giajax.defenses import pruning


def test_top_entries_are_kept(sent):
  leaf = jnp.array([[3.0, -1.0], [0.5, -4.0], [2.0, 0.0]])
  found = sent(pruning.pruning(keep=0.5), leaf)
  np.testing.assert_array_equal(found, [[3.0, 0.0], [0.0, -4.0], [2.0, 0.0]])
  np.testing.assert_array_equal(sent(pruning.pruning(keep=1.0), leaf), leaf)
  np.testing.assert_array_equal(
    sent(pruning.pruning(keep=0.01), leaf), [[0, 0], [0, -4], [0, 0]]
  )


def test_random_entries_are_kept(sent):
  leaf = jnp.arange(1.0, 1001.0)
  guard = pruning.pruning(keep=0.2, kind='random')
  found = np.asarray(sent(guard, leaf))
  assert (found > 0).sum() == 200
  assert abs(found[found > 0].mean() - 500) < 100  # whatever their size
  assert not np.array_equal(found, sent(guard, leaf, seed=1))
  np.testing.assert_array_equal(sent(guard, leaf, believed=True), leaf)


@pytest.mark.parametrize(
  ('kwargs', 'words'),
  [
    ({'keep': 0.0}, 'keep=0.0'),
    ({'keep': 1.1}, 'keep=1.1'),
    ({'keep': 0.5, 'kind': 'bottom'}, 'bottom'),
  ],
)
def test_bad_arguments(kwargs, words):
  with pytest.raises(ValueError, match=words):
    pruning.pruning(**kwargs)
