"""Tests of rows whose halves mirror each other."""

import handmade
import jax
import numpy as np

from giajax import trees
from giajax import types
from giajax.verify import sign_split


def _with_front(kernel):
  """Returns an honest message with one more layer in front."""
  variables = handmade.received().variables
  leaves = trees.named_leaves(variables.params)
  params = trees.nested({**leaves, 'front.kernel': kernel})
  return types.ServerMessage(variables._replace(params=params))


def test_a_layer_of_few_units_is_no_evidence():
  verify = sign_split.sign_split(handmade.view())
  for seed in range(30):
    kernel = np.random.default_rng(seed).normal(size=(16, 2))
    message = _with_front(kernel.astype(np.float32))
    verdict = verify(handmade.KEY, message, handmade.probe())
    assert verdict.ran and not verdict.flagged, verdict.evidence


def test_a_layer_of_mirrored_rows_is():
  verify = sign_split.sign_split(handmade.view())
  kernel = handmade.mirrored(jax.ShapeDtypeStruct((16, 8), np.float32))
  message = _with_front(kernel.astype(np.float32))
  verdict = verify(handmade.KEY, message, handmade.probe())
  assert verdict.flagged and 'front' in verdict.evidence
