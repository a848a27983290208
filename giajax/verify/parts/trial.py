"""Trying the received weights on the client's probe, and judging the result.

`of_probe` and `of_reader` make whole verifiers from a function that judges what
the images of the probe would give away.
"""

from collections.abc import Callable
import math

import numpy as np

from giajax import types
from giajax.verify import base
from giajax.verify.parts import passes
from giajax.verify.parts import weights


def examples(
  view: base.View, variables: types.Variables | None, probe: types.Batch
) -> passes.Examples | base.Verdict:
  """Returns what the probe's images would give away, or why that is unknown.

  Numbers that overflow or are undefined are an objection by themselves, because
  no comparison with a threshold could distinguish them from small ones.

  Args:
    view: what the client knows.
    variables: the variables of `view.net`, from `weights.agreed_variables`;
      None if weights are missing.
    probe: the labelled images of the client.
  """
  if variables is None:
    return base.OTHER_WEIGHTS
  results = view.examples(variables, probe)
  parts = {f'the gradient of {n}': g for n, g in results.norms.items()}
  layer = {n: a for n, a in results._asdict().items() if n != 'norms'}
  parts |= {f"the layer's {n}": a for n, a in layer.items()}
  for name, numbers in parts.items():
    if not np.isfinite(np.asarray(numbers)).all():
      text = f'On the probe, {name} is not finite.'
      return base.Verdict(math.inf, True, text)
  return results


def of_probe(
  view: base.View, judge: Callable[[passes.Examples], base.Verdict]
) -> base.Verifier:
  """Returns the verifier that tries the model on the probe.

  Args:
    view: what the client knows.
    judge: a function that returns the verdict on what the images give away.
  """

  def verify(
    key: types.Array, message: types.ServerMessage, probe: types.Batch
  ) -> base.Verdict:
    del key
    variables = weights.agreed_variables(view, message)
    results = examples(view, variables, probe)
    return results if isinstance(results, base.Verdict) else judge(results)

  return verify


def of_reader(
  view: base.View, judge: Callable[[str, passes.Examples], base.Verdict]
) -> base.Verifier:
  """Returns the verifier that tries the model and looks at its `reader`.

  Args:
    view: what the client knows.
    judge: a function that returns the verdict on what the images give away at
      that layer, whose path is its first argument.
  """
  path = passes.reader(view.net)
  if path is None:
    return lambda key, message, probe: base.NO_READER
  return of_probe(view, lambda results: judge(path, results))
