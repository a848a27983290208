"""R-GAP: one image, solved for layer by layer from the last to the first.

Zhu and Blaschko, R-GAP: Recursive Gradient Attack on Privacy, ICLR 2021, arXiv
2010.07733. Of a layer z = W x + b, let z be known and so k, the loss's
derivative to z. Then its input x solves two linear systems,

  W x = z - b            as many weight constraints as z has entries
  dL/dW = k x            as many gradient constraints as W has weights

together by least squares. The activation before it, inverted at x, gives the
z of the layer before it, and W' k with the activation's slopes its k. ReLU
hides the z below zero: their weight constraints are left out.

Rank analysis: a layer is determined by as many independent constraints as x
has entries. All channels of x share the matrix of the gradient constraints, so
that a convolution's are independent up to the pixels of one channel times
their number, and strides or few channels leave too few of the others. Of many
solutions the shortest is taken. It seldom meets what the layers before it say,
which leaves a residual, and residuals are the score; only the first layer's
own lack is silent.

The recursion starts at the softmax: k of the logits is p - y, and the last
layer's gradient is its product with x. With a bias, k is the bias gradient.
Without, both are known up to a scale t, and log p_j = t w_j x + const of the
classes j that are not the label gives it, by least squares again. (The authors
have one logit under a logistic loss, and a scale with two solutions.)

Assumed known: the model, and that the batch has one image. The label comes
from the last layer (`labels.idlg`). The systems are solved by conjugate
gradients on the normal equations, which never forms a matrix.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import labels
from giajax.models import base as models
from giajax.models import inspect
from giajax.ops import convolution
from giajax.ops import geometries

_TINY = 1e-30
# Relative to the start; what float32 leaves of the normal equations.
_TOLERANCE = 1e-7
_ZERO = 1e-5  # in units of a layer's root mean square


class System(NamedTuple):
  """The constraints on the input of one layer.

  Attributes:
    apply: `x -> (z, gradient)`, linear.
    transpose: its transpose.
    wanted: what `apply` should give.
  """

  apply: Callable[..., tuple[types.Array, types.Array]]
  transpose: Callable[..., types.Array]
  wanted: tuple[types.Array, types.Array]


def r_gap(world: worlds.World, *, iterations: int = 2000) -> base.Attack:
  """The image by linear systems, layer after layer.

  Args:
    world: the attacker's picture of the system, with batch_size 1, a client
      that takes one step, and a network of convolutions and linear layers one
      after the other, with ReLU or LeakyReLU between; the last is linear, with
      a bias or for at least three classes.
    iterations: at most, a layer.

  Raises:
    ValueError: a batch of more than one image, several local steps, another
      network, parameters that the client does not train, or iterations < 1.
  """
  net, client = world.net, world.client
  if iterations < 1:
    raise ValueError(
      f'Expected iterations >= 1; got iterations={iterations}; raise it'
    )
  if world.batch_size != 1:
    raise ValueError(
      f'Expected batch_size 1 for r_gap; got batch_size={world.batch_size}; '
      'larger batches mix in its constraints'
    )
  if client.local_steps != 1:
    raise ValueError(
      'Expected a client of one local step for r_gap; got '
      f'local_steps={client.local_steps}; its gradients belong to other weights'
    )
  *links, last = inspect.chain(net)
  head = inspect.head(net)
  frozen = {f'{link.path}.kernel' for link in links} - inspect.leaf_names(net)
  if frozen:
    raise ValueError(
      'Expected an update that covers all kernels for r_gap; got one without '
      f'{", ".join(sorted(frozen))}; train them all'
    )
  if last.path != head or not (
    inspect.has_bias(net, head) or net.spec.num_classes > 2
  ):
    raise ValueError(
      'Expected a last layer that is linear, with a bias or for at least three '
      f'classes; got {net.spec.name}, which ends with {last.path!r}; use cnn6'
    )

  def read(obs):
    with jax.default_matmul_precision('highest'):
      return _read(obs)

  def _read(obs):
    held = trees.named_leaves(models.whole(obs.message.variables))
    sent = trees.named_leaves(client.as_gradient(obs.update.delta))
    kernel = held[f'{head}.kernel']
    x, k = _start(
      kernel,
      sent[f'{head}.kernel'],
      sent.get(f'{head}.bias'),
      obs.side['labels'][0],
    )
    reached = jnp.vdot(k, k) > 0
    cotangent, score = k @ kernel.T, jnp.float32(0)
    for link in reversed(links):
      x, cotangent = _as_output(x, link), _as_output(cotangent, link)
      kernel = held[f'{link.path}.kernel']
      active = _active(x, link.slope)
      k = jnp.where(active, cotangent, link.slope * cotangent)
      faces = _faces(link, kernel)
      bias = held.get(f'{link.path}.bias', 0.0)
      gradient = sent[f'{link.path}.kernel']
      system = _system(faces, link.slope, kernel, bias, gradient, x, k)
      x, residual = _solve(system, link.site.input, iterations)
      cotangent, score = faces.to_input(k, kernel), score + residual
    h, w, c = net.spec.image_shape
    x = jnp.moveaxis(x.reshape(1, c, h, w), 1, -1) if x.ndim == 2 else x
    x = x * jnp.asarray(net.spec.std) + jnp.asarray(net.spec.mean)
    batch = types.Batch(jnp.clip(x, 0.0, 1.0), obs.side['labels'])
    return types.Reconstruction(batch, reached[None], score)

  attack = base.closed_form(read, needs={'model', 'batch_size', 'labels'})
  return compose.with_labels(attack, labels.idlg(world))


def _start(kernel, gradient, bias, label):
  """Returns the last layer's input [1, d] and k [1, K].

  Args:
    kernel: [d, K] of the last layer.
    gradient: [d, K], k times the input.
    bias: [K], k itself, or None.
    label: [] the class.
  """
  if bias is not None:
    x = gradient @ bias / jnp.maximum(jnp.vdot(bias, bias), _TINY)
    return x[None], bias[None]
  # k is negative at the label alone.
  x = -gradient[:, label]
  x = x / trees.safe_sqrt(jnp.vdot(x, x), _TINY)
  k = x @ gradient
  p = jnp.where(jnp.arange(k.size) == label, 0.0, jnp.maximum(k, 0.0))
  weights = p / jnp.maximum(p.sum(), _TINY)
  logits = x @ kernel
  centred = logits - jnp.vdot(weights, logits)
  spread = jnp.maximum(jnp.vdot(weights, centred**2), _TINY)
  # Those that underflowed have no weight.
  logs = jnp.log(jnp.maximum(p, _TINY))
  t = jnp.vdot(weights, centred * logs) / spread
  return t * x[None], (k / jnp.where(t == 0, 1.0, t))[None]


def _as_output(x, link):
  """Brings what a linear layer read to the shape that a convolution gave."""
  if x.shape == link.output:
    return x
  _, h, w, c = link.output
  return jnp.moveaxis(x.reshape(1, c, h, w), 1, -1)


def _active(x, slope):
  """Says where an activation was given more than zero.

  What ReLU made zero comes back as rounding errors of either sign.
  """
  least = 0.0 if slope else _ZERO * jnp.sqrt(jnp.mean(jnp.square(x)))
  return x > least


def _faces(link, kernel):
  """Returns a layer and its transposes."""
  site = link.site
  if site.kind == 'conv':
    shape = site.input.shape
    return convolution.faces(shape, kernel.shape, site.geometry, 'lax')
  return geometries.Faces(
    output=lambda x, kernel: x @ kernel,
    to_input=lambda y, kernel: y @ kernel.T,
    to_kernel=lambda x, y: x.T @ y,
  )


def _system(faces, slope, kernel, bias, gradient, x, k):
  """Returns the constraints on a layer's input.

  Args:
    faces: of the layer.
    slope: of the activation behind it, below zero.
    kernel: of the layer, which maps its input like `k` does, but for scale.
    bias: of the layer, or 0.
    gradient: of the loss to the kernel.
    x: what the activation gave.
    k: the loss's derivative to what it was given.
  """
  active = _active(x, slope)
  known = jnp.ones_like(x) if slope else active.astype(x.dtype)
  z = jnp.where(active, x, x / slope) if slope else x
  # Both kinds of rows as long: the better determined they are together.
  scale = jnp.sqrt(
    jnp.vdot(kernel, kernel) / jnp.maximum(jnp.vdot(k, k), _TINY)
  )
  k = scale * k

  def apply(x):
    return known * faces.output(x, kernel), faces.to_kernel(x, k)

  def transpose(rows):
    z, gradient = rows
    return faces.to_input(known * z, kernel) + faces.to_input(k, gradient)

  return System(apply, transpose, (known * (z - bias), scale * gradient))


def _solve(system, like, iterations):
  """Returns the least-squares solution and its relative residual, squared.

  Hestenes and Stiefel, Methods of Conjugate Gradients for Solving Linear
  Systems, 1952, section 10: on the normal equations, with the residual of the
  system itself carried along. It starts at zero, so that of many solutions it
  is the shortest.

  Args:
    system: the constraints.
    like: of the solution's shape.
    iterations: at most.
  """
  first = system.transpose(system.wanted)
  start = jnp.vdot(first, first)

  def open_(carry):
    i, *_, squared = carry
    return (i < iterations) & (squared > _TOLERANCE**2 * start)

  def step(carry):
    i, x, residual, direction, squared = carry
    change = system.apply(direction)
    length = squared / jnp.maximum(trees.squared_norm(change), _TINY)
    residual = jax.tree.map(lambda r, c: r - length * c, residual, change)
    descent = system.transpose(residual)
    now = jnp.vdot(descent, descent)
    ahead = descent + now / squared * direction
    return i + 1, x + length * direction, residual, ahead, now

  x = jnp.zeros(like.shape, like.dtype)
  carry = (jnp.int32(0), x, system.wanted, first, start)
  _, x, residual, _, _ = jax.lax.while_loop(open_, step, carry)
  wanted = jnp.maximum(trees.squared_norm(system.wanted), _TINY)
  return x, trees.squared_norm(residual) / wanted
