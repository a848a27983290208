"""Tests of giajax.metrics.lpips against the authors' figures."""

from typing import Any

import numpy as np
from PIL import Image
import pytest

from giajax.metrics import lpips


@pytest.fixture(scope='module')
def folder(shared_data):
  return shared_data / 'weights' / 'lpips'


@pytest.fixture(scope='module')
def distance(folder):
  return lpips.load(folder / 'alexnet.npz')


@pytest.fixture(scope='module')
def golden(folder):
  return [
    np.asarray(Image.open(folder / f'golden_ex_{name}.png'), np.float32) / 255
    for name in ('ref', 'p0', 'p1')
  ]


def random_weights(seed=0) -> dict[str, Any]:
  key = np.random.default_rng(seed)
  return {
    name: key.standard_normal(shape).astype(np.float32) / 10
    for name, shape in lpips.SHAPES.items()
  }


def test_golden_pairs_of_the_authors(distance, golden):
  ref, p0, p1 = golden
  found = distance(np.stack([ref, ref, ref]), np.stack([p0, p1, ref]))
  np.testing.assert_allclose(found, [0.722, 0.138, 0], atol=1e-3)


def test_symmetric_and_shaped_like_the_batch(distance, golden):
  ref, p0, _ = golden
  assert distance(ref, p0).shape == ()
  np.testing.assert_allclose(distance(ref, p0), distance(p0, ref), rtol=1e-5)
  assert distance(ref[None, None], p0[None, None]).shape == (1, 1)


def test_grey_equals_repeated_channels(distance, golden):
  ref, p0, _ = golden
  grey = distance(ref[..., :1], p0[..., :1])
  rgb = distance(np.repeat(ref[..., :1], 3, -1), np.repeat(p0[..., :1], 3, -1))
  np.testing.assert_allclose(grey, rgb, rtol=1e-6)


def test_smallest_side():
  weights = random_weights()
  x = np.random.default_rng(1).random((2, lpips.MIN_SIDE, 40, 3), np.float32)
  row = lpips.distance
  assert np.all(np.isfinite(row(x, x[::-1], weights=weights)))
  with pytest.raises(ValueError, match=r'at least 31x31.*shape'):
    row(x[:, 1:], x[:, 1:], weights=weights)
  with pytest.raises(ValueError, match='1 or 3'):
    row(x[..., :2], x[..., :2], weights=weights)


def test_wrong_names_and_shapes_are_listed(tmp_path):
  weights = random_weights()
  weights['extra'] = weights.pop('AlexNet_0.Conv_2.bias')
  weights['AlexNet_0.Conv_0.bias'] = np.zeros(7, np.float32)
  np.savez(tmp_path / 'x.npz', **weights)
  with pytest.raises(ValueError, match='Expected') as info:
    lpips.load(tmp_path / 'x.npz')
  for part in (
    "missing=['AlexNet_0.Conv_2.bias']",
    "surplus=['extra']",
    'AlexNet_0.Conv_0.bias (7,) for (64,)',
  ):
    assert part in str(info.value)


def test_unreadable_files_give_one_line(tmp_path):
  path = tmp_path / 'x.npz'
  np.savez(path, **random_weights())
  whole = path.read_bytes()
  flipped = bytearray(whole)
  flipped[len(whole) // 2] ^= 255  # caught by the checksum
  np.save(tmp_path / 'one.npy', np.zeros(3))
  np.savez(tmp_path / 'pickled.npz', x=np.array([{}], dtype=object))
  bad = {
    'truncated': whole[: len(whole) // 2],
    'flipped': bytes(flipped),
    'empty': b'',
    'array': (tmp_path / 'one.npy').read_bytes(),
    'pickled': (tmp_path / 'pickled.npz').read_bytes(),
  }
  for name, content in bad.items():
    path.write_bytes(content)
    with pytest.raises(ValueError, match='whole npz') as info:
      lpips.load(path)
    assert '\n' not in str(info.value), name
  with pytest.raises(ValueError, match='does not exist'):
    lpips.load(tmp_path / 'nowhere.npz')
