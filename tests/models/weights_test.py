"""Trained weights of other authors score what they are said to."""

import csv

import jax
import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from giajax import data
from giajax import trees
from giajax.models import convert
from giajax.models.classification import mobilenet_v2
from giajax.models.classification import resnet


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
def test_cifar_resnets(depth, count, correct, batch, shared_data):
  net = resnet.resnet((32, 32, 3), 10, depth=depth)
  folder = shared_data / 'weights' / 'cifar10_resnet'
  variables = convert.load(folder / f'resnet{depth}.npz', net)
  hits = jax.jit(
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


def photograph(path):
  """Returns [224, 224, 3] in [0, 1]: shorter side to 256, centre."""
  with Image.open(path) as image:
    image = image.convert('RGB')
  scale = 256 / min(image.size)
  size = [round(side * scale) for side in image.size]
  image = image.resize(size, Image.Resampling.BILINEAR)
  left, top = ((side - 224) // 2 for side in size)
  image = image.crop((left, top, left + 224, top + 224))
  return np.asarray(image, np.float32) / 255


# 84 and 98 % as in the manifest of the weights. Torchvision's transforms, which
# round size and offset of the crop otherwise by up to a pixel, give 85 and 97 %
# both here and in torch, whose logits then differ from ours by 2e-5 at most.
def test_mobilenet_v2(shared_data):
  net = mobilenet_v2.mobilenet_v2((224, 224, 3), 1000)
  weights = shared_data / 'weights' / 'imagenet' / 'mobilenet_v2.npz'
  variables = convert.load(weights, net)
  folder = shared_data / 'imagenet'
  with open(folder / 'labels.csv', newline='') as file:
    rows = [r for r in csv.DictReader(file) if (folder / r['file']).is_file()]
  logits = jax.jit(lambda x: net.apply(variables, x).out)
  hits = np.zeros(2, int)
  for i in range(0, 100, 20):
    batch = rows[i : i + 20]
    x = np.stack([photograph(folder / row['file']) for row in batch])
    order = np.argsort(-np.asarray(logits(x)), axis=-1)
    right = order == np.array([int(row['class_idx']) for row in batch])[:, None]
    hits += [right[:, :k].sum() for k in (1, 5)]
  assert len(rows) == 100
  assert hits.tolist() == [84, 98]
