"""Tests of the data sets of objects: shapes, and folders with boxes."""

import numpy as np
from PIL import Image
import pytest

from giajax.data import coco_folder
from giajax.data import shapes
from giajax.tasks.parts import objects


def test_shapes_are_where_their_boxes_say():
  data = shapes.load(size=64, count=8)
  assert data.class_names == ('rectangle', 'disc') and data.size == 8
  x, y = data.take(range(8))
  plain = shapes.photographs.load(size=64).take(range(8)).x
  for i in range(8):
    changed = np.argwhere((np.asarray(x[i]) != np.asarray(plain[i])).any(-1))
    own = np.asarray(y.boxes[i][np.asarray(y.valid[i])]) * 64
    top, left = own[:, 1].min(), own[:, 0].min()
    bottom, right = own[:, 3].max(), own[:, 2].max()
    low, high = changed.min(0), changed.max(0) + 1
    np.testing.assert_allclose(low, [top, left], atol=1)
    np.testing.assert_allclose(high, [bottom, right], atol=1)
  assert shapes.load(size=64, count=3).take([2]).y.classes.shape == (1, 4)


def _folder(tmp_path, text='0 0.5 0.5 0.5 0.25\n', names='names:\n  0: ape\n'):
  (tmp_path / 'images').mkdir()
  (tmp_path / 'labels').mkdir()
  for name in ('a', 'b'):
    Image.new('RGB', (40, 20), (200, 0, 0)).save(
      tmp_path / f'images/{name}.png'
    )
  (tmp_path / 'labels/a.txt').write_text(text)
  if names:
    (tmp_path / 'data.yaml').write_text(names)
  return tmp_path


def test_a_folder_of_boxes(tmp_path):
  data = coco_folder.load(path=_folder(tmp_path), size=64, max_objects=3)
  assert data.class_names == ('ape',) and data.image_shape == (64, 64, 3)
  x, y = data.take([0, 1])
  np.testing.assert_allclose(y.boxes[0, 0], [0.25, 0.4375, 0.75, 0.5625])
  assert y.valid.tolist() == [[True, False, False], [False] * 3]
  np.testing.assert_allclose(x[0, 0], 114 / 255)  # the bar above
  assert data.content_of([1]).tolist() == [[16, 0, 48, 64]]
  assert shapes.load(size=64).content_of([1]).tolist() == [[0, 0, 64, 64]]
  assert len(data.files) == 3  # images and boxes decide the results


def test_the_class_of_an_image_is_that_of_its_largest_object(tmp_path):
  text = '1 0.2 0.2 0.1 0.1\n2 0.5 0.5 0.5 0.5\n'
  folder = _folder(tmp_path, text, names='')
  data = coco_folder.load(path=folder, size=64, num_classes=4)
  assert data.labels.tolist() == [2, 0] and data.class_names[2] == '2'


@pytest.mark.parametrize(
  ('text', 'kwargs', 'words'),
  [
    ('0 0.5 0.5 0.5\n', {}, r'a box in \[0, 1\].*a\.txt:1'),
    ('0 0.5 0.5 0.5 1.5\n', {}, 'correct the line'),
    ('0 nan 0.5 0.5 0.5\n', {}, 'correct the line'),
    ('dog 0.5 0.5 0.5 0.5\n', {}, "'dog 0.5"),
    ('1 0.5 0.5 0.5 0.5\n', {}, r'a class in \[0, 1\); got 1'),
    ('0 0.5 0.5 0 0.5\n', {}, 'of some width and height'),
    ('0 .5 .5 .5 .5\n' * 4, {'max_objects': 3}, 'at most max_objects=3.*got 4'),
    ('', {'size': 60}, 'that 32 divides.*use 64'),
    ('', {'max_objects': 0}, 'max_objects=0'),
    ('', {'fill': 300}, 'fill=300'),
  ],
)
def test_odd_folders_are_refused(tmp_path, text, kwargs, words):
  with pytest.raises(ValueError, match=words):
    coco_folder.load(path=_folder(tmp_path, text), **{'size': 64, **kwargs})


def test_missing_parts_are_named(tmp_path):
  with pytest.raises(ValueError, match='a folder that has images'):
    coco_folder.load(path=tmp_path)
  folder = _folder(tmp_path, names='')
  with pytest.raises(ValueError, match=r'set dataset.num_classes'):
    coco_folder.load(path=folder, size=64)
  (folder / 'data.yaml').write_text('names: [')
  with pytest.raises(ValueError, match=r'a \.yaml file that can be read'):
    coco_folder.load(path=folder, size=64)


GOOD = objects.padded([[0, 0, 0.5, 0.5]], [1], 2, 'one')


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({}, None),
    ({'boxes': [[[0, 0, 1.5, 1], [0] * 4]]}, r'boxes in \[0, 1\].*\(1 of 1'),
    ({'boxes': [[[0.5, 0, 0.5, 1], [0] * 4]]}, 'width and height'),
    ({'boxes': [[[np.nan] * 4, [0] * 4]]}, 'finite boxes'),
    ({'classes': [[3, 0]]}, r'classes in \[0, 3\); got 3'),
    ({'classes': [[1.0, 0.0]]}, r'classes \[1, G\] of integers'),
    ({'valid': [[1, 0]]}, 'of bools'),
    ({'boxes': [[0, 0, 1, 1]]}, 'objects of 1 images'),
  ],
)
def test_odd_objects_are_refused(changes, words):
  made = {n: np.asarray(v)[None] for n, v in GOOD._asdict().items()}
  for name, value in changes.items():
    kind = np.float32 if name == 'boxes' else None
    made[name] = np.asarray(value, kind)
  if words is None:
    objects.check(made, 1, 3)
    return
  with pytest.raises(ValueError, match=words):
    objects.check(made, 1, 3)


def test_other_targets_are_no_objects():
  with pytest.raises(ValueError, match='a data set with boxes'):
    objects.check(np.zeros(3, int), 3, 3)


@pytest.mark.parametrize(
  ('text', 'kwargs', 'words'),
  [
    ('84 .5 .5 .5 .5\n', {'num_classes': 80}, 'COCO’s own ids, 1 to 90'),
    ('84 .5 .5 .5 .5\n', {'num_classes': 84}, 'to the label set of these'),
    ('91 .5 .5 .5 .5\n', {'num_classes': 80}, 'to the label set of these'),
  ],
)
def test_ids_of_another_label_set_are_named(tmp_path, text, kwargs, words):
  folder = _folder(tmp_path, text, names='')
  with pytest.raises(ValueError, match=words) as error:
    coco_folder.load(path=folder, size=64, **kwargs)
  assert '\n' not in str(error.value) and 'a.txt:1' in str(error.value)


def test_objects_are_counted_and_the_splits_differ():
  tested, taught = (
    shapes.load(size=64, count=16, split=split) for split in ('test', 'train')
  )
  valid = tested.take(range(16)).y.valid
  np.testing.assert_array_equal(tested.objects, valid.sum(1))
  assert (tested.take([3]).x != taught.take([3]).x).any()
  assert tested.name == 'shapes' and 'train' in taught.name
  with pytest.raises(ValueError, match=r"test, train\); got split='held_out'"):
    shapes.load(split='held_out')
