"""What every learner keeps to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from tests.learners import adversarial_test
from tests.learners import inversion_test
from tests.learners import pupils

# Each with the shape and the number of classes of its images.
LEARNERS = {
  'adversarial': lambda: (adversarial_test.learner(), (8, 8, 1), 2),
  'federated': lambda: (pupils.pupil(), (3, 3, 1), 2),
  'inversion': lambda: (inversion_test.learner('lti', 2)[0], (4, 4, 1), 4),
}


def kinds(tree):
  return jax.tree.map(
    lambda leaf: (leaf.shape, leaf.dtype, jax.typeof(leaf).weak_type), tree
  )


@pytest.mark.parametrize('name', LEARNERS)
def test_the_state_is_a_fixed_point_and_losses_are_numbers(name):
  made, shape, classes = LEARNERS[name]()
  key = jax.random.key(0)
  count = made.batch_size
  batch = types.Batch(
    jax.random.uniform(key, (count, *shape)), jnp.arange(count) % classes
  )
  seen = {}

  def traced(key):
    state = made.init(key)
    after, losses = made.step(key, state, batch)
    seen.update(before=kinds(state), after=kinds(after), losses=kinds(losses))
    return made.read(key, after)

  kept = jax.eval_shape(traced, key)
  assert seen['before'] == seen['after']
  assert {*seen['losses'].values()} == {((), np.dtype(np.float32), False)}
  assert isinstance(kept, types.Variables)


@pytest.mark.parametrize('name', LEARNERS)
def test_no_array_is_in_a_state_twice(name):
  """So that a step may take the state apart."""
  made, *_ = LEARNERS[name]()
  leaves = jax.tree.leaves(made.init(jax.random.key(0)))
  places = [leaf.unsafe_buffer_pointer() for leaf in map(jnp.asarray, leaves)]
  assert len({*places}) == len(places)
