"""Tests of giajax.data.folder and of the decoder behind it."""

import functools
import os
import pickle
import struct
import warnings

import numpy as np
from PIL import EpsImagePlugin
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


@pytest.mark.parametrize(
  ('name', 'kind'),
  [
    ('x.jfif', 'JPEG'),
    ('x.JPE', 'JPEG'),
    ('x.apng', 'PNG'),
    ('x', 'PNG'),
    ('x.image', 'WEBP'),
    ('x.dat', 'TIFF'),
    ('x.jpg', 'MPO'),
  ],
)
def test_every_format_is_taken_whatever_its_name(tmp_path, name, kind):
  save(tmp_path / 'a.png', (0, 0, 0))
  save(tmp_path / name, (255, 255, 255), format=kind)
  (tmp_path / 'notes.txt').write_text('not an image')
  (tmp_path / 'table.csv').write_text('a,b')
  dataset = folder.load(path=tmp_path, size=4)
  assert dataset.size == 2
  np.testing.assert_allclose(dataset.take([1]).x, 1, atol=0.02)
  assert dataset.note.endswith('; skipped files: notes.txt, table.csv')


def test_what_is_left_out_of_classes_is_named_too(tmp_path):
  save(tmp_path / 'cat' / 'a.png', (0, 0, 0))
  assert 'skipped' not in folder.load(path=tmp_path, size=4).note
  (tmp_path / 'cat' / 'a.xml').write_text('<cat/>')
  (tmp_path / 'cat' / '.hidden').write_text('')
  (tmp_path / 'README').write_text('cats')
  dataset = folder.load(path=tmp_path, size=4)
  assert dataset.note.endswith('; skipped files: README, cat/a.xml')


def gradient(path, height=8, width=16):
  """Saves an image whose red rises with x and whose green with y."""
  y, x = np.mgrid[:height, :width]
  red, green = 255 * x // max(width - 1, 1), 255 * y // (height - 1)
  pixels = np.stack([red, green, 0 * x], -1).astype(np.uint8)
  Image.fromarray(pixels).save(path)
  return pixels / np.float32(255)


def test_an_image_can_be_padded(tmp_path):
  pixels = gradient(tmp_path / 'wide.png')
  x = folder.load(path=tmp_path, size=16, fit='pad').take([0]).x[0]
  np.testing.assert_array_equal(x[4:12], pixels)
  assert not x[:4].any() and not x[12:].any()
  half = folder.load(path=tmp_path, size=8, fit='pad').take([0]).x[0]
  assert (
    not half[:2].any() and not half[6:].any() and half[2:6, -1].all(0).any()
  )
  gradient(tmp_path / 'wide.png', 400, 1)
  thin = folder.load(path=tmp_path, size=4, fit='pad').take([0]).x[0]
  assert not thin[:, [0, 2, 3]].any() and thin[:, 1].any()


def test_an_image_can_be_stretched(tmp_path):
  pixels = gradient(tmp_path / 'wide.png')
  x = folder.load(path=tmp_path, size=8, fit='stretch').take([0]).x[0]
  assert x.shape == (8, 8, 3)
  np.testing.assert_allclose(x[..., 1], pixels[:, ::2, 1], atol=0.02)
  pairs = pixels[..., 0].reshape(8, 8, 2).mean(-1)
  np.testing.assert_allclose(x[:, 1:-1, 0], pairs[:, 1:-1], atol=0.02)


def test_images_can_be_kept_as_they_are(tmp_path):
  pixels = gradient(tmp_path / 'a.png')
  turned = tmp_path / 'b.png'
  exif = Image.Exif()
  exif[0x0112] = 6  # turned by a quarter
  with Image.open(tmp_path / 'a.png') as image:
    image.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
  dataset = folder.load(path=tmp_path, fit='keep')
  assert dataset.image_shape == (8, 16, 3)
  np.testing.assert_array_equal(dataset.take([0, 1]).x, [pixels, pixels])
  grey = folder.load(path=tmp_path, fit='keep', channels=1)
  assert grey.image_shape == (8, 16, 1)
  save(tmp_path / 'c.png', (0, 0, 0), (8, 15))
  message = error_of(folder.load, path=tmp_path, fit='keep')
  assert '8x16 in a.png and 8x15 in c.png' in message


