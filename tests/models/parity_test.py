"""Every row of MODELS against torch, in both BatchNorm modes.

The goldens hold torch's float64 results, see golden/make_torch.py. Deep
networks repeat the blocks of shallow ones and take minutes to compile: without
GIAJAX_SLOW=1 their derivatives are skipped, and ResNet-32 and 44 altogether.
"""

import os

from golden import draws
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


def worst(values, golden):
  """Returns the largest relative error, after checking that names agree."""
  assert values.keys() == golden.keys()
  errors = {
    name: draws.error(name, np.asarray(value), golden[name])
    for name, value in values.items()
  }
  name = max(errors, key=lambda n: errors[n])
  return errors[name], name


def part(golden, prefix):
  return {k: v for k, v in golden.items() if k.startswith(prefix)}


def new_state(stats):
  state = convert.to_state_dict(types.Variables({}, stats))
  return {f'state/{name}': value for name, value in state.items()}


def test_every_row_has_a_golden():
  assert set(models.MODELS) == {case.row for case in draws.CASES.values()}
  written = {path.stem for path in draws.FOLDER.glob('*.npz')}
  assert written == set(draws.CASES)
  sizes = [path.stat().st_size for path in draws.FOLDER.iterdir()]
  assert sum(sizes) < 1_500_000


def slow(*values, quick):
  reason = 'compiles for long; GIAJAX_SLOW=1'
  return pytest.param(
    *values, marks=pytest.mark.skipif(not (quick or SLOW), reason=reason)
  )


@pytest.mark.parametrize(
  'name',
  [
    slow(name, quick=name not in ('resnet32', 'resnet44'))
    for name, case in draws.CASES.items()
    if not case.quick
  ],
)
def test_training_pass_of_deep_networks(name, subject, quick_jit, precision):
  s = subject(name)
  apply = quick_jit(lambda v, x: s.net.apply(v, x, train=True))
  with precision(name):
    output = apply(s.variables, s.x)
    found = {'logits': output.out, 'loss': s.loss_fn(output)}
  golden = mode_golden(s.golden, 'train')
  assert worst(found, {k: golden[k] for k in found})[0] < TOLERANCE
  if part(golden, 'state/'):
    stats = worst(new_state(output.stats), part(golden, 'state/'))
    assert stats[0] < TOLERANCE, stats


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
  values = {
    'logits': found.output.out,
    'loss': found.loss,
  }
  gradient = {
    f'gradient/{k}': v
    for k, v in convert.to_state_dict(
      types.Variables(found.gradient, {})
    ).items()
  }
  reference = part(golden, 'gradient/')
  # In front of a BatchNorm that trains, a bias has gradient zero.
  norms = {k: draws.norm(gradient[k], v) for k, v in reference.items()}
  largest = max(norms.values())
  zero = {name for name, norm in norms.items() if norm < 1e-9 * largest}
  assert bool(zero) == (mode == 'train' and name == 'convnet')
  for leaf in zero:
    assert np.linalg.norm(gradient.pop(leaf)) < 1e-5 * largest
    del reference[leaf]
  # 1 - cos cancels where the images' gradients are alike; cos does not.
  cosine, expected = 1 - float(found.matching), 1 - float(golden['matching'])
  dx = np.linalg.norm(np.asarray(found.dx) - golden['dx'])
  errors = {
    'values': worst(values, {k: golden[k] for k in values}),
    'gradient': worst(gradient, reference),
    'cosine': (abs(cosine / expected - 1), 'cosine'),
    'dx': (float(dx / np.linalg.norm(golden['dx'])), 'dx'),
  }
  if mode == 'train' and part(golden, 'state/'):
    errors['state'] = worst(
      new_state(found.output.stats), part(golden, 'state/')
    )
  print(name, mode, errors)  # shown by pytest -rP
  assert max(e for e, _ in errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize(
  'name', [n for n, c in draws.CASES.items() if 'eval' in c.quick]
)
def test_inference_leaves_the_statistics_alone(name, subject, evaluate):
  before = subject(name).variables.stats
  after = evaluate(name, False).output.stats
  for a, b in zip(
    new_state(before).values(), new_state(after).values(), strict=True
  ):
    np.testing.assert_array_equal(a, b)
