"""R-GAP: one image, solved for layer by layer from the last to the first.

Zhu and Blaschko, R-GAP: Recursive Gradient Attack on Privacy, ICLR 2021, arXiv
2010.07733. For a layer z = W x + b, let z and k, the derivative of the loss
with respect to z, be known. Then its input x solves two linear systems,

  (1)  W x = z - b       as many weight constraints as z has entries
  (2)  dL/dW = k x       as many gradient constraints as W has weights

together by least squares. The activation before it, inverted at x, gives the
z of the layer before it, and W' k with the activation's slopes its k. ReLU
hides the z below zero: their weight constraints are left out.

Rank analysis: a layer is determined by as many independent constraints as x
has entries. All channels of x share the matrix of the gradient constraints, so
at most as many of a convolution's gradient constraints are independent as one
channel has pixels, times the number of channels; strides or few channels leave
too few of the weight constraints. If there are many solutions, the shortest is
taken. It seldom agrees with the layers before it, which leaves a residual, and
residuals are the score. Only a lack of constraints in the first layer leaves no
residual.

The recursion starts at the softmax: k of the logits is p - y, and the last
layer's gradient is its product with x. With a bias, k is the bias gradient.
Without, both are known up to a scale t, and

  (3)  log p_j = t w_j x + const

for the classes j that are not the label gives it, by least squares again. (The
authors have one logit under a logistic loss, and a scale with two solutions.)

Assumed known: the model, and that the batch has one image. The label comes
from the last layer (`labels.idlg`). The systems are solved by conjugate
gradients on the normal equations, which never forms a matrix.

Differs from the authors: several classes under a softmax, as above.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import image_vectors
from giajax.attacks.parts import labels
from giajax.attacks.parts import least_squares
from giajax.models import base as models
from giajax.models import inspect
from giajax.ops import convolution
from giajax.ops import geometries

_TINY = 1e-30
_ZERO = 1e-5  # in units of a layer's root mean square


class AffineLayer(NamedTuple):
  """A layer z = W x + b and what is known about it.

  Attributes:
    faces: x -> W x, and its transposes.
    slope: the slope of the activation after it, below zero.
    kernel: W.
    bias: b, or 0.
    gradient: dL/dW.
  """

  faces: geometries.Faces
  slope: float
  kernel: types.Array
  bias: types.Array | float
  gradient: types.Array


def r_gap(world: worlds.World, *, iterations: int = 2000) -> base.Attack:
  """One image, solved for layer by layer by linear systems.

  Args:
    world: the attacker's picture of the system, with batch_size 1, a client
      that takes one step, and a network of convolutions and linear layers one
      after the other, with ReLU or LeakyReLU between; the last is linear, with
      a bias or for at least three classes.
    iterations: the largest number of iterations per layer.

  Raises:
    ValueError: a batch of more than one image, several local steps, another
      network, parameters that the client does not train, or iterations < 1.
  """
  require.whole(iterations, 'iterations', advice='raise it')
  require.exclusive_classes(world, 'r_gap')
  require.batch_of_one(
    world, 'r_gap', advice='lower it: larger ones mix in its constraints'
  )
  require.one_step(
    world.client, 'r_gap', advice='use fedsgd: later ones have other weights'
  )
  links = inspect.chain(world.net)
  _require_ends(world.net, links)

  order = None
  if links[0].site.kind == 'linear':
    order = inspect.pixel_order(world.net, links[0].path)
  read = functools.partial(_read, world, links, order, iterations)
  attack = base.closed_form(read, needs={'model', 'batch_size', 'labels'})
  return compose.with_labels(attack, labels.idlg(world))


def _require_ends(net: models.Net, links: Sequence[inspect.Link]) -> None:
  """Requires that all kernels are trained, and a last layer to start from."""
  names, last = inspect.leaf_names(net), links[-1].path
  frozen = {f'{link.path}.kernel' for link in links} - names
  if frozen:
    raise ValueError(
      'Expected an update that covers all kernels for r_gap; got one without '
      f'{", ".join(sorted(frozen))}; train them all'
    )
  enough = inspect.has_bias(net, last) or net.spec.num_classes > 2
  if last != inspect.classifier(net) or not enough:
    raise ValueError(
      'Expected a last layer that is linear, with a bias or for at least three '
      f'classes; got {net.spec.name}, which ends with {last!r}; use cnn6'
    )


def _read(world, links, order, iterations, obs):
  """Solves for the input of each layer, from the last to the first."""
  with jax.default_matmul_precision('highest'):
    weights = trees.named_leaves(models.whole(obs.message.variables))
    gradients = trees.named_leaves(world.client.as_gradient(obs.update.delta))
    *links, last = links
    label, kernel = obs.side['labels'][0], weights[f'{last.path}.kernel']
    x, k = _start(
      kernel,
      gradients[f'{last.path}.kernel'],
      gradients.get(f'{last.path}.bias'),
      label,
    )
    reached = jnp.vdot(k, k) > 0
    cotangent, score = k @ kernel.T, jnp.float32(0)
    for link in reversed(links):
      x, cotangent, residual = _step(
        link, weights, gradients, x, cotangent, iterations
      )
      score = score + residual
    spec = world.net.spec
    if x.ndim == 2:
      x = image_vectors.to_pixels(x, spec, order)
    else:
      x = x * jnp.asarray(spec.std) + jnp.asarray(spec.mean)
    batch = types.Batch(jnp.clip(x, 0.0, 1.0), obs.side['labels'])
    return types.Reconstruction(batch, reached[None], score)


def _step(link, weights, gradients, x, cotangent, iterations):
  """Goes from the output of the activation after a layer to the layer's input.

  Args:
    link: the layer.
    weights: the weights, by dotted name.
    gradients: the gradients of the weights, by dotted name.
    x: the output of the activation.
    cotangent: the derivative of the loss with respect to it.
    iterations: see `r_gap`.

  Returns:
    The layer's input, the loss's derivative to it, and the residual.
  """
  layer = _layer(link, weights, gradients)
  x, cotangent = _as_output(x, link), _as_output(cotangent, link)
  k = jnp.where(_active(x, link.slope), cotangent, link.slope * cotangent)
  system = _system(layer, x, k)
  x, residual = least_squares.solve(system, iterations)
  return x, layer.faces.to_input(k, layer.kernel), residual


def _start(kernel, gradient, bias, label):
  """Returns the last layer's input [1, d] and k [1, K], by (2) and (3).

  Args:
    kernel: the kernel of the last layer, [d, K].
    gradient: its gradient, k times the input, [d, K].
    bias: the gradient of the bias, k itself, [K], or None.
    label: the class, [].
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
  # (3), weighted by p.
  logits = x @ kernel
  centred = logits - jnp.vdot(weights, logits)
  spread = jnp.maximum(jnp.vdot(weights, centred**2), _TINY)
  # Classes whose probability underflowed have no weight.
  logs = jnp.log(jnp.maximum(p, _TINY))
  t = jnp.vdot(weights, centred * logs) / spread
  return t * x[None], (k / jnp.where(t == 0, 1.0, t))[None]


