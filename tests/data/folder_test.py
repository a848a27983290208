"""Tests of giajax.data.folder and of the decoder behind it."""

import os
import pickle

import numpy as np
from PIL import Image
import pytest

from giajax import data
from giajax.data import folder


def save(path, colour, shape=(12, 20), **kwargs):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.new('RGB', shape[::-1], colour)
  image.save(path, **kwargs)
  return path


def error_of(call, *args, **kwargs):
  with pytest.raises(ValueError, match='Expected') as info:
    call(*args, **kwargs)
  assert '\n' not in str(info.value)
  return str(info.value)


def test_subfolders_are_classes_in_sorted_order(tmp_path):
  save(tmp_path / 'dog' / 'b.png', (0, 0, 255))
  save(tmp_path / 'dog' / 'a.png', (0, 255, 0))
  save(tmp_path / 'cat' / 'z.PNG', (255, 0, 0))
  (tmp_path / 'dog' / 'notes.txt').write_text('not an image')
  (tmp_path / '.cache').mkdir()
  dataset = folder.load(path=tmp_path, size=4)
  assert dataset.class_names == ('cat', 'dog')
  np.testing.assert_array_equal(dataset.labels, [0, 1, 1])
  x = dataset.take([0, 1, 2]).x
  np.testing.assert_array_equal(x[:, 0, 0], np.eye(3))


def test_flat_folder_gives_each_image_its_class(tmp_path):
  for name in ('b', 'c', 'a'):
    save(tmp_path / f'{name}.png', (0, 0, 0))
  dataset = data.DATASETS['folder'](path=str(tmp_path), size=4, channels=1)
  assert dataset.class_names == ('a', 'b', 'c')
  assert dataset.image_shape == (4, 4, 1)
  np.testing.assert_array_equal(dataset.labels, [0, 1, 2])


def test_crop_is_centred_and_resize_antialiased(tmp_path):
  # Stripes of one pixel in the centred square, red beside it.
  pixels = np.zeros((8, 16, 3), np.uint8)
  pixels[:, :, 0] = 255
  pixels[:, 4:12] = 0
  pixels[:, 4:12:2] = 255
  Image.fromarray(pixels).save(tmp_path / 'x.png')
  exact = folder.load(path=tmp_path, size=8).take([0]).x[0]
  np.testing.assert_array_equal(exact, pixels[:, 4:12] / np.float32(255))
  half = folder.load(path=tmp_path, size=2).take([0]).x[0]
  np.testing.assert_allclose(half, 0.5, atol=0.1)  # subsampling gives 0 or 1


def test_exif_orientation_is_applied(tmp_path):
  pixels = np.zeros((4, 4, 3), np.uint8)
  pixels[0] = 255
  exif = Image.Exif()
  exif[0x0112] = 3  # rotated by 180 degrees
  Image.fromarray(pixels).save(tmp_path / 'x.png', exif=exif)
  x = folder.load(path=tmp_path, size=4).take([0]).x[0]
  np.testing.assert_array_equal(x, pixels[::-1] / 255)


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'gif', 'webp', 'tif', 'bmp'])
def test_truncated_images_give_one_line(tmp_path, suffix):
  whole = save(tmp_path / f'x.{suffix}', (200, 30, 60), (64, 64))
  raw = whole.read_bytes()
  whole.write_bytes(raw[: len(raw) // 2])
  dataset = folder.load(path=tmp_path, size=8)
  assert f'x.{suffix}' in error_of(dataset.take, [0])


def test_pickles_and_texts_are_no_images(tmp_path):
  (tmp_path / 'x.png').write_bytes(pickle.dumps({'a': 1}))
  assert 'x.png' in error_of(folder.load(path=tmp_path, size=8).take, [0])


def test_deep_images_are_refused(tmp_path):
  Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / 'x.png')
  assert '8 bits' in error_of(folder.load(path=tmp_path, size=8).take, [0])


def test_folders_without_images_are_refused(tmp_path):
  assert 'nowhere' in error_of(folder.load, path=tmp_path / 'nowhere', size=8)
  assert 'got none' in error_of(folder.load, path=tmp_path, size=8)
  save(tmp_path / 'cat' / 'a.png', (0, 0, 0))
  (tmp_path / 'dog').mkdir()
  assert 'dog' in error_of(folder.load, path=tmp_path, size=8)
  save(tmp_path / 'top.png', (0, 0, 0))
  assert 'not both' in error_of(folder.load, path=tmp_path, size=8)


def test_real_photographs(shared_data):
  dataset = folder.load(path=shared_data / 'imagenet', size=64)
  assert dataset.size == 100
  batch = dataset.take([0, 99])
  assert batch.x.shape == (2, 64, 64, 3)
  assert dataset.class_names[0] == 'n01440764_tench'


def test_names_that_are_no_utf8_can_be_written(tmp_path):
  for name in (b'caf\xe9', b'tea'):
    save(tmp_path / os.fsdecode(name) / 'a.png', 'red')
  images = folder.load(path=tmp_path, size=4)
  assert images.class_names == ('caf\\udce9', 'tea')
  assert ''.join(images.class_names).encode('utf-8')
  assert [path.name for path in images.files] == ['a.png', 'a.png']
