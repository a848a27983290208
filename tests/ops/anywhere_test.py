"""Tests of a condition on which a branch may be skipped under vmap."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax.ops import anywhere


def value(tree):
  late = jax.lax.stop_gradient(tree['late']) != 0
  return jax.lax.cond(
    anywhere.anywhere(late),
    lambda: jnp.sum(tree['x'] * tree['w']),
    lambda: jnp.sum(tree['x']),
  )


def test_a_branch_stays_one_and_is_chosen_for_all():
  tree = {
    'late': jnp.zeros((2, 3)),
    'x': jnp.ones((2, 3, 4)),
    'w': jnp.full((2, 3, 4), 5.0),
  }
  both = jax.vmap(jax.vmap(jax.value_and_grad(value)))
  text = str(jax.make_jaxpr(both)(tree))
  assert 'cond[' in text and 'select_n' not in text
  both = jax.jit(both)
  for late, expected in ((0.0, 1.0), (1.0, 5.0)):
    tree['late'] = tree['late'].at[1, 2].set(late)
    found, gradient = both(tree)
    np.testing.assert_array_equal(found, np.full((2, 3), 4 * expected))
    np.testing.assert_array_equal(gradient['x'], np.full((2, 3, 4), expected))


def test_alone_it_is_the_condition_itself():
  for late in (0.0, 1.0):
    tree = {'late': jnp.float32(late), 'x': jnp.ones(2), 'w': jnp.ones(2) * 3}
    assert value(tree) == (6 if late else 2)
