"""Trained CIFAR-10 weights of other authors score what they are said to."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from giajax import data
from giajax import trees
from giajax.models import convert
from giajax.models import resnet


@pytest.fixture(scope='module')
def batch(shared_data):
  """Returns the first 2,000 test images in the order of the original files."""
  where = {'split': 'test', 'data_dir': str(shared_data / 'tfds')}
  records = tfds.data_source(
    'cifar10', decoders={'image': tfds.decode.SkipDecoding()}, **where
  )
  ids = [record['id'] for record in records]
  dataset = data.DATASETS['tfds'](dataset='cifar10', **where)
  return dataset.take(np.argsort(ids)[:2000])


# On all 2,000 images: 1833, 1854, 1866 and 1859, as 91.65, 92.7, 93.3 and
# 92.95 % in the manifest of the weights.
@pytest.mark.parametrize(
  ('depth', 'count', 'correct'),
  [(20, 2000, 1833), (56, 100, 96)],
)
def test_cifar_resnets(depth, count, correct, batch, shared_data, quick_jit):
  net = resnet.resnet((32, 32, 3), 10, depth=depth)
  folder = shared_data / 'weights' / 'cifar10_resnet'
  variables = convert.load(folder / f'resnet{depth}.npz', net)
  hits = quick_jit(
    lambda x, y: (net.apply(variables, x).out.argmax(-1) == y).sum()
  )
  found = sum(
    int(hits(batch.x[i : i + 100], batch.y[i : i + 100]))
    for i in range(0, count, 100)
  )
  assert found == correct


@pytest.mark.parametrize('depth', [32, 44])
def test_files_fit_their_networks(depth, shared_data):
  net = resnet.resnet((32, 32, 3), 10, depth=depth)
  folder = shared_data / 'weights' / 'cifar10_resnet'
  variables = convert.load(folder / f'resnet{depth}.npz', net)
  assert trees.all_finite(variables)
  with pytest.raises(ValueError, match='missing: layer1'):
    convert.load(folder / f'resnet{depth}.npz', resnet.resnet(depth=depth + 12))
