"""What every row of GENERATORS promises. A row without a setup here fails."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import archives
from giajax import trees
from giajax.generative import base
from giajax.generative import ci_net
from giajax.generative import GENERATORS
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
  'grnn': ((8, 8, 3), dict(num_classes=3, latent=3, width=4)),
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
  'grnn': 712_278,
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
  generator = GENERATORS[name]()
  variables = jax.eval_shape(generator.init, jax.random.key(0))
  assert models.count(variables) == np.sum(PARAMETERS[name])


@pytest.mark.parametrize('train', [False, True])
def test_images(case, train):
  out = case.outputs[train].out
  assert out.shape == (M, *case.spec.image_shape) and out.dtype == jnp.float32
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
  np.testing.assert_allclose(one.out[0], case.outputs[False].out[1], atol=1e-6)


def test_stages_compose(case):
  generator, names = case.generator, case.generator.stages
  assert len(names) == len(set(names)) > 1
  h = case.z
  for k in range(len(names)):
    rest = generator.apply(case.variables, h, case.y, start=k)
    np.testing.assert_allclose(rest.out, case.outputs[False].out, atol=1e-6)
    step = generator.apply(case.variables, h, case.y, start=k, stop=k + 1)
    assert len(step.out) == M
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
  other = GENERATORS[row](image_shape, **{**options, 'latent': 5})
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
  for shape in ((), (0, 0, 3), (8, 8), (2, 2, 3), (11, 11, 3), (9, 18, 3)):
    refused('image', make, shape, **options)
  for option in options:
    for value in (0, -1, 1.5, None, 'x', 2**31 - 1):
      if (name, option, value) != ('ci_net', 'width', 0):  # the authors' rule
        refused(option, make, image_shape, **{**options, option: value})


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