def _as_output(x, link):
  """Brings what a linear layer read to the shape that a convolution gave."""
  if x.shape == link.output:
    return x
  return image_vectors.to_image(x, link.output[1:])


def _active(x, slope):
  """Says where an activation was given more than zero.

  What ReLU made zero comes back as rounding errors of either sign.
  """
  least = 0.0 if slope else _ZERO * jnp.sqrt(jnp.mean(jnp.square(x)))
  return x > least


def _layer(link, weights, gradients) -> AffineLayer:
  """Returns a layer with its weights and their gradient, by dotted name."""
  site, kernel = link.site, weights[f'{link.path}.kernel']
  if site.kind == 'conv':
    shape = site.input.shape
    faces = convolution.faces(shape, kernel.shape, site.geometry, 'lax')
  else:
    faces = geometries.Faces(
      output=lambda x, kernel: x @ kernel,
      to_input=lambda y, kernel: y @ kernel.T,
      to_kernel=lambda x, y: x.T @ y,
    )
  bias = weights.get(f'{link.path}.bias', 0.0)
  gradient = gradients[f'{link.path}.kernel']
  return AffineLayer(faces, link.slope, kernel, bias, gradient)


def _system(layer: AffineLayer, x, k) -> least_squares.LinearSystem:
  """Returns the constraints on a layer's input.

  Args:
    layer: the layer.
    x: the output of the activation after it.
    k: the derivative of the loss with respect to z.
  """
  faces, slope, kernel, bias, gradient = layer
  active = _active(x, slope)
  # Where z is known.
  mask = jnp.ones_like(x) if slope else active.astype(x.dtype)
  z = jnp.where(active, x, x / slope) if slope else x
  # Rows of (1) and (2) get one length: they determine x better together.
  scale = jnp.sqrt(
    jnp.vdot(kernel, kernel) / jnp.maximum(jnp.vdot(k, k), _TINY)
  )
  k = scale * k

  def apply(x):
    return mask * faces.output(x, kernel), faces.to_kernel(x, k)

  def transpose(rows):
    z, gradient = rows
    return faces.to_input(mask * z, kernel) + faces.to_input(k, gradient)

  return least_squares.LinearSystem(
    apply, transpose, (mask * (z - bias), scale * gradient)
  )
