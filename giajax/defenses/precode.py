"""PRECODE: a variational bottleneck in front of the classifier.

Scheliga, Maeder and Seeland, PRECODE - A Generic Model Extension to Prevent
Deep Gradient Leakage, WACV 2022, arXiv 2108.04725. The representation h of an
image becomes

  (m, r) = encoder(h)    s = softplus(r)    z ~ N(m, s^2)    h' = decoder(z)

with two linear layers, the classifier reads h', and the client's loss has the
further term beta KL(N(m, s^2) | N(0, 1)), summed over the bottleneck's units
and averaged over the images. The softplus is that of the authors' code
(github.com/dAI-SY-Group/ConvolutionalVariationalBottleneck), which takes the
divergence in bits; here it is in nats.

The server trains this network and so matches with it, whether or not it knows
the defence; but it does not know the client's draw, and each step of an attack
uses another draw. What differs most are the gradients of the bottleneck and of
the classifier after it. The authors' later paper (Combining Variational
Modeling with Partial Gradient Perturbation to Prevent Deep Gradient Leakage,
2022, arXiv 2208.04767) leaves them out of the matching, which undoes the
defence. The input of a fully connected first layer can be read off whatever
comes after it: Balunovic et al., Bayesian Framework for Gradient Leakage,
ICLR 2022, arXiv 2111.04706; that is the attack `linear_layer`.
"""

import math

from flax import nnx
import jax
import jax.numpy as jnp

from giajax import keys
from giajax import types
from giajax.defenses import base
from giajax.models import base as models
from giajax.models import inspect
from giajax.models import layers


class Bottleneck(layers.Layer):
  """Encoder, random draw, decoder; adds its divergence to the pass's penalty.

  A pass without a key, as in evaluation, takes the mean.
  """

  def __init__(self, features: int, size: int, beta: float, *, rngs: nnx.Rngs):
    self.encoder = layers.Linear(features, 2 * size, rngs=rngs)
    self.decoder = layers.Linear(size, features, rngs=rngs)
    self.beta = beta

  def __call__(self, x: types.Array) -> types.Array:
    """Maps [B, features] to the same shape."""
    mean, raw = jnp.split(self.encoder(x), 2, axis=-1)
    deviation = jax.nn.softplus(raw)
    each = jnp.square(mean) + jnp.square(deviation) - 1
    divergence = (each / 2 - jnp.log(deviation)).sum(-1).mean()
    self.context.penalty += self.beta * divergence
    if self.context.key is not None:
      noise = keys.normal(self.context.draw(self), mean.shape)
      mean = mean + deviation * noise
    return self.decoder(mean)


def precode(*, size: int = 256, beta: float = 1e-3) -> base.Defense:
  """Puts a variational bottleneck in front of the network's classifier.

  A server that knows the defence leaves the bottleneck and the classifier out
  of the matching.

  Args:
    size: the number of units of the bottleneck.
    beta: the weight of the divergence in the loss, >= 0.

  Raises:
    ValueError: a size below 1 or a beta outside its range; `on_net` raises it
      for a network without a linear classifier.
  """
  if size < 1 or not 0 <= beta < math.inf:
    raise ValueError(
      'Expected size >= 1 and a finite beta >= 0; got '
      f'size={size}, beta={beta}; the authors take 256 and 1e-3'
    )

  def on_net(net):
    head = inspect.head(net)

    def insert(module, rngs):
      parts = {
        '.'.join(map(str, path)): part
        for path, part in nnx.iter_modules(module)
        if isinstance(part, layers.Linear)
      }
      if head not in parts:
        raise _no_place(net)
      features = parts[head].kernel.shape[0]
      parts[head].before = Bottleneck(features, size, beta, rngs=rngs)

    if net.edit is None:
      raise _no_place(net)
    return net.edit(insert)

  def on_belief(client):
    head = inspect.head(client.net)
    return base.without(client, lambda name: name.startswith(f'{head}.'))

  return base.Defense(on_net=on_net, on_belief=on_belief)


def _no_place(net: models.Net) -> ValueError:
  return ValueError(
    'Expected a network made of giajax layers and trained as a whole for '
    f'precode, which goes in front of its classifier; got {net.spec.name}; '
    'make its classifier of giajax.models.layers'
  )
