"""Tests of giajax.data.arrays and of the units of its values."""

import numpy as np
import pytest

from giajax.data import arrays
from giajax.data import scale as scales

X = np.linspace(0, 1, 3 * 2 * 4 * 5, dtype=np.float32).reshape(3, 2, 4, 5)


def _saved(tmp_path, **content):
  path = tmp_path / 'own.npz'
  np.savez(path, **content)
  return path


def test_images_of_any_shape_with_classes(tmp_path):
  data = arrays.load(path=_saved(tmp_path, x=X, y=np.array([2, 0, 1])))
  assert data.image_shape == (2, 4, 5) and data.num_classes == 3
  assert data.class_names == ('0', '1', '2') and data.labels.tolist() == [
    2,
    0,
    1,
  ]
  batch = data.take([2, 0])
  np.testing.assert_array_equal(batch.x, X[[2, 0]])
  assert batch.y.tolist() == [1, 2] and batch.y.dtype == np.int32
  assert data.files[0].name == 'own.npz' and data.scale is None


def test_bytes_are_images(tmp_path):
  x = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)
  data = arrays.load(path=_saved(tmp_path, x=x, y=np.array([0])))
  np.testing.assert_allclose(np.ravel(data.take([0]).x), [0, 0.2, 1])


def test_targets_of_several_parts(tmp_path):
  y = {'y.angle': np.ones(3), 'y.box': np.zeros((3, 4), np.int64)}
  data = arrays.load(path=_saved(tmp_path, x=X, **y), num_classes=7)
  assert data.num_classes == 7 and data.labels.tolist() == [0, 0, 0]
  own = data.take([1]).y
  assert own['angle'].dtype == np.float32 and own['box'].shape == (1, 4)


def test_the_size_of_the_targets_is_the_number_of_outputs(tmp_path):
  path = _saved(tmp_path, x=X, y=np.zeros((3, 6)))
  assert arrays.load(path=path).num_classes == 6


def test_rows_of_a_table_have_units(tmp_path):
  rows = np.array([[10.0, -1.0], [20.0, 3.0]])
  data = arrays.load(
    path=_saved(tmp_path, x=rows, y=np.array([0, 1])),
    low=(0, -1),
    high=(20, 3),
    columns=('age', 'income'),
  )
  assert data.image_shape == (1, 1, 2) and data.scale.names == ('age', 'income')
  x = data.take([0, 1]).x
  np.testing.assert_allclose(x[:, 0, 0], [[0.5, 0], [1, 1]])
  np.testing.assert_allclose(scales.from_unit(x[:, 0, 0], data.scale), rows)


ODD = {
  'no x': (dict(y=np.zeros(3)), {}, r'got none of y'),
  'a cube': (dict(x=np.zeros((3, 2, 2)), y=np.zeros(3)), {}, 'shape='),
  'no y': (dict(x=X), {}, 'each of 3 images; got none'),
  'short': (dict(x=X, y=np.zeros(2)), {}, r'got y of shape \(2,\)'),
  'part': (
    {'x': X, 'y.a': np.zeros(2)},
    {},
    r'got y.a of shape \(2,\)',
  ),
  'range': (dict(x=2 * X, y=np.zeros(3, int)), {}, r'in \[0, 1\]'),
  'unit': (
    dict(x=X, y=np.zeros(3, int)),
    dict(high=0.5),
    'values of channel .* from 0 to 0.5; got',
  ),
  'width': (dict(x=X, y=np.zeros(3, int)), dict(high=0), 'low < high'),
  'count': (
    dict(x=X, y=np.zeros(3, int)),
    dict(high=(1, 1)),
    'one high or one for each of 5 channels; got 2',
  ),
  'names': (
    dict(x=X, y=np.zeros(3, int)),
    dict(columns=('a',)),
    'a name for each of 5 channels; got 1',
  ),
  'not a number': (dict(x=X, y=np.zeros(3, int)), dict(low=np.nan), 'finite'),
  'text': (
    dict(x=np.full((3, 2), 'a'), y=np.zeros(3, int)),
    {},
    'Expected',
  ),
  'outputs': (dict(x=X, y=np.zeros(3)), {}, 'set dataset.num_classes'),
  'classes': (dict(x=X, y=np.array([0, 5, 1])), dict(num_classes=3), 'label=5'),
  'class names': (
    dict(x=X, y=np.array([0, 1, 1])),
    dict(class_names=('a',)),
    'each of 2 classes; got 1',
  ),
}


@pytest.mark.parametrize('case', sorted(ODD))
def test_odd_files_are_refused(tmp_path, case):
  content, kwargs, words = ODD[case]
  with pytest.raises(ValueError, match=words):
    arrays.load(path=_saved(tmp_path, **content), **kwargs)


def test_a_scale_of_nothing_special_is_none():
  assert scales.make(0.0, (1.0, 1.0), (), 2) is None
  assert scales.shape_of((5,)) == (1, 1, 5)
  assert scales.is_row((1, 1, 5)) and not scales.is_row((1, 2, 5))
