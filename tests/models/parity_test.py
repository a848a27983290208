"""Every row of MODELS against torch, in both BatchNorm modes.

The goldens hold torch's float64 results, see golden/make_torch.py. Deep
networks repeat the blocks of shallow ones and take minutes to compile: without
GIAJAX_SLOW=1 their derivatives are skipped, and all of those in `draws.LONG`.
"""

import os

from golden import draws
import jax
import numpy as np
import pytest

from giajax import models
from giajax import types
from giajax.models import convert

TOLERANCE = 1e-4
SLOW = os.environ.get('GIAJAX_SLOW') == '1'


def mode_golden(golden, mode):
  start = f'{mode}/'
  return {
    k.removeprefix(start): v
    for k, v in golden.items()
    if start == k[: len(start)]
  }


def worst(errors):
  """Returns the largest of errors by name, and its name."""
  name = max(errors, key=lambda n: errors[n])
  return float(errors[name]), name


def difference(value, golden):
  """Returns the error of an array relative to the golden's norm."""
  value = np.asarray(value, np.float64)
  assert value.shape == golden.shape
  return np.linalg.norm(value - golden) / np.linalg.norm(golden)


def state_error(stats, golden):
  state = convert.to_state_dict(types.Variables({}, stats))
  return worst(draws.errors(state, golden['state']))


def test_every_row_has_a_golden():
  assert set(models.MODELS) == {case.row for case in draws.CASES.values()}
  written = {path.stem for path in draws.FOLDER.glob('*.npz')}
  assert written == set(draws.CASES)
  sizes = [path.stat().st_size for path in draws.FOLDER.iterdir()]
  assert sum(sizes) < 5_000_000


def slow(*values, quick):
  reason = 'compiles for long; GIAJAX_SLOW=1'
  return pytest.param(
    *values, marks=pytest.mark.skipif(not (quick or SLOW), reason=reason)
  )


@pytest.mark.parametrize(
  'name',
  [
    slow(name, quick=name not in draws.LONG)
    for name, case in draws.CASES.items()
    if not case.quick
  ],
)
def test_training_pass_of_deep_networks(name, subject, precision):
  s = subject(name)
  apply = jax.jit(lambda v, x: s.net.apply(v, x, train=True))
  with precision(name):
    output = apply(s.variables, s.x)
    loss = s.loss_fn(output)
  golden = mode_golden(s.golden, 'train')
  logits = draws.joined(output.out)
  assert difference(logits, golden['logits']) < TOLERANCE
  assert difference(loss, golden['loss']) < TOLERANCE
  if 'state' in golden:
    error = state_error(output.stats, golden)
    assert error[0] < TOLERANCE, error


@pytest.mark.parametrize(
  ('name', 'mode'),
  [
    slow(name, mode, quick=mode in case.quick)
    for name, case in draws.CASES.items()
    for mode in draws.MODES
  ],
)
def test_values_and_derivatives(name, mode, subject, evaluate):
  golden = mode_golden(subject(name).golden, mode)
  found = evaluate(name, mode == 'train')
  gradient = convert.to_state_dict(types.Variables(found.gradient, {}))
  norms = draws.norms(gradient, golden['gradient'])
  leaves = draws.errors(gradient, golden['gradient'])
  # Before a BatchNorm that trains, with at most a convolution between, a bias
  # has gradient zero; a max-pool between that meets no dead ReLU keeps it so.
  largest = max(norms.values())
  zero = {name for name, norm in norms.items() if norm < 1e-9 * largest}
  assert not zero or (mode == 'train' and 'state' in golden)
  assert all(name.endswith('bias') for name in zero)
  for leaf in zero:
    assert np.linalg.norm(gradient[leaf]) < 1e-5 * largest
    del leaves[leaf]
  # 1 - cos cancels where the images' gradients are alike; cos does not.
  cosine, expected = 1 - float(found.matching), 1 - float(golden['matching'])
  logits = draws.joined(found.output.out)
  errors = {
    'logits': (difference(logits, golden['logits']), ''),
    'loss': (difference(found.loss, golden['loss']), ''),
    'gradient': worst(leaves),
    'cosine': (abs(cosine / expected - 1), ''),
    'dx': (difference(found.dx, golden['dx']), ''),
  }
  if mode == 'train' and 'state' in golden:
    errors['state'] = state_error(found.output.stats, golden)
  print(name, mode, errors)  # shown by pytest -rP
  assert max(e for e, _ in errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize(
  'name', [n for n, c in draws.CASES.items() if 'eval' in c.quick]
)
def test_inference_leaves_the_statistics_alone(name, subject, evaluate):
  before = subject(name).variables.stats
  after = evaluate(name, False).output.stats
  jax.tree.map(np.testing.assert_array_equal, before, after)
