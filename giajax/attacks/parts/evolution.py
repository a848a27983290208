"""Search without gradients: ask for candidates, tell what they are worth.

A Search knows nothing of attacks: it proposes populations of vectors, and
learns from their losses. `match.match_by_search` makes an attack of one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from giajax import require
from giajax import trees
from giajax import types

_LEAST = 4  # candidates; the better half of them is averaged
_MOST = 65_536
_MOST_NUMBERS = 4_096  # of a vector: CMA-ES takes their square


class Search(NamedTuple):
  """A search for the vector of lowest loss.

  Attributes:
    init: `(key) -> State`; the key is consumed.
    ask: `(key, state) -> ([n, d] candidates, State)`; the key is consumed.
    tell: `(key, candidates, [n] losses, state) -> State`, a fixed point of
      structure, shape, dtype and weak type; the key is consumed.
    population: the number n of candidates.
  """

  init: Callable[[types.Array], Any]
  ask: Callable[[types.Array, Any], tuple[types.Array, Any]]
  tell: Callable[[types.Array, types.Array, types.Array, Any], Any]
  population: int


def cma_es(size: int, *, population: int, sigma: float = 1.0) -> Search:
  """CMA-ES, which learns the covariance of steps that lower the loss.

  Hansen, The CMA Evolution Strategy: A Tutorial, 2016, arXiv 1604.00772, as in
  evosax. The first candidates are drawn from N(0, sigma^2). The covariance of
  d numbers is decomposed for every population, in O(d^3).

  Args:
    size: the number d of numbers that are searched for.
    population: the number n of candidates in a population, at least 4.
    sigma: the standard deviation of the first candidates, > 0.

  Raises:
    ValueError: a number out of range.
  """
  require.whole(
    size, 'size', most=_MOST_NUMBERS, advice='use a search by gradients'
  )
  require.whole(population, 'population', least=_LEAST, most=_MOST)
  require.positive(sigma, 'sigma', advice='use 1')
  # It takes seconds to import.
  from evosax.algorithms import CMA_ES

  # Its methods are compiled for the object.
  strategy = CMA_ES(population_size=population, solution=jnp.zeros(size))
  defaults = strategy.default_params.replace(std_init=jnp.asarray(sigma))

  def parameters():
    return trees.widened(trees.strong(defaults))

  def init(key):
    state = strategy.init(key, jnp.zeros(size), parameters())
    return trees.widened(trees.strong(state))

  def ask(key, state):
    return strategy.ask(key, state, parameters())

  def tell(key, candidates, losses, state):
    return strategy.tell(key, candidates, losses, state, parameters())[0]

  return Search(init, ask, tell, population)
