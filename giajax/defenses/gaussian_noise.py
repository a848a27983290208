"""Gaussian noise of a fixed scale on every entry of the update.

Zhu, Liu and Han, Deep Leakage from Gradients, NeurIPS 2019, arXiv 1906.08935,
section 5.1. Without clipping this carries no privacy guarantee.
"""

import jax

from giajax import keys
from giajax import trees
from giajax.defenses import base


def gaussian_noise(*, scale: float) -> base.Defense:
  """Adds N(0, scale^2) to every entry of the update.

  Args:
    scale: standard deviation, in units of the gradient, >= 0.

  Raises:
    ValueError: a negative scale.
  """
  if scale < 0:
    raise ValueError(
      f'Expected scale >= 0; got scale={scale}; use 0 for no noise'
    )

  def on_client(client):
    def update(key, query, batch):
      clean, output = client.update(key, query, batch)
      noisy = {
        name: leaf
        + scale * jax.random.normal(keys.named(key, name), leaf.shape)
        for name, leaf in trees.named_leaves(clean.delta).items()
      }
      return clean._replace(delta=trees.like(clean.delta, noisy)), output

    return client._replace(update=update, moments=None)

  return base.Defense(on_client=on_client)
