"""Tests of a change that no training would make."""

import handmade
import jax
import pytest

from giajax import trees
from giajax import types
from giajax.clients import fedsgd
from giajax.models import subset
from giajax.tasks import classification
from giajax.verify import base
from giajax.verify import VERIFIERS


def test_update_distance_needs_what_was_accepted_and_takes_a_rate():
  alone = handmade.run_bare('update_distance')
  assert not alone.ran and 'no weights accepted' in alone.evidence
  both = handmade.received(
    hidden__kernel=lambda k: k + 1.0,
    conv__kernel=lambda k: k + 1.0,
    fc__kernel=lambda k: k + 1.0,
  )
  spread = handmade.run('update_distance', both)
  known = handmade.view()._replace(
    accepted=handmade.fresh(), learning_rate=0.01
  )
  rated = VERIFIERS['update_distance'](known)(
    handmade.KEY, both, handmade.probe()
  )
  assert rated.flagged and rated.score > spread.score


def test_update_distance_knows_what_training_mode_does():
  """Running variances far too large leave no gradient in inference mode."""
  before = handmade.received(norm__var=lambda v: v * 1e8).variables
  net, task = handmade.view().net, classification.classification(handmade.K)
  client = fedsgd.fedsgd(net, task, train_mode=True)
  sent, _ = client.update(
    handmade.KEY, types.ServerMessage(before), handmade.probe()
  )
  params = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, sent.delta)
  message = types.ServerMessage(before._replace(params=params))
  known = handmade.view()._replace(accepted=before, learning_rate=0.1)
  verdict = VERIFIERS['update_distance'](known)(
    handmade.KEY, message, handmade.probe()
  )
  assert verdict.score == pytest.approx(0, abs=1e-3)
  blind = VERIFIERS['update_distance'](known._replace(training=None))
  assert blind(handmade.KEY, message, handmade.probe()).flagged


def test_frozen_weights_do_not_move():
  net = subset.subset(handmade.view().net, freeze=['conv.*'])
  old = net.init(jax.random.key(0))
  known = base.view(
    net, classification.classification(handmade.K), accepted=old
  )
  check = VERIFIERS['update_distance'](known)
  assert not check(
    handmade.KEY, types.ServerMessage(old), handmade.probe()
  ).flagged
  leaves = trees.named_leaves(old.frozen)
  leaves['conv.bias'] = leaves['conv.bias'].at[0].add(1e-3)
  moved = old._replace(frozen=trees.nested(leaves))
  verdict = check(handmade.KEY, types.ServerMessage(moved), handmade.probe())
  assert verdict.flagged and 'conv.bias' in verdict.evidence