def test_fit_and_size_belong_together(tmp_path):
  save(tmp_path / 'x.png', (0, 0, 0))
  load = functools.partial(folder.load, path=tmp_path)
  assert "size=None, fit='crop'" in error_of(load)
  assert "size=4, fit='keep'" in error_of(load, size=4, fit='keep')
  assert 'crop, keep, pad, stretch' in error_of(load, size=4, fit='squash')


def test_exif_orientation_is_applied(tmp_path):
  pixels = np.zeros((4, 4, 3), np.uint8)
  pixels[0] = 255
  exif = Image.Exif()
  exif[0x0112] = 3  # rotated by 180 degrees
  Image.fromarray(pixels).save(tmp_path / 'x.png', exif=exif)
  x = folder.load(path=tmp_path, size=4).take([0]).x[0]
  np.testing.assert_array_equal(x, pixels[::-1] / 255)


@pytest.mark.parametrize(
  'suffix', ['png', 'jpg', 'jfif', 'gif', 'webp', 'tif', 'bmp']
)
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


_FOREIGN = {
  'eps': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n',
  'ppm': b'P6\n2 2\n255\n' + bytes(12),
  # The size is in the header, behind which there is nothing.
  'bomb': b'BM' + bytes(12) + struct.pack('<IiiHH', 40, 9500, 9500, 1, 24),
  'more': b'BM' + bytes(12) + struct.pack('<IiiHH', 40, 30000, 30000, 1, 24),
}


@pytest.mark.parametrize('kind', _FOREIGN)
def test_content_decides_what_is_opened(tmp_path, kind, monkeypatch):
  def started(*args, **kwargs):
    raise AssertionError('Ghostscript was started')

  monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', started)
  (tmp_path / 'x.png').write_bytes(_FOREIGN[kind] + bytes(24))
  with warnings.catch_warnings(record=True) as warned:
    images = folder.load(path=tmp_path, size=8)
    error = error_of(images.take, [0])
    error_of(folder.load, path=tmp_path, fit='keep')
  words = 'exceeds limit' if kind in ('bomb', 'more') else 'cannot identify'
  assert words in error and not warned


def test_pipes_devices_and_dead_links_are_not_opened(tmp_path):
  save(tmp_path / 'a.png', 'red')
  os.mkfifo(tmp_path / 'b.png')
  (tmp_path / 'c.png').symlink_to('/dev/zero')
  (tmp_path / 'd.png').symlink_to('nowhere')
  images = folder.load(path=tmp_path, size=4)
  assert images.size == 1
  assert images.note.endswith('; skipped files: b.png, c.png, d.png')
  (tmp_path / 'a.png').unlink()
  os.mkfifo(tmp_path / 'a.png')  # since then
  assert 'not a regular file' in error_of(images.take, [0])


def test_a_damaged_tiff_is_one_line(tmp_path, capfd):
  pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
  path = tmp_path / 'x.tif'
  Image.fromarray(pixels).save(path, compression='tiff_deflate')
  raw = bytearray(path.read_bytes())
  raw[300:400] = bytes(100)
  path.write_bytes(raw)
  with pytest.raises(ValueError, match=r'^Expected a readable image'):
    folder.load(path=tmp_path, size=8).take([0])
  assert capfd.readouterr().err == ''  # libtiff writes past Python


def test_names_cannot_move_the_cursor(tmp_path):
  save(tmp_path / 'tea\x1b[2J' / 'a.png', 'red')
  (tmp_path / 'tea\x1b[2J' / 'b\n.txt').write_text('')
  images = folder.load(path=tmp_path, size=4)
  assert images.class_names == (r'tea\x1b[2J',)
  assert images.note.endswith(r'skipped files: tea\x1b[2J/b\n.txt')
