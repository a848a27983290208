"""What every row of VERIFIERS promises, and an attack that each must see."""

import handmade
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax.verify import VERIFIERS

# What a check must object to: a message, or a message and a probe.
ATTACKED = {
  'activation_overlap': lambda: handmade.received(
    hidden__kernel=handmade.bins, hidden__bias=handmade.cuts
  ),
  'architecture': handmade.surplus,
  'class_bias': lambda: handmade.received(
    fc__bias=lambda b: 1000.0 * (jnp.arange(handmade.K) != 2)
  ),
  'class_scale': lambda: handmade.received(fc__kernel=handmade.one_row),
  'dominance': lambda: (
    handmade.received(fc__bias=handmade.only_last),
    handmade.LAST,
  ),
  'dsnr': lambda: (
    handmade.received(fc__bias=handmade.only_last),
    handmade.LAST,
  ),
  'feature_concentration': lambda: handmade.received(
    fc__kernel=handmade.one_column
  ),
  'gradient_rank': lambda: handmade.received(
    hidden__kernel=handmade.selecting, hidden__bias=jnp.zeros_like
  ),
  'identity_kernels': lambda: handmade.received(conv__kernel=handmade.identity),
  'isolation': lambda: handmade.received(
    hidden__kernel=handmade.selecting, hidden__bias=jnp.zeros_like
  ),
  'monotone_biases': lambda: handmade.received(
    hidden__kernel=handmade.bins, hidden__bias=handmade.cuts
  ),
  'proportional_rows': lambda: handmade.received(hidden__kernel=handmade.bins),
  'running_statistics': lambda: handmade.received(norm__var=lambda v: v * 1e8),
  'scale': lambda: handmade.received(fc__bias=lambda b: b + 1000.0),
  'sign_split': lambda: handmade.received(hidden__kernel=handmade.mirrored),
  'update_distance': lambda: handmade.received(
    hidden__kernel=handmade.mirrored
  ),
  # Trap weights at a tenth of their strength.
  'update_rank': lambda: handmade.received(
    hidden__kernel=lambda k: 0.9 * k + 0.1 * np.std(k) * handmade.mirrored(k)
  ),
}


# Checks that try the model on the probe.
TRIED = {
  'activation_overlap',
  'dominance',
  'dsnr',
  'gradient_rank',
  'isolation',
  'update_distance',
}


def test_every_check_has_an_attack():
  assert set(ATTACKED) == set(VERIFIERS)


@pytest.mark.parametrize('name', sorted(VERIFIERS))
@pytest.mark.parametrize('seed', range(3))
def test_an_honest_model_passes(name, seed):
  known = handmade.view()._replace(accepted=handmade.fresh(seed))
  verdict = VERIFIERS[name](known)(
    handmade.KEY, handmade.stepped(seed), handmade.probe()
  )
  assert not verdict.flagged, verdict
  assert np.isfinite(verdict.score) and verdict.score >= 0


@pytest.mark.parametrize('name', sorted(VERIFIERS))
def test_its_attack_is_flagged_in_words(name):
  attack = ATTACKED[name]()
  message, images = (
    attack if type(attack) is tuple else (attack, handmade.probe())
  )
  verdict = handmade.run(name, message, images)
  assert verdict.flagged and type(verdict.flagged) is bool
  assert verdict.score > handmade.run(name, handmade.received()).score
  assert verdict.evidence.endswith('.') and '\n' not in verdict.evidence
  assert '{' not in verdict.evidence
  assert any(c.isdigit() for c in verdict.evidence)
  again = VERIFIERS[name](handmade.view()._replace(accepted=handmade.fresh()))(
    handmade.KEY, message, images
  )
  assert again == verdict


@pytest.mark.parametrize('wrong', [jnp.nan, jnp.inf])
@pytest.mark.parametrize('name', sorted(VERIFIERS))
def test_a_pass_that_is_not_finite_is_an_objection(name, wrong):
  asked = []

  def examples(variables, images):
    asked.append(images)
    verdict = handmade.view().examples(variables, images)
    return jax.tree.map(lambda a: a.at[-1].set(wrong), verdict)

  known = handmade.view()._replace(accepted=handmade.fresh(), examples=examples)
  verdict = VERIFIERS[name](known)(
    handmade.KEY, handmade.stepped(0), handmade.probe()
  )
  assert bool(asked) == (name in TRIED)
  if asked:
    assert verdict.flagged and verdict.score == np.inf
    assert verdict.evidence.endswith(' is not finite.')
  else:
    assert not verdict.flagged


@pytest.mark.parametrize('name', sorted(VERIFIERS))
def test_weights_of_nothing_else_are_no_crash(name):
  empty = types.ServerMessage(types.Variables({}, {}))
  verdict = handmade.run(name, empty)
  assert verdict.flagged is (name == 'architecture')
  assert verdict.ran is (name == 'architecture')
  other = types.ServerMessage(
    types.Variables({'fc': {'kernel': jnp.zeros((3, 2))}}, {})
  )
  assert np.isfinite(handmade.run(name, other).score)
