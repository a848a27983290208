"""Every row of GENERATORS against torch, in both BatchNorm modes.

The goldens hold torch's float64 results, see golden/make_generators.py.
"""

import functools

from golden import draws
from golden import latents
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import archives
from giajax import types
from giajax.generative import base
from giajax.generative import GENERATORS
from giajax.models import convert

TOLERANCE = 1e-4
DRAWN = [name for name, case in latents.CASES.items() if not case.weights]
LOADED = [name for name, case in latents.CASES.items() if case.weights]


def make(case):
  # Those of many layers by the lowering that compiles fastest.
  deep = case.row in ('autoencoder_decoder', 'ci_net')
  lowering = 'lax' if deep else 'auto'
  return GENERATORS[case.row](
    case.image_shape, **case.options, lowering=lowering
  )


@functools.cache
def drawn(name):
  """Returns a generator with the weights that its golden was made with."""
  generator = make(latents.CASES[name])
  zeros = jax.tree.map(
    lambda s: np.zeros(s.shape),
    jax.eval_shape(generator.init, jax.random.key(0)),
  )
  state = {
    name: draws.weight(name, value.shape, 0)
    for name, value in convert.to_state_dict(zeros).items()
  }
  return generator, convert.from_state_dict(state, generator)


def evaluate(generator, variables, case, mode):
  """Returns what the golden of a mode holds, and the new statistics."""
  y = latents.labels(case)
  y = None if y is None else jnp.asarray(y)
  weights = latents.direction(case)

  @jax.jit
  def run(z):
    def value(z):
      output = generator.apply(variables, z, y, train=mode == 'train')
      return (output.out * weights).sum(), output

    return jax.grad(value, has_aux=True)(z)

  z = jnp.asarray(latents.latents(case))
  dz, output = run(z)
  values = {'images': output.out, 'dz': dz}
  if generator.labels is not None:
    values['labels'] = generator.labels(variables, z)
  return values, output.stats


def golden(name, mode):
  with np.load(latents.FOLDER / f'{name}.npz', allow_pickle=False) as arrays:
    start = f'{mode}/'
    names = [key for key in arrays.files if key.startswith(start)]
    return {key.removeprefix(start): arrays[key] for key in names}


def test_every_row_has_a_golden():
  assert set(GENERATORS) == {latents.CASES[name].row for name in DRAWN}
  written = {path.stem for path in latents.FOLDER.iterdir()}
  assert written == set(latents.CASES)
  sizes = [path.stat().st_size for path in latents.FOLDER.iterdir()]
  assert sum(sizes) < 200_000


@pytest.mark.parametrize('mode', draws.MODES)
@pytest.mark.parametrize('name', DRAWN)
def test_images_and_derivatives(name, mode):
  case, expected = latents.CASES[name], golden(name, mode)
  generator, variables = drawn(name)
  values, stats = evaluate(generator, variables, case, mode)
  for key, value in values.items():
    size = np.linalg.norm(expected[key])
    assert value.shape == expected[key].shape
    assert np.linalg.norm(value - expected[key]) < TOLERANCE * size, key
  assert set(values) == set(expected) - {'state'}
  if 'state' in expected:
    state = convert.to_state_dict(types.Variables({}, stats))
    assert max(draws.errors(state, expected['state']).values()) < TOLERANCE
  else:
    jax.tree.map(np.testing.assert_array_equal, stats, variables.stats)


# In float64 their derivatives agree to 1e-7 as well; in float32, rounding
# switches some of their many ReLUs.
@pytest.mark.parametrize(
  ('name', 'mode'),
  [('digiface', 'eval'), ('digiface', 'train'), ('taef2', 'eval')],
)
def test_weights_of_other_authors(name, mode, shared_data):
  case = latents.CASES[name]
  path = shared_data / 'weights' / case.weights
  trained = base.load(path, make(case), prefix=case.prefix)
  assert trained.sha256 == archives.sha256(path)
  apply = functools.partial(trained.generator.apply, train=mode == 'train')
  images = jax.jit(apply)(trained.variables, latents.latents(case)).out
  errors = draws.errors({'images': images}, golden(name, mode)['summaries'])
  assert errors['images'] < TOLERANCE
