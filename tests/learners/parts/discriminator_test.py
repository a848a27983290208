"""Tests of giajax.learners.parts.discriminator."""

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax.learners.parts import discriminator as discriminators


def converged(critic, x, y):
  """Returns weights whose power iterations have ended."""
  variables = critic.init(jax.random.key(0))
  step = jax.jit(lambda v: v._replace(stats=critic.apply(v, x, y, True)[1]))
  for _ in range(60):
    variables = step(variables)
  return variables


def test_every_kernel_has_a_spectral_norm_of_one():
  """The score is that of kernels divided by numpy's largest singular value."""
  critic = discriminators.discriminator((8, 8, 1), 3, width=4)
  x = jax.random.uniform(jax.random.key(1), (5, 8, 8, 1))
  y = jnp.array([0, 1, 2, 0, 1])
  variables = converged(critic, x, y)
  leaves = trees.named_leaves(variables.params)
  for name, leaf in leaves.items():
    if name.endswith('kernel'):
      matrix = np.asarray(leaf, np.float64).reshape(-1, leaf.shape[-1])
      leaves[name] = leaf / np.linalg.norm(matrix, 2)
  h = 2 * x - 1
  for name, stride, padding in (
    ('convs.0', 1, 1),
    ('convs.1', 2, 1),
    ('last', 1, 1),
  ):
    h = jax.lax.conv_general_dilated(
      h,
      leaves[f'{name}.kernel'],
      (stride, stride),
      ((padding, padding),) * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    h = h + leaves[f'{name}.bias']
    h = jnp.where(h > 0, h, 0.1 * h)
  h = h.sum(axis=(1, 2))
  wanted = (h @ leaves['fc.kernel'] + leaves['fc.bias'])[:, 0]
  wanted += (h @ leaves['classes.kernel'])[jnp.arange(5), y]
  scores, _ = critic.apply(variables, x, y, False)
  np.testing.assert_allclose(scores, wanted, rtol=2e-3, atol=2e-3)


def test_without_classes_labels_are_not_read():
  critic = discriminators.discriminator((16, 16, 3), 0, width=4)
  variables = critic.init(jax.random.key(0))
  x = jnp.ones((2, 16, 16, 3))
  one, two = (
    critic.apply(variables, x, jnp.full(2, y), False)[0] for y in (0, 7)
  )
  np.testing.assert_array_equal(one, two)
