"""Term: a scalar belief about a candidate batch.

A Term is `(key, batch, aux, obs) -> [] float32`. `batch` is the candidate,
`aux` the Output of the forward pass that the matching loss already made, `obs`
what the attacker sees. Its weight is the entry of the same name in `hp`.
Factories take the network's Spec, because weights in the literature refer to
normalised images.
"""

from collections.abc import Callable

from giajax import types

Term = Callable[
  [types.Array, types.Batch, types.Output, types.Observation], types.Array
]
