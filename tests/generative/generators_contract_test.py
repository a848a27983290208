"""What every row of GENERATORS promises. A row without a setup here fails."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import archives
from giajax import trees
from giajax.generative import base
from giajax.generative import ci_net
from giajax.generative import GENERATORS
from giajax.generative import lti
from giajax.models import base as models
from giajax.models import convert

# The smallest form of each row.
SETUPS = {
  'autoencoder_decoder': ((8, 16, 3), dict(latent=2, width=4)),
  'ci_net': ((8, 8, 3), dict(latent=3, width=4)),
  'conditional_dcgan': (
    (8, 8, 1),
    dict(num_classes=3, latent=3, embedding=2, width=4),
  ),
  'dcgan': ((8, 8, 3), dict(latent=3, width=4)),
  'fgla': ((8, 8, 3), dict(features=8, grid=2, width=2, blocks=1)),
  'grnn': ((8, 8, 3), dict(num_classes=3, latent=3, width=4)),
  'lti': ((4, 5, 3), dict(entries=9, batch_size=2, hashed=4, width=4)),
}
# Arguments of rows at the sizes of the authors, where the defaults are others.
PUBLISHED = {
  'fgla': dict(image_shape=(224, 224, 3), features=100_352, grid=7, blocks=3),
  'lti': dict(entries=15_826, hashed=0, width=3000),
}
# Of the published or authors' sizes; the conditional one by hand.
PARAMETERS = {
  'autoencoder_decoder': 1_338_499,
  'ci_net': 140_227,
  'conditional_dcgan': (
    *(320 + 96 * 4096 + 2 * 256, 16 * (256 * 128 + 128 * 64 + 64 * 32)),
    *(2 * 10 * (128 + 64 + 32), 9 * 32 * 3 + 3),
  ),
  'dcgan': 3_576_704,
  # With kernels of 4 x 4 between the maps, where theirs are 3 x 3.
  'fgla': (
    16 * (2048 * 1024 + 1024 * 512 + 512 * 256 + 256 * 128 + 128 * 64),
    *(o + 3 * (2 * 9 * o**2 + 4 * o) for o in (1024, 512, 256, 128, 64)),
    64 * 3 + 3,
  ),
  'grnn': 712_278,
  'lti': 65_703_072,
}
# Values of arguments of which other rows have fewer.
ALLOWED = {
  ('ci_net', 'width', 0),
  ('fgla', 'grid', 0),
  ('lti', 'depth', 0),
  ('lti', 'hashed', 0),
}
M = 3


class Case:
  """A row with weights and latents."""

  def __init__(self, name):
    image_shape, options = SETUPS[name]
    # The reference lowering compiles fastest.
    self.generator = GENERATORS[name](image_shape, **options, lowering='lax')
    self.spec = self.generator.spec
    self.variables = self.generator.init(jax.random.key(0))
    shape = (M, *self.spec.latent_shape)
    self.z = jax.random.normal(jax.random.key(1), shape)
    self.y = jnp.arange(M) if self.generator.takes_labels else None

  @functools.cached_property
  def outputs(self):
    """Those of an inference pass and of a training pass."""

    @jax.jit
    def both(variables, z, y):
      apply = self.generator.apply
      return [apply(variables, z, y, train=train) for train in (False, True)]

    return both(self.variables, self.z, self.y)


@pytest.fixture(scope='module', params=sorted(GENERATORS))
def case(request):
  return Case(request.param)


def test_every_row_has_a_setup():
  assert set(SETUPS) == set(PARAMETERS) == set(GENERATORS)


@pytest.mark.parametrize('name', GENERATORS)
def test_sizes_are_those_published(name):
  generator = GENERATORS[name](**PUBLISHED.get(name, {}))
  variables = jax.eval_shape(generator.init, jax.random.key(0))
  assert models.count(variables) == np.sum(PARAMETERS[name])


@pytest.mark.parametrize('train', [False, True])
def test_images(case, train):
  out = case.outputs[train].out
  shape = (M * case.spec.images, *case.spec.image_shape)
  assert out.shape == shape and out.dtype == jnp.float32
  assert out.min() >= 0 and out.max() <= 1
  assert np.abs(out[0] - out[1]).max() > 1e-4  # the latents matter


def test_statistics_move_in_training_passes_only(case):
  before = case.variables.stats
  jax.tree.map(np.testing.assert_array_equal, case.outputs[False].stats, before)
  after = case.outputs[True].stats
  assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, before)
  moved = [
    (a != b).any() for a, b in zip(*map(jax.tree.leaves, (after, before)))
  ]
  assert all(moved)


def test_an_inference_pass_takes_images_one_by_one(case):
  one = case.generator.apply(
    case.variables, case.z[1:2], None if case.y is None else case.y[1:2]
  )
  n = case.spec.images
  expected = case.outputs[False].out[n : 2 * n]
  np.testing.assert_allclose(one.out, expected, atol=1e-6)


def test_stages_compose(case):
  generator, names = case.generator, case.generator.stages
  assert len(names) == len(set(names)) > 1
  h, last = case.z, len(names) - 1
  for k in range(len(names)):
    rest = generator.apply(case.variables, h, case.y, start=k)
    np.testing.assert_allclose(rest.out, case.outputs[False].out, atol=1e-6)
    step = generator.apply(case.variables, h, case.y, start=k, stop=k + 1)
    assert len(step.out) == M * (case.spec.images if k == last else 1)
    h = step.out


def test_labels(case):
  if case.generator.labels is None:
    return
  logits = case.generator.labels(case.variables, case.z)
  assert logits.shape == (M, case.spec.num_classes)


def test_weights_pass_through_a_file(case, tmp_path):
  path, arrays = tmp_path / 'w.npz', convert.to_state_dict(case.variables)
  archives.write(path, {f'netG.{name}': a for name, a in arrays.items()})
  trained = base.load(path, case.generator, prefix='netG')
  assert trained.sha256 == archives.sha256(path)
  jax.tree.map(np.testing.assert_array_equal, trained.variables, case.variables)


def test_files_of_other_generators_are_refused(case, tmp_path):
  path, arrays = tmp_path / 'w.npz', convert.to_state_dict(case.variables)
  first = next(iter(arrays))
  wrong = {
    'not finite': {**arrays, first: arrays[first] * np.nan},
    'missing': {k: v for k, v in arrays.items() if k != first},
    'surplus': {**arrays, 'another.weight': np.zeros(3)},
  }
  for trouble, written in wrong.items():
    archives.write(path, written)
    refused(trouble, base.load, path, case.generator)
  archives.write(path, arrays)
  row = case.spec.name
  image_shape, options = SETUPS[row]
  (size,) = {'latent', 'features', 'entries'} & options.keys()
  other = GENERATORS[row](image_shape, **{**options, size: 12})
  refused(f'misshapen.*{row}|{row}.*misshapen', base.load, path, other)


def test_wrong_latents_labels_and_stages_are_refused(case):
  apply = functools.partial(case.generator.apply, case.variables)
  refused('latents .* of shape', apply, case.z[..., :-1], case.y)
  refused('start <= stop', apply, case.z, case.y, start=2, stop=1)
  refused('start <= stop', apply, case.z, case.y, stop=99)
  if case.y is None:
    refused('no labels', apply, case.z, jnp.arange(M))
  else:
    refused('labels for', apply, case.z)
    refused(r'labels in \[0, 3\)', apply, case.z, case.y + 1)
    refused('labels of 3 images', apply, case.z, case.y[:2])


def refused(match, function, *args, **kwargs):
  with pytest.raises(ValueError, match=match) as error:
    function(*args, **kwargs)
  text = str(error.value)
  assert text.startswith('Expected ') and '\n' not in text


@pytest.mark.parametrize('name', GENERATORS)
def test_sizes_that_cannot_be_are_refused(name):
  make, (image_shape, options) = GENERATORS[name], SETUPS[name]
  odd = () if name == 'lti' else ((2, 2, 3), (11, 11, 3), (9, 18, 3))
  for shape in ((), (0, 0, 3), (8, 8), *odd):
    refused('image', make, shape, **options)
  for option in options:
    for value in (0, -1, 1.5, None, 'x', 2**31 - 1):
      if (name, option, value) not in ALLOWED:
        refused(option, make, image_shape, **{**options, option: value})


def test_fgla_refuses_features_that_are_no_map():
  make = functools.partial(GENERATORS['fgla'], (8, 8, 3))
  refused('maps of 4 x 4 .* features=8', make, features=8, grid=4)
  refused('side is grid=3', make, features=9, grid=3)


def test_sums_of_entries_keep_their_size():
  """Each entry is in one sum, which the others do not change."""
  u = jax.random.normal(jax.random.key(0), (2000, 50))
  sums = lti.sketch(u, 7)
  assert sums.shape == (2000, 7)
  np.testing.assert_allclose(sums.var(0), 1, atol=0.15)
  parts = lti.sketch(jnp.eye(50), 7)
  assert ((parts != 0).sum(1) == 1).all()
  np.testing.assert_array_equal(np.sort((parts != 0).sum(0)), [7] * 6 + [8])
  np.testing.assert_allclose(jnp.abs(parts).max(1), math.sqrt(7 / 50), 1e-6)
  assert {-1.0, 1.0} == {*np.sign(np.asarray(parts).sum(1)).tolist()}


def test_what_hardly_ever_changes_does_not_drown_the_rest():
  """Its running variance is far too small when it does."""
  generator = GENERATORS['lti']((2, 2, 1), entries=3, hashed=0, width=2)
  variables = generator.init(jax.random.key(0))
  stats = {'norm': {'mean': jnp.zeros(3), 'var': jnp.array([0, 1e-9, 1.0])}}
  z = jnp.array([[0.0, 1.0, 1.0], [-1.0, 0.0, 1.0]])
  seen = generator.apply(variables._replace(stats=stats), z, stop=1).out
  np.testing.assert_allclose(seen, [[0, 10, 1], [-10, 0, 1]])


def test_without_hidden_layers_lti_is_a_linear_map():
  generator = GENERATORS['lti']((2, 2, 1), entries=3, hashed=0, depth=0)
  variables = generator.init(jax.random.key(0))
  assert models.count(variables) == 3 * 4 + 4
  z = jax.random.normal(jax.random.key(1), (3, 3))
  out = generator.apply(variables, jnp.stack([*z, z.sum(0) / 2])).out
  logits = jnp.log(out / (1 - out)).reshape(4, 4)
  zero = generator.apply(variables, jnp.zeros((1, 3))).out.ravel()
  constant = jnp.log(zero / (1 - zero))
  linear = logits - constant
  np.testing.assert_allclose(linear[3], linear[:3].sum(0) / 2, atol=1e-4)


def test_ci_net_has_as_many_parameters_as_the_rule_says():
  for width in (32, 64):
    variables = jax.eval_shape(
      ci_net.ci_net(width=width).init, jax.random.key(0)
    )
    assert models.count(variables) == ci_net.parameters(width)
  # By hand: 140,227 parameters for up to 34 images of 32 x 32 pixels.
  widths = {1: 32, 34: 32, 35: 64, 64: 64, 128: 128, 256: 128, 10**6: 4096}
  for batch_size, width in widths.items():
    assert ci_net.rule((32, 32, 3), batch_size) == width
  refused('known head', ci_net.ci_net, head='relu')


def test_ci_net_halves_its_channels_from_64_pixels_on():
  generator = ci_net.ci_net((128, 128, 3), width=8, latent=2)
  variables = jax.eval_shape(generator.init, jax.random.key(0))
  shapes = {k: v.shape for k, v in trees.named_leaves(variables.params).items()}
  assert shapes['progression_32.conv.3.kernel'] == (3, 3, 8, 8)
  assert shapes['progression_64.conv.0.kernel'] == (3, 3, 8, 4)
  assert shapes['to_rgb_128.kernel'] == (1, 1, 2, 3)
