"""Tests of what a setting costs a client."""

import jax
import numpy as np
import pytest
import tiny

from giajax.advice import costs
from giajax.engine import build


class Clock:
  """A clock that only calls move on."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now

  def call(self, *seconds):
    """Returns a call that takes so long, its last time over and over."""
    left = list(seconds)

    def run():
      self.now += left.pop(0) if len(left) > 1 else left[0]
      return ()

    return run


@pytest.fixture
def clock(monkeypatch):
  made = Clock()
  monkeypatch.setattr(costs.time, 'perf_counter', made)
  return made


def test_times_are_warm_medians_in_turn(clock):
  # The first call of each is cold, and the machine stumbles once.
  small = clock.call(30.0, 0.01, 5.0, 0.01)
  large = clock.call(10.0, 0.04)
  assert costs.time_in_turn(small, large) == pytest.approx([0.01, 0.04])


def test_timing_ends(clock):
  count = []
  slow, quick = clock.call(1.0), clock.call(1e-9)
  costs.time_in_turn(lambda: count.append(1) or slow())
  assert len(count) == 1 + 5
  count.clear()
  costs.time_in_turn(lambda: count.append(1) or quick())
  assert len(count) == 1 + 100


def test_a_time_is_that_of_an_image(monkeypatch):
  monkeypatch.setattr(costs, 'time_in_turn', lambda *_: [0.4, 0.1])
  own, audited = (
    costs.CompiledClient(lambda: (), images, 10, 1.0) for images in (4, 1)
  )
  facts = costs.facts(own, audited)
  assert facts['seconds_per_image'] == pytest.approx(0.1)
  assert facts['audited_seconds_per_image'] == pytest.approx(0.1)


def test_a_client_is_one_of_its_aggregate():
  changes = dict(cases__batch_size=4, cases__clients=2)
  plain = costs.client(build.resolve(tiny.config(**changes)))
  assert plain.images == 2 and plain.fidelity == pytest.approx(1)
  update = plain.update()
  assert int(update.size) == 2
  sizes = [leaf.size for leaf in jax.tree.leaves(update.delta)]
  assert plain.parameters == sum(sizes)
  pruned = costs.client(
    build.resolve(
      tiny.config(**changes, defense=dict(name='pruning', keep=0.01))
    )
  )
  assert pruned.fidelity < 0.95
  kept = [np.count_nonzero(x) for x in jax.tree.leaves(pruned.update().delta)]
  assert sum(kept) < 0.05 * sum(sizes)
