"""Networks of other libraries, with the names and the layouts of giajax.

The layers of a network that somebody else wrote are found in its trace. Where
their parameters are called and lie otherwise (`weight` [P, C] in Equinox, `w`
in Haiku), gradients are compared all the same; but attacks, label rules and
checks that read single layers look for

  kernel  [kh, kw, C / groups, P] of a convolution, [C, P] of a linear layer
  bias    [P]
  scale   [C] of a normalisation
  value   a parameter by itself, as it is

under the path of the layer, as flax's own layers have them.
"""

from collections.abc import Callable
import math
from typing import NamedTuple

from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import inspect
from giajax.ops import moments


class Relaid(NamedTuple):
  """A network in giajax's layout.

  Attributes:
    net: the network.
    pack: maps variables of the network that was given to those of `net`.
    unpack: is its inverse.
  """

  net: base.Net
  pack: Callable[[types.Variables], types.Variables]
  unpack: Callable[[types.Variables], types.Variables]


class _Leaf(NamedTuple):
  """Where a parameter goes."""

  name: str
  there: Callable[[types.Array], types.Array]
  back: Callable[[types.Array], types.Array]
  formed: bool  # whether offsets are added to it, not to its layer


def relaid(net: base.Net) -> Relaid:
  """Returns a network whose parameters have giajax's names and layouts.

  Args:
    net: a network that can tell its layers, trained as a whole.

  Raises:
    ValueError: it cannot, or parts of it are frozen.
  """
  before = inspect.abstract_variables(net)
  if net.probe is None or before.frozen:
    raise ValueError(
      'Expected a network with layers, trained as a whole; got '
      f'{net.spec.name}; take the subset of what is relaid'
    )
  shapes = trees.named_leaves(before.params)
  rows = _rows(net, shapes)

  def pack(variables):
    leaves = trees.named_leaves(variables.params)
    moved = {row.name: row.there(leaves[n]) for n, row in rows.items()}
    return variables._replace(params=trees.nested(moved))

  def unpack(variables):
    leaves = trees.named_leaves(base.whole(variables))
    moved = {n: row.back(leaves[row.name]) for n, row in rows.items()}
    return types.Variables(trees.like(before.params, moved), variables.stats)

  def apply(variables, x, **kwargs):
    return net.apply(unpack(variables), x, **kwargs)

  def probe(variables, x, offsets, **kwargs):
    given = None if offsets is None else _theirs(rows, offsets)
    output, sites, outputs = net.probe(  # pyrefly: ignore
      unpack(variables), x, given, **kwargs
    )
    sites = {
      path: site._replace(
        names={leaf: rows[name].name for leaf, name in site.names.items()},
        layout=None,
      )
      for path, site in sites.items()
    }
    return output, sites, _ours(rows, outputs)

  own = net._replace(
    init=lambda key: pack(net.init(key)), apply=apply, probe=probe, edit=None
  )
  return Relaid(own, pack, unpack)


def _rows(net, shapes) -> dict[str, _Leaf]:
  """Returns where each parameter goes, by its name."""
  rows = {}
  for path, site in inspect.traced_sites(net).items():
    names = site.names or {
      leaf: f'{path}.{leaf}'
      for leaf in ('kernel', 'bias', 'scale', 'value')
      if f'{path}.{leaf}' in shapes
    }
    for leaf, name in names.items():
      there, back = _moves(site, leaf, shapes[name])
      ours = name if site.kind == 'other' else f'{path}.{leaf}'
      formed = bool(site.names) and leaf != 'kernel'
      rows[name] = _Leaf(ours, there, back, formed)
  return rows


def _moves(site, leaf, shape):
  """Returns the functions to giajax's layout of a parameter, and back."""
  if leaf == 'kernel' and site.layout is not None:
    return site.layout, lambda a: moments.relaid_back(
      site.layout, a, shape.shape
    )
  if leaf in ('bias', 'scale'):
    flat = (math.prod(shape.shape),)
    return lambda a: a.reshape(flat), lambda a: a.reshape(shape.shape)
  return lambda a: a, lambda a: a


def _ours(rows, outputs):
  formed = {n: row for n, row in rows.items() if row.formed}
  layers = {n: y for n, y in outputs.items() if n not in formed}
  return layers | {row.name: row.there(outputs[n]) for n, row in formed.items()}


def _theirs(rows, offsets):
  formed = {row.name: (n, row) for n, row in rows.items() if row.formed}
  layers = {n: y for n, y in offsets.items() if n not in formed}
  return layers | {
    n: row.back(offsets[name]) for name, (n, row) in formed.items()
  }
