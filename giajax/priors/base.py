"""Term: a scalar belief about a candidate batch.

A term's `value` is `(key, batch, aux, obs) -> [] float32`: `batch` is the
candidate, `aux` the Output of the pass that the matching loss already made,
with the activations that the term asked for, `obs` what the attacker sees. Its
weight is the entry of the same name in `hp`. Factories take the attacker's
picture of the world, because weights in the literature refer to images as the
network normalises them.
"""

from collections.abc import Callable
from typing import NamedTuple

from giajax import types


class Term(NamedTuple):
  """A prior.

  Attributes:
    value: `(key, batch, aux, obs) -> [] float32`.
    taps: the activations that it reads in `aux.taps`, as in `Net.apply`.
    needs: the grants (`threat.GRANTS`) that it uses.
    group: it compares restarts, over the vmapped axis `world.RESTARTS`.
  """

  value: Callable[
    [types.Array, types.Batch, types.Output, types.Observation], types.Array
  ]
  taps: tuple[str, ...] = ()
  needs: frozenset[str] = frozenset()
  group: bool = False
