"""How exactly an attacker's network multiplies.

Accelerators multiply float32 matrices fast by rounding their entries first,
unless they are asked not to. An attack matches gradients to many digits, so
that rounding can be what ends it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from giajax.models import base


class Precision(NamedTuple):
  """One way to multiply.

  Attributes:
    products: the precision of matrix products, as
      `jax.default_matmul_precision` takes it.
    on_net: what happens to the network that the attacker differentiates; None
      for nothing.
  """

  products: str
  on_net: Callable[[base.Net], base.Net] | None = None


def in_bfloat16(net: base.Net) -> base.Net:
  """Returns a network that computes in bfloat16 between float32 ends.

  Weights and images are rounded on their way in. Logits, statistics, layer
  inputs and the derivatives of all of these are float32 again, so that losses
  and distances are summed in float32. Each rounding is a relative error of up
  to 0.4 %.

  Args:
    net: a network of float32 numbers.
  """

  def apply(variables, x, *, train=False, taps=(), key=None):
    variables, x = _narrow((variables, x))
    return _wide(net.apply(variables, x, train=train, taps=taps, key=key))

  def probe(variables, x, offsets, *, train=False, taps=(), key=None):
    variables, x, offsets = _narrow((variables, x, offsets))
    output, sites, outputs = net.probe(  # pyrefly: ignore
      variables, x, offsets, train=train, taps=taps, key=key
    )
    sites = {
      path: site._replace(input=_wide(site.input))
      for path, site in sites.items()
    }
    return _wide(output), sites, _wide(outputs)

  def edit(change):
    return in_bfloat16(net.edit(change))  # pyrefly: ignore

  return net._replace(
    apply=apply, probe=net.probe and probe, edit=net.edit and edit
  )


def _narrow(tree: Any) -> Any:
  return _cast(tree, jnp.float32, jnp.bfloat16)


def _wide(tree: Any) -> Any:
  return _cast(tree, jnp.bfloat16, jnp.float32)


def _cast(tree, old, new):
  return jax.tree.map(
    lambda a: a.astype(new) if jnp.result_type(a) == old else a, tree
  )


PRECISIONS = {
  # Of the numbers themselves: float32, or float64 under JAX_ENABLE_X64.
  'full': Precision('highest'),
  # XLA may round entries to 10 bits where that is faster.
  'tensorfloat32': Precision('tensorfloat32'),
  # What leaves the network has 8 bits, which 10 hold exactly.
  'bfloat16': Precision('tensorfloat32', in_bfloat16),
}


def named(name: str) -> Precision:
  """Returns how the attacker multiplies.

  Args:
    name: a name in `PRECISIONS`.

  Raises:
    ValueError: products that are coarser than JAX's own numbers.
  """
  if name != 'full' and jnp.result_type(float) == jnp.float64:
    raise ValueError(
      "Expected precision='full' under JAX_ENABLE_X64, whose numbers no other "
      f'precision rounds; got precision={name!r}; unset one of them'
    )
  return PRECISIONS[name]
