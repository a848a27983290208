"""Tests of searches without gradients on functions whose minimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax.attacks.parts import evolution

D = 6


def run(search, loss, generations, key):
  def step(state, t):
    own = keys.at(key, t)
    candidates, asked = search.ask(keys.named(own, 'ask'), state)
    losses = loss(candidates)
    state = search.tell(keys.named(own, 'tell'), candidates, losses, asked)
    return state, (candidates[jnp.argmin(losses)], losses.min())

  return jax.lax.scan(step, search.init(key), jnp.arange(generations))


@pytest.fixture(scope='module')
def search():
  return evolution.cma_es(D, population=12)


def test_cma_es_finds_the_minimum_of_a_quadratic(search):
  """Of axes whose lengths differ by a factor of 100, not along the numbers."""
  rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0]
  centre = jnp.linspace(-2, 2, D)
  scale = jnp.logspace(0, 2, D)

  def loss(x):
    return jnp.sum((scale * ((x - centre) @ rotation)) ** 2, axis=-1)

  _, (best, losses) = jax.jit(lambda key: run(search, loss, 250, key))(
    jax.random.key(1)
  )
  assert losses[0] > 100 and losses[-1] < 1e-6
  np.testing.assert_allclose(best[-1], centre, atol=1e-3)


def test_the_first_population_is_as_wide_as_asked():
  search = evolution.cma_es(D, population=2_000, sigma=0.5)
  candidates, _ = search.ask(jax.random.key(1), search.init(jax.random.key(0)))
  assert candidates.shape == (2_000, D)
  np.testing.assert_allclose(candidates.std(), 0.5, rtol=0.05)
  np.testing.assert_allclose(candidates.mean(), 0.0, atol=0.02)


def test_searches_share_a_program_and_continue_to_the_same_bits(search):
  """Two halves are the whole, and the state has one type from the start."""

  def loss(x):
    return jnp.sum((x - 1) ** 2, axis=-1)

  traced = []

  @jax.jit
  def steps(states, each, t):
    traced.append(t)

    def one(state, key):
      own = keys.at(key, t)
      candidates, asked = search.ask(own, state)
      return search.tell(own, candidates, loss(candidates), asked)

    return jax.vmap(one)(states, each)

  each = jax.random.split(jax.random.key(0), 3)
  states = jax.vmap(search.init)(each)
  for t in range(4):
    states = steps(states, each, t)
    if t == 1:
      saved = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), states)
  for t in range(2, 4):
    saved = steps(saved, each, t)
  jax.tree.map(np.testing.assert_array_equal, saved, states)
  assert len(traced) == 1
  assert not np.allclose(
    *(leaf[:2] for leaf in [states.mean[0], states.mean[1]])
  )


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    (dict(size=0), 'size'),
    (dict(size=5_000), 'search by gradients'),
    (dict(population=3), 'population'),
    (dict(sigma=0.0), 'sigma'),
  ],
)
def test_numbers_out_of_range_are_refused(changes, expected):
  arguments = {'size': D, 'population': 8, **changes}
  with pytest.raises(ValueError, match=f'^Expected .*{expected}'):
    evolution.cma_es(arguments.pop('size'), **arguments)
