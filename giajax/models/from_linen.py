"""A Net of a flax.linen module that a user brings.

A training pass differs from an inference pass where BatchNorm uses the batch's
statistics and dropout drops. In linen, each module decides how to tell the two
apart. The customary keywords are set here, and a module that takes none of them
but needs one is refused.
"""

from collections.abc import Mapping
import inspect
from typing import Any

from flax import errors
import jax
import jax.numpy as jnp

from giajax import keys
from giajax import types
from giajax.models import base
from giajax.models.parts import brought
from giajax.models.parts import modes

# The keywords of a module's `__call__`, and their values in a training pass.
_TRAINING = {
  'train': True,
  'training': True,
  'is_training': True,
  'deterministic': False,
  'use_running_average': False,
}


def from_linen(module: Any, spec: base.Spec, **init_kwargs: Any) -> base.Net:
  """Returns the Net of a flax.linen module.

  Its layers are found in the trace of a pass, see `parts.recognition`.

  Args:
    module: maps normalised images [B, H, W, C] to logits [B, K]. The pass is
      announced to it by those keywords of its `__call__` that are among
      `train`, `training`, `is_training`, `deterministic` and
      `use_running_average`.
    spec: the static facts about the network.
    **init_kwargs: passed to `module.init` and `module.apply`. One of the
      keywords above is overridden by the pass; this serves modules that take it
      without naming it, as `linen.Sequential` does.

  Raises:
    ValueError: the module keeps collections other than 'params' and
      'batch_stats', draws random numbers in an inference pass, or keeps
      'batch_stats' that a training pass does not move or an inference pass
      does: the two passes could not be told apart. `apply` raises it for a
      training pass that draws random numbers and was given no key.
  """
  named = set(_TRAINING) & {
    *inspect.signature(module.__call__).parameters,
    *init_kwargs,
  }

  def passed(train: bool) -> dict[str, Any]:
    """Returns the keywords of a pass."""
    return init_kwargs | {name: _TRAINING[name] == train for name in named}

  def collections(key):
    x = jnp.zeros((1, *spec.image_shape))
    return module.init(key, x, **(passed(False) | init_kwargs))

  def init(key):
    raw = collections(key)
    return types.Variables(raw['params'], raw.get('batch_stats', {}))

  def forward(params, stats, x, key, train):
    raw = {'params': params}
    if stats:
      raw['batch_stats'] = stats
    rngs = None
    if key is not None:
      # Linen draws from 'params' if no key has the name of the collection.
      rngs = {'dropout': key, 'params': keys.named(key, 'params')}
    out, state = module.apply(
      raw, x, mutable=['batch_stats'], rngs=rngs, **passed(train)
    )
    return out, state.get('batch_stats', stats)

  run = brought.run(forward, spec)
  _check_collections(jax.eval_shape(collections, jax.random.key(0)), spec)
  variables = jax.eval_shape(init, jax.random.key(0))
  x = jax.ShapeDtypeStruct((2, *spec.image_shape), jnp.float32)
  if _draws(run, variables, x, train=False):
    raise _one_mode(spec, named, 'draws random numbers in an inference pass')
  draws = _draws(run, variables, x, train=True)
  wrong = modes.fault(run, variables, spec)
  if wrong:
    raise _one_mode(spec, named, wrong)
  return brought.net(init, forward, spec, draws=draws)


def _check_collections(collections: Mapping[str, Any], spec: base.Spec) -> None:
  if not set(collections) <= {'params', 'batch_stats'}:
    raise ValueError(
      'Expected a module with params and batch_stats; got '
      f'{sorted(collections)} in {spec.name}; bring it by from_callable'
    )


def _draws(run, variables, x, *, train: bool) -> bool:
  """Returns whether a pass draws random numbers, without computing it."""
  try:
    jax.eval_shape(lambda v, x: run(v, x, train), variables, x)
  except errors.InvalidRngError:
    return True
  return False


def _one_mode(spec: base.Spec, named: set[str], why: str) -> ValueError:
  switches = (
    f'listens to {", ".join(sorted(named))} only'
    if named
    else ('takes none of them')
  )
  return ValueError(
    f'Expected a module whose passes are switched by {", ".join(_TRAINING)}; '
    f'got {spec.name}, which {switches} and {why}; give its __call__ one of '
    'these keywords and hand it to BatchNorm and Dropout'
  )
