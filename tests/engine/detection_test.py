"""Small audits of a detector."""

import numpy as np
import pytest

from giajax.engine import build
from giajax.engine import run as engine
from giajax.report import report
from giajax.results import collection


def _config(**changes):
  config = build.default_config()
  config.dataset = {'name': 'shapes', 'size': 64, 'count': 6}
  config.model = {'name': 'tests.detectors:net'}
  config.task = {'name': 'detection'}
  config.attack = {'name': 'inverting_gradients', 'num_steps': 15}
  config.threat.grants = ('labels', 'boxes')
  config.regions.boxes = True
  config.image_share = True
  for key, value in changes.items():
    node, _, leaf = key.rpartition('__')
    setattr(getattr(config, node) if node else config, leaf, value)
  return config


def test_known_objects_are_drawn_and_named(tmp_path):
  (row,) = engine.audit(_config(), tmp_path)
  assert row['setting_reasons'][:3] == [
    'batch of one image',
    'known labels',
    'known boxes',
  ]
  assert row['labels_granted'] and row['labels_recovered'] == pytest.approx(1)
  assert np.isfinite([row['psnr_in_boxes'], row['ssim_in_boxes']]).all()
  assert 0 < row['image_share'] < 2
  assert row['accuracy'] is not None  # a detector says where objects are
  page = report.write(tmp_path).read_text()
  run = collection.read(tmp_path)
  y = collection.targets(run, row, 'y')
  assert page.count('<rect') == 2 * y['valid'].sum()  # original and recovered
  assert 'disc' in page or 'rectangle' in page
  redacted = report.write(tmp_path, redact=True).read_text()
  assert '<rect' not in redacted


def test_classes_are_inferred_and_boxes_optimised(tmp_path):
  config = _config(
    labels='present_classes',
    threat__grants=(),
    attack={
      'name': 'inverting_gradients',
      'num_steps': 15,
      'joint': ('boxes',),
    },
    cases__count=2,
  )
  for row in engine.audit(config, tmp_path):
    assert not row['labels_granted'] and 0 <= row['labels_recovered'] <= 1
    assert 'known boxes' not in row['setting_reasons']
  run = collection.read(tmp_path)
  claimed = collection.targets(run, run.rows[0], 'y_hat')
  assert (
    claimed['boxes'].shape[-1] == 4 and claimed['classes'].dtype.kind == 'i'
  )


def test_all_targets_are_optimised_by_moments_or_not(tmp_path):
  found = []
  for form in ('moments', 'explicit'):
    attack = {
      'name': 'inverting_gradients',
      'num_steps': 3,
      'joint': True,
      'form': form,
    }
    config = _config(threat__grants=(), attack=attack)
    (row,) = engine.audit(config, tmp_path / form)
    found.append(row['score'])
  np.testing.assert_allclose(*found, rtol=1e-3)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (dict(threat__grants=('labels',)), 'without boxes'),
    (dict(labels='idlg', threat__grants=('boxes',)), 'task classification'),
    (dict(defense={'name': 'mixup'}), 'for mixup'),
    (dict(gradient_share=True), 'the mean of its images'),
    (dict(attack={'name': 'r_gap'}), 'task classification'),
    (dict(model={'name': 'mlp'}), 'a network that returns boxes and scores'),
    (dict(task={'name': 'detection', 'loss': 'ssd'}), 'detr, yolo'),
    (
      dict(attack={'name': 'inverting_gradients', 'joint': ('box',)}),
      "did you mean 'boxes'",
    ),
    (
      dict(dataset={'name': 'photographs', 'size': 64}),
      'use a data set with boxes',
    ),
    (
      dict(task={'name': 'classification'}, regions__boxes=False),
      'labels of 1 images',
    ),
  ],
)
def test_what_does_not_go_together_is_refused(tmp_path, changes, words):
  with pytest.raises(ValueError, match=words) as error:
    engine.audit(_config(**changes), tmp_path)
  assert '\n' not in str(error.value)
