"""Which biases a detector adds to its class scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import trees
from giajax.models import base

_SAME = 1e-3  # relative


def names(net: base.Net) -> tuple[str, ...]:
  """Returns the trained biases that are added to the scores, class by class.

  That is found out by one derivative: of the sum of all scores, weighted by
  class, in the bias of a class. It is a multiple of that class's weight.

  Args:
    net: a network whose output has 'scores' [..., K], or more classes.

  Raises:
    ValueError: another network, or one without such a bias.
  """
  found = _names(net.apply, net.init, net.spec.image_shape)
  if not found:
    raise ValueError(
      'Expected a detector whose class scores have a trained bias; got '
      f'{net.spec.name}; train it, or grant the labels'
    )
  return found


@functools.lru_cache(maxsize=4)
def _names(apply, init, image_shape) -> tuple[str, ...]:
  variables = init(jax.random.key(0))
  x = jnp.full((1, *image_shape), 0.5)

  def output(params):
    return apply(variables._replace(params=params), x).out

  shapes = jax.eval_shape(output, variables.params)
  if not isinstance(shapes, dict) or 'scores' not in shapes:
    return ()
  weights = keys.normal(jax.random.key(1), shapes['scores'].shape[-1:])
  slopes = jax.grad(lambda params: jnp.sum(output(params)['scores'] @ weights))(
    variables.params
  )
  wanted = np.asarray(weights)
  return tuple(
    name
    for name, slope in trees.named_leaves(slopes).items()
    if name.endswith('bias') and _is_multiple(np.asarray(slope), wanted)
  )


def _is_multiple(slope: np.ndarray, weights: np.ndarray) -> bool:
  if slope.shape != weights.shape:
    return False
  factor = float(slope @ weights / (weights @ weights))
  close = np.allclose(slope, factor * weights, atol=_SAME * abs(factor))
  return factor > 0.5 and close
