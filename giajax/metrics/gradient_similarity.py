"""Gradient similarity: how similar an image's gradient is to its batch's.

  s_i = cos(g_i, mean_j g_j)

with g_i the gradient of the loss of image i alone, BatchNorm in inference mode.
Guo et al., Exploring the Vulnerabilities of Federated Learning, TPAMI 2025,
arXiv 2503.11514, table of gradient similarities: if many images of a batch have
the same gradient, they cannot be told apart (their Proposition 1). Only
somebody who has the images knows it; no attack sees it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.metrics import base
from giajax.models import base as models
from giajax.tasks import base as tasks


def gradient_similarity(
  net: models.Net, task: tasks.Task
) -> Callable[[types.Variables, types.Batch], types.Array]:
  """Returns `(variables, batch) -> [B] cosines`, compiled.

  Args:
    net: the network.
    task: its loss.
  """
  gradient = of_one_image(net, task)

  @jax.jit
  def similarity(variables, batch):
    # One after the other: a gradient is as large as the network.
    def add(total, one):
      return jax.tree.map(jnp.add, total, gradient(variables, *one)), None

    zero = jax.tree.map(jnp.zeros_like, variables.params)
    total, _ = jax.lax.scan(add, zero, batch)

    def cosine(one):
      own = gradient(variables, *one)
      norms = trees.squared_norm(own) * trees.squared_norm(total)
      return trees.dot(own, total) / trees.safe_sqrt(norms)

    return jax.lax.map(cosine, batch)

  return similarity


def prepare(
  audited: base.Audited, asked: bool
) -> Callable[[types.Variables, types.Batch], np.ndarray]:
  """Cosine between an image's gradient and its batch's gradient.

  Raises:
    ValueError: a loss that is no mean of those of its images.
  """
  del asked
  base.require_additive(audited, 'gradient_similarity')
  cosines = gradient_similarity(audited.viewer(), audited.task)
  return lambda variables, batch: np.asarray(cosines(variables, batch))


def of_one_image(
  net: models.Net, task: tasks.Task
) -> Callable[[types.Variables, types.Array, Any], types.Tree]:
  """Returns `(variables, x [H, W, C], y) -> gradient` in inference mode.

  Args:
    net: the network.
    task: its loss.
  """

  def gradient(variables, x, y):
    def loss(params):
      output = net.apply(
        variables._replace(params=params),
        x[None],
        train=False,
        key=jax.random.key(0),
      )
      return clients.loss(task, output, trees.single(y))

    return jax.grad(loss)(variables.params)

  return gradient


SIMILARITY = base.Metric(
  name='gradient_similarity',
  label='gradient cosine',
  unit='',
  form='.3f',
  meaning='Cosine between the gradient of an image and that of its batch, '
  'under the weights of the agreed network: 1 for images that cannot be told '
  'apart.',
  source='Guo et al., TPAMI 2025, arXiv:2503.11514',
  needs=('variables', 'batch'),
  prepare=prepare,
  about='batch',
)

FIRST = SIMILARITY._replace(
  name='gradient_similarity_first',
  label='gradient cosine of the first image',
  meaning='The same cosine, for the first image of the batch only.',
  needs=('gradient_similarity',),
  score=np.asarray,
  prepare=None,
  reduce=lambda values: values[0],
)
