"""Tests that the streams of initial weights are those of flax, but fast."""

from flax import nnx
import jax
from jax._src.interpreters import partial_eval
import numpy as np

from giajax.models.parts import counters


def _drawn(rngs):
  """Returns keys of streams with and without a name of their own."""
  return [rngs.params(), rngs.dropout(), rngs(), rngs.params()]


def test_the_keys_are_those_of_flax():
  seeds = dict(params=jax.random.key(3), default=jax.random.key(4))
  ours, theirs = counters.rngs(**seeds), nnx.Rngs(**seeds)
  ours, theirs = [
    [jax.random.key_data(k) for k in (*_drawn(r), *_drawn(r.fork()))]
    for r in (ours, theirs)
  ]
  np.testing.assert_array_equal(ours, theirs)
  assert len({key.tobytes() for key in ours}) == len(ours)


def test_a_trace_does_not_list_itself(monkeypatch):
  """What JAX says of the origin of a tracer grows with its program."""

  def origin(tracer):
    raise AssertionError(f'Expected no question; got one of {tracer}')

  tracer = partial_eval.DynamicJaxprTracer
  monkeypatch.setattr(tracer, '_origin_msg', origin)
  keys = jax.eval_shape(lambda: _drawn(counters.rngs(default=0)))
  assert len(keys) == 4
