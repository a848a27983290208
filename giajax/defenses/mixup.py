"""mixup: the client trains on weighted means of two of its images.

Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv
1710.09412, section 2: with lambda ~ Beta(alpha, alpha) and a random order j of
the batch,

  x' = lambda x_i + (1 - lambda) x_j    y' = lambda y_i + (1 - lambda) y_j

for labels y in one-hot form; as in the authors' code, a batch has one lambda.
The images of a FedAvg client are mixed once, and not again in each local step.
"""

import jax

from giajax import keys
from giajax import require
from giajax import types
from giajax.defenses import base
from giajax.tasks import base as tasks


def mixup(
  *, num_classes: int, task: tasks.Task | None = None, alpha: float = 1.0
) -> base.Defense:
  """Mixes the images and labels of the client's batch.

  A server that knows the defence changes nothing, because it does not see the
  draw.

  Args:
    num_classes: K, the number of classes.
    task: what the client trains for; classification if None.
    alpha: the parameter of the Beta distribution of the weight, > 0; a small
      one mixes little.

  Raises:
    ValueError: an alpha outside its range, or another task than classification;
      `on_batch` raises it for a batch of one image.
  """
  require.positive(alpha, 'alpha', advice='the paper has 0.1 to 1')
  if task is not None and not task.exclusive:
    raise ValueError(
      'Expected the task classification for mixup, which mixes classes; got '
      'another; choose another defense'
    )

  def on_batch(key, batch):
    if len(batch.x) < 2:
      raise ValueError(
        'Expected at least 2 images to mix; got a batch of '
        f'{len(batch.x)}; raise cases.batch_size'
      )
    weight = jax.random.beta(keys.named(key, 'weight'), alpha, alpha)
    order = jax.random.permutation(keys.named(key, 'order'), len(batch.x))
    y = batch.y if batch.y.ndim > 1 else jax.nn.one_hot(batch.y, num_classes)
    return jax.tree.map(
      lambda v: weight * v + (1 - weight) * v[order], types.Batch(batch.x, y)
    )

  return base.Defense(on_batch=on_batch)
