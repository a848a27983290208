"""Tests of passes of a probe through a network."""

import handmade
import jax
import jax.numpy as jnp
import numpy as np

from giajax import types
from giajax.clients import fedsgd
from giajax.tasks import classification
from giajax.verify.parts import passes


def test_an_image_by_itself_has_the_same_gradient():
  weights, probe = handmade.fresh(), handmade.probe()
  both = handmade.view().examples(weights, probe)
  two = handmade.view().examples(
    weights, jax.tree.map(lambda leaf: leaf[2:4], probe)
  )
  np.testing.assert_allclose(
    two.norms['fc.kernel'], both.norms['fc.kernel'][2:4], rtol=1e-4
  )


def test_cotangents_and_inputs_make_the_gradient():
  weights, probe = handmade.fresh(), handmade.probe()
  examples = handmade.view().examples(weights, probe)
  task = classification.classification(handmade.K)
  client = fedsgd.fedsgd(handmade.view().net, task)
  message = types.ServerMessage(weights)
  sent, _ = client.update(handmade.KEY, message, probe)
  own = examples.inputs.T @ examples.cotangents / handmade.B
  np.testing.assert_allclose(own, sent.delta['hidden']['kernel'], atol=1e-6)


def test_the_last_result_is_kept():
  calls = []
  fn = passes.remember(lambda *arguments: calls.append(arguments) or len(calls))
  a, b = jnp.zeros(2), jnp.ones(2)
  assert [fn(a, b), fn(a, b), fn(b, a), fn(a, b)] == [1, 1, 2, 3]
