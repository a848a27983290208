"""Generative attacks in an audit: controls, defences, and resumption."""

import os
import signal

import pytest
import tiny

from giajax.engine import run

ATTACK = dict(name='grnn', num_steps=4, latent=3, width=1)


@pytest.mark.skipif(
  os.environ.get('GIAJAX_SLOW') != '1', reason='three audits; GIAJAX_SLOW=1'
)
def test_an_audit_continues_to_the_same_bits(tmp_path):
  config = tiny.config(
    attack=ATTACK,
    cases__count=1,
    restarts=1,
    defense=dict(name='gaussian_noise', scale=1e-4),
  )

  def interrupt(status):
    if status.step == 1:
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.raises(run.Interrupted, match='saved at step 1 of 4'):
    run.audit(config, tmp_path / 'stopped', hooks=[interrupt])
  run.audit(config, tmp_path / 'stopped')
  (row,) = run.audit(config, tmp_path / 'whole')
  assert tiny.digest(tmp_path / 'stopped') == tiny.digest(tmp_path / 'whole')
  assert row['attack'] == 'grnn'
  assert 'noise_gradient' in row['baselines']


@pytest.mark.parametrize(
  ('attack', 'changes', 'expected'),
  [
    ('ci_net', dict(dataset__size=11), 'square images for ci_net'),
    ('grnn', dict(dataset__size=6), 'square images for grnn'),
    ('ci_net', dict(attack__width=-1), 'width'),
    ('ci_net', dict(attack__head='relu'), 'known head'),
    ('ci_net', dict(threat__grants=()), 'grants that cover'),
  ],
)
def test_mistakes_are_one_line_before_anything_runs(
  attack, changes, expected, tmp_path
):
  config = tiny.config(attack=dict(name=attack), **changes)
  with pytest.raises(ValueError, match=f'^Expected .*{expected}') as error:
    run.audit(config, tmp_path / 'run')
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()
