"""Tests of weights from a file, as a client reads and checks them."""

import jax
import numpy as np
import pytest
import tiny

from giajax import archives
from giajax.engine import build
from giajax.engine import received
from giajax.engine import systems
from giajax.models import convert
from giajax.verify import base


@pytest.fixture
def path(tmp_path):
  """Returns the file of weights that an honest server sends."""
  setup = build.setup(build.resolve(tiny.config()))
  file = tmp_path / 'sent.npz'
  archives.write(file, convert.to_state_dict(setup.variables))
  return str(file)


def system():
  return systems.system(build.resolve(tiny.config()))


@pytest.mark.parametrize('wide', [False, True])
def test_honest_weights_pass_in_both_precisions(path, wide):
  with jax.enable_x64(wide):
    own = system()
    variables = received.read(path, own.net)
    result = received.check(own, path, accepted=path, seed=0)
  kinds = {leaf.dtype for leaf in jax.tree.leaves(variables)}
  assert kinds == {np.dtype(np.float64 if wide else np.float32)}
  assert len(result.ran) > 10
  # Eight units are fewer than in any model that the thresholds rest on.
  assert set(result.flagged) <= {'class_scale'}


def test_weights_that_were_changed_are_flagged(path, tmp_path):
  arrays = dict(np.load(path))
  name = next(n for n in arrays if n.endswith('1.bias'))
  arrays[name] = arrays[name] + np.float32(1000) * (
    np.arange(len(arrays[name])) != 3
  )
  fished = tmp_path / 'fished.npz'
  np.savez(fished, **{k: v.astype(np.float32) for k, v in arrays.items()})
  names = ['class_bias', 'scale']
  result = received.check(system(), str(fished), seed=0, only=names)
  assert result.flagged == names


def test_what_cannot_be_checked(path, tmp_path):
  with pytest.raises(ValueError, match='Expected checks that have something'):
    received.check(system(), path, seed=0, only=['update_rank'])
  with pytest.raises(ValueError, match=f'at least {base.LEAST_PROBE} images'):
    received.check(system(), path, seed=0, probe=4)
  other = tmp_path / 'other.npz'
  np.savez(other, **{'fc.bias': np.zeros(3, np.float32)})
  with pytest.raises(ValueError, match='Expected accepted weights of mlp'):
    received.check(system(), path, accepted=str(other), seed=0)
