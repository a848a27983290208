"""Tests of the options of the mobile networks; goldens test the values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import models
from giajax.models import dimensions
from giajax.models import layers
from giajax.models.classification import efficientnet
from giajax.models.parts import blocks

ROWS = (
  'efficientnet_b0',
  'efficientnet_v2_s',
  'mobilenet_v2',
  'mobilenet_v3_large',
  'mobilenet_v3_small',
)
TINY = dict(depth=3, width=0.1, image_shape=(16, 16, 3))


@pytest.mark.parametrize('name', ROWS)
@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'stem': 'cfar'}, "'cifar' or 'imagenet'; got stem='cfar'"),
    ({'norm': 'bach'}, "did you mean 'batch'"),
    ({'activation': 'rellu'}, "did you mean 'relu'"),
    ({'width': 0}, 'factor above 0; got width=0'),
    ({'depth': 0}, 'depth of 1 to .* blocks; got depth=0'),
    ({'depth': 41}, 'depth of 1 to .* blocks; got depth=41'),
    ({'dropout': 1.0}, r'a rate in \[0, 1\); got rate=1\.0'),
    ({'image_shape': (32, 7, 3)}, r'pixels; got image_shape=\(32, 7, 3\)'),
    ({'image_shape': (31, 99, 3), 'stem': 'imagenet'}, 'at least 32x32 pixels'),
  ],
)
def test_mistakes_are_one_line(name, options, words):
  with pytest.raises(ValueError, match=f'Expected.*{words}') as info:
    models.MODELS[name](**options)
  assert '\n' not in str(info.value)


def test_a_rate_that_no_block_has_is_refused_too():
  with pytest.raises(ValueError, match=r'a rate in \[0, 1\); got rate=1\.5'):
    efficientnet.efficientnet(stochastic_depth=1.5, depth=1)


def test_stem_by_image_size():
  for side, stem in ((64, 'cifar'), (65, 'imagenet')):
    assert dimensions.image_form((side, 99, 3), None) == stem


def test_widths_are_multiples_of_eight():
  found = [blocks.divisible(width) for width in (1, 11, 12, 18, 19, 27, 30)]
  assert found == [8, 16, 16, 24, 24, 32, 32]  # 24 is below 90 % of 27


@pytest.mark.parametrize('name', ROWS)
def test_training_draws_from_a_key_alone(name):
  net = models.MODELS[name](**TINY)
  variables = jax.eval_shape(net.init, jax.random.key(0))
  x = jnp.zeros((2, 16, 16, 3))

  def apply(key, train=True, net=net):
    return jax.eval_shape(
      lambda v, k: net.apply(v, x, train=train, key=k).out, variables, key
    )

  assert apply(jax.random.key(1)).shape == (2, 10)
  assert apply(None, train=False).shape == (2, 10)
  with pytest.raises(ValueError, match='Expected a key for a training pass'):
    apply(None)
  off = {'dropout': 0.0}
  if name.startswith('efficientnet'):
    off['stochastic_depth'] = 0.0
  assert apply(None, net=models.MODELS[name](**TINY, **off)).shape == (2, 10)


def test_stochastic_depth_grows_linearly(monkeypatch):
  rates = []

  class Dropout(layers.Dropout):
    def __init__(self, rate, *, rows=False):
      super().__init__(rate, rows=rows)
      if rows:
        rates.append(rate)

  monkeypatch.setattr(layers, 'Dropout', Dropout)
  efficientnet.efficientnet(stochastic_depth=0.32, width=0.1)
  np.testing.assert_allclose(rates, np.arange(16) * 0.02)
