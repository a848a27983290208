"""Tests of giajax.data.tfds_objects, on records as tfds hands them out."""

import io
import types

import numpy as np
from PIL import Image
import pytest

from giajax.data import tfds_objects
from giajax.data import tfds_source


def _record(boxes, labels, crowd):
  stream = io.BytesIO()
  Image.new('RGB', (80, 40), (200, 0, 0)).save(stream, 'PNG')
  # Without TensorFlow, sequences are lists, and [] where there is nothing.
  own = {'bbox': boxes, 'label': labels, 'is_crowd': crowd}
  return {'image': stream.getvalue(), 'objects': own}


class _Source(list):
  """What `tfds.data_source` returns."""

  def __init__(self, records, names=('ape', 'bee'), key='objects'):
    super().__init__(records)
    label = types.SimpleNamespace(names=names)
    own = types.SimpleNamespace(feature={'bbox': None, 'label': label})
    self.dataset_info = types.SimpleNamespace(
      features={'image': None, key: own},
      full_name='own/1.0.0',
      splits={'test': types.SimpleNamespace(filepaths=[])},
    )


@pytest.fixture
def given(monkeypatch):
  def give(*records, **kwargs):
    source = _Source(records, **kwargs)
    monkeypatch.setattr(tfds_source, 'opened', lambda *args: source)

  return give


def test_boxes_are_reordered_and_moved(given):
  boxes = [[0.0, 0.25, 0.5, 0.75], [0, 0, 1, 1], [0.5, 0.5, 0.5, 0.9]]
  given(_record(boxes, [1, 0, 0], [False, True, False]), _record([], [], []))
  data = tfds_objects.load(dataset='own', split='test', size=64, max_objects=3)
  x, y = data.take([0, 1])
  np.testing.assert_allclose(y.boxes[0, 0], [0.25, 0.25, 0.75, 0.5])
  # A crowd, and a box without height, are left out.
  assert y.valid.tolist() == [[True, False, False], [False] * 3]
  assert data.labels.tolist() == [1, 0] and data.name == 'own/1.0.0'
  np.testing.assert_allclose(x[0, 32, 32], [200 / 255, 0, 0], atol=1e-6)


def test_mistakes_give_one_line(given):
  load = dict(dataset='own', split='test', size=64)
  given(_record([[0, 0, 1, 1]] * 3, [0] * 3, [False] * 3))
  with pytest.raises(ValueError, match=r'max_objects=2 .* got 3 in record 0'):
    tfds_objects.load(**load, max_objects=2)
  given(_record([], [], []), key='things')
  with pytest.raises(ValueError, match="a feature 'objects' with bbox"):
    tfds_objects.load(**load)
  with pytest.raises(ValueError, match='that 32 divides'):
    tfds_objects.load(**{**load, 'size': 50})
