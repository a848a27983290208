"""A Net of a flax.linen module that a user brings."""

from typing import Any

import jax
import jax.numpy as jnp

from giajax import types
from giajax.models import base


def from_linen(module: Any, spec: base.Spec, **init_kwargs: Any) -> base.Net:
  """Returns the Net of a flax.linen module.

  Args:
    module: maps normalised images [B, H, W, C] to logits; if it keeps
      'batch_stats', its `__call__` takes `train`.
    spec: static facts.
    **init_kwargs: passed to `module.init` and `module.apply`, as in
      `train=False`; `train` is overridden by the pass.

  Raises:
    ValueError: the module keeps 'batch_stats' but `train` is no keyword, so
      that a training pass could not be told from an inference pass; or it
      keeps further collections.
  """

  def init(key):
    x = jnp.zeros((1, *spec.image_shape))
    raw = module.init(key, x, **init_kwargs)
    return types.Variables(raw['params'], raw.get('batch_stats', {}))

  def apply(variables, x, *, train=False, taps=(), key=None):
    base.no_taps(taps, spec)
    kwargs = dict(init_kwargs)
    if 'train' in kwargs:
      kwargs['train'] = train
    if train and key is not None:
      kwargs['rngs'] = {'dropout': key}
    raw = {'params': base.whole(variables)}
    if variables.stats:
      raw['batch_stats'] = variables.stats
    out, state = module.apply(
      raw, base.normalise(x, spec), mutable=['batch_stats'], **kwargs
    )
    return types.Output(out, state.get('batch_stats', variables.stats), {})

  shapes = jax.eval_shape(
    lambda key: module.init(
      key, jnp.zeros((1, *spec.image_shape)), **init_kwargs
    ),
    jax.random.key(0),
  )
  if not set(shapes) <= {'params', 'batch_stats'}:
    raise ValueError(
      f'Expected a module with params and batch_stats; got {sorted(shapes)} in '
      f'{spec.name}; bring it by from_callable'
    )
  if 'batch_stats' in shapes and 'train' not in init_kwargs:
    raise ValueError(
      f'Expected the keyword train for a module with batch_stats; got '
      f'{sorted(init_kwargs)} for {spec.name}; pass train=False'
    )
  return base.Net(init, apply, None, spec)
