"""Tests of giajax.data.tfds_source on prepared sets."""

import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from giajax import data
from giajax.data import tfds_source


@pytest.fixture(scope='module')
def data_dir(shared_data):
  return str(shared_data / 'tfds')


@pytest.fixture(scope='module')
def cifar(data_dir):
  return data.DATASETS['tfds'](
    dataset='cifar10', split='test', data_dir=data_dir
  )


def test_cifar10(cifar):
  assert cifar.size == 10_000
  assert cifar.image_shape == (32, 32, 3)
  assert cifar.class_names[3] == 'cat'
  np.testing.assert_array_equal(np.bincount(cifar.labels), [1000] * 10)
  batch = cifar.take([17, 3])
  assert batch.x.dtype == np.float32
  np.testing.assert_array_equal(batch.y, cifar.labels[[17, 3]])


def test_pixels_equal_those_tfds_decodes(cifar, data_dir):
  import tensorflow_datasets as tfds

  source: Any = tfds.data_source('cifar10', split='test', data_dir=data_dir)
  for index in (0, 9_999):
    ours = cifar.take([index])
    np.testing.assert_array_equal(
      ours.x[0], source[index]['image'] / np.float32(255)
    )
    assert ours.y[0] == source[index]['label']


def test_labels_are_read_fast(data_dir):
  start = time.perf_counter()
  tfds_source.load(dataset='cifar10', split='test', data_dir=data_dir)
  assert time.perf_counter() - start < 5  # about 0.5 s


def test_grey_images_sizes_channels_and_slices(data_dir):
  def load(**kwargs):
    return tfds_source.load(
      dataset='mnist', split='test[:20]', data_dir=data_dir, **kwargs
    )

  plain, small = load(), load(size=14, channels=3)
  assert plain.size == 20
  assert plain.take([0]).x.shape == (1, 28, 28, 1)
  x = np.asarray(small.take([0]).x)
  assert x.shape == (1, *small.image_shape) == (1, 14, 14, 3)
  np.testing.assert_array_equal(x[..., 0], x[..., 2])
  mean = plain.take([0]).x.mean()
  np.testing.assert_allclose(x.mean(), mean, atol=0.01)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'dataset': 'cifar_10'}, "dataset='cifar_10'; choose cifar10"),
    ({'dataset': 'cifar100'}, 'array_record'),  # known, not prepared
    ({'dataset': 'cifar10:1.0.0'}, 'cifar10:1.0.0'),
    ({'dataset': 'huggingface:x'}, 'nothing is downloaded from huggingface'),
    ({'dataset': 'user:x'}, 'nothing is downloaded from user'),
    ({'split': 'validation'}, "split='validation'"),
    ({'split': 'train'}, 'cifar10/3.0.2 train'),  # its files are not there
    ({'data_dir': '/nowhere'}, "data_dir='/nowhere'"),
    ({'image_key': 'picture'}, "'picture'"),
    ({'label_key': 'id'}, 'to be of type ClassLabel; got Text'),
    ({'size': -1}, 'size=-1'),
    ({'channels': 4}, 'channels=4'),
  ],
)
def test_mistakes_give_one_line(data_dir, arguments, message):
  kwargs = {
    'dataset': 'cifar10',
    'split': 'test',
    'data_dir': data_dir,
  } | arguments
  with pytest.raises(ValueError, match=r'^Expected') as info:
    tfds_source.load(**kwargs)
  assert message in str(info.value)
  assert '\n' not in str(info.value)


def _album(data_dir, tmp_path, *changes):
  """Returns a folder with MNIST under a name of which tfds has no code."""
  source = pathlib.Path(data_dir) / 'mnist' / '3.0.1'
  folder = tmp_path / 'album' / '1.0.0'
  folder.mkdir(parents=True)
  for file in source.iterdir():
    target = folder / file.name.replace('mnist-', 'album-')
    target.write_bytes(file.read_bytes())
  for name, old, new in (
    ('dataset_info.json', '"mnist"', '"album"'),
    ('dataset_info.json', '"3.0.1"', '"1.0.0"'),
    *changes,
  ):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
  return folder


def test_sets_of_ones_own_and_of_differing_sizes(data_dir, tmp_path):
  _album(data_dir, tmp_path, ('features.json', '"28"', '"-1"'))
  kwargs = {'dataset': 'album', 'split': 'test[:9]', 'data_dir': str(tmp_path)}
  with pytest.raises(ValueError, match='got size=None'):
    tfds_source.load(**kwargs)
  dataset = tfds_source.load(**kwargs, size=16)
  assert dataset.name == 'album/1.0.0'
  assert dataset.take([8]).x.shape == (1, 16, 16, 1)


def test_tensorflow_is_never_imported(data_dir):
  code = (
    'import sys\n'
    'from giajax.data import tfds_source\n'
    "assert 'tensorflow_datasets' not in sys.modules\n"
    "d = tfds_source.load(dataset='mnist', split='test[:9]', "
    f'data_dir={data_dir!r})\n'
    'd.take([0, 8])\n'
    "assert 'tensorflow' not in sys.modules\n"
  )
  subprocess.run([sys.executable, '-c', code], check=True, timeout=120)


_IMAGE = 'tensorflow_datasets.core.features.image_feature.Image'
_CHANGES = [
  ('"shape"', '"shbpe"'),
  ('"28"', '"x"'),
  ('"10"', '"x"'),
  ('"10"', '"3"'),  # fewer than there are
  ('"28"', '"27"'),
  ('"uint8"', '"label"'),
  ('"featuresDict"', '"pythonClassName"'),
  (_IMAGE, 'antigravity.Image'),  # tfds would import it
  (_IMAGE, 'tensorflow_datasets.Image'),
]


def test_damaged_descriptions_give_one_line(data_dir, tmp_path, capfd):
  folder = _album(data_dir, tmp_path)
  kwargs = {'dataset': 'album', 'split': 'test[:9]', 'data_dir': str(tmp_path)}
  for name in ('features.json', 'dataset_info.json'):
    path = folder / name
    whole = path.read_text()
    damaged = ['', whole[: len(whole) // 2], 'null', '1', '"x"', '[' * 9999]
    if name == 'features.json':
      assert all(old in whole for old, _ in _CHANGES)
      damaged += [whole.replace(old, new, 1) for old, new in _CHANGES]
    for text in damaged:
      path.write_text(text)
      with pytest.raises(ValueError, match=r'^Expected [^\n]*\Z'):
        tfds_source.load(**kwargs).take([0])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f'{name} is no file'):
      tfds_source.load(**kwargs)
    path.unlink()
    path.write_text(whole)
  assert 'antigravity' not in sys.modules
  assert capfd.readouterr().out == ''  # tfds has advice of its own


def test_records_that_are_cut_short_give_one_line(data_dir, tmp_path):
  (path,) = _album(data_dir, tmp_path).glob('*record*')
  whole = path.read_bytes()
  kwargs = {'dataset': 'album', 'split': 'test[:9]', 'data_dir': str(tmp_path)}
  images = tfds_source.load(**kwargs)
  for size in (0, 100, len(whole) // 2, len(whole) - 1):
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r'^Expected [^\n]*\Z'):
      tfds_source.load(**kwargs)
  path.write_bytes(bytes(len(whole)))
  with pytest.raises(ValueError, match=r'^Expected [^\n]*\Z'):
    images.take([0])
