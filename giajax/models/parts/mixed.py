"""What the layers of a flax.nnx module read and gave, whoever wrote them.

Layers of `models.layers` record it in their context, and those of flax are
found in the trace of the pass.
"""

from collections.abc import Callable
from typing import Any

from flax import nnx

from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import layers
from giajax.models.parts import traced
from giajax.ops import moments


def probe(
  functions: Any,
  call: Callable[[types.Array], Callable[[Any], types.Array]],
  variables: types.Variables,
  x: types.Array,
  context: layers.Context,
  name: str,
) -> tuple[types.Output, dict[str, moments.Site], dict[str, types.Array]]:
  """Returns what `ProbeFn` does.

  Args:
    functions: the module as pure functions, a `from_nnx.Pure`.
    call: `(x) -> (module) -> logits`.
    variables: the variables.
    x: [B, H, W, C] normalised images.
    context: what the pass is asked for.
    name: the name of the network, for messages.
  """
  taps = _own_taps(functions.abstract, context.taps)
  sites: dict[str, moments.Site] = {}

  def fn(params, x, rest):
    stats, key, offsets = rest
    inner = layers.Context(
      context.train, context.lowering, taps, offsets, key, traced=True
    )
    leaves = trees.named_leaves(params)
    split = variables._replace(
      params=trees.like(variables.params, leaves),
      frozen=trees.like(variables.frozen, leaves),
      stats=stats,
    )
    logits, stats = functions.run(split, inner, call(x))
    sites.update(inner.sites)
    read = {path: site.input for path, site in inner.sites.items()}
    output = types.Output(logits, stats, inner.tapped, inner.penalty)
    return output, read, inner.outputs

  found = traced.follow(
    fn,
    base.whole(variables),
    x,
    (variables.stats, context.key, context.offsets),
    context.offsets,
    lowering=context.lowering,
    known=functions.own,
  )
  output, read, outputs = found.result
  activations = traced.tapped({**found.taps, **output.taps}, context.taps, name)
  sites = {path: s._replace(input=read[path]) for path, s in sites.items()}
  places = {**found.places, **found.made[2]}
  both = {**found.sites, **sites}
  return (
    output._replace(taps=activations),
    {path: both[path] for path in sorted(both, key=places.__getitem__)},
    {**found.outputs, **outputs},
  )


def _own_taps(module, taps) -> tuple[str, ...]:
  """Returns the taps that layers of giajax answer."""
  own = {
    '.'.join(map(str, path))
    for path, layer in nnx.iter_modules(module)
    if isinstance(layer, layers.Layer)
  }
  return tuple(t for t in taps if {t, t.removesuffix('.input')} & own)
