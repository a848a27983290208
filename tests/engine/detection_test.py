"""Small audits of detectors."""

import jax
import numpy as np
from PIL import Image
import pytest

from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import run as engine
from giajax.report import report
from giajax.results import collection
from giajax.tasks.parts import set_matching

# A detector of the form of DETR, and what is granted to an oracle of it.
CELLS = {'name': 'tests.detectors:cells'}
ORACLE = {'name': 'detection', 'loss': 'detr', 'matching': 'oracle'}
TOLD = ('labels', 'boxes', 'matching')


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


def test_what_is_beside_bars_is_scored_apart(tmp_path):
  for name in ('images', 'labels'):
    (tmp_path / name).mkdir()
  rng = np.random.default_rng(0)
  for i in range(3):
    pixels = rng.integers(0, 256, (20, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f'images/{i}.png')
    (tmp_path / f'labels/{i}.txt').write_text('0 .5 .5 .5 .5\n')
  data = dict(name='coco_folder', path=str(tmp_path), size=64, num_classes=1)
  config = _config(dataset=data, regions__content=True, ssim_range6=True)
  config.attack.num_steps = 2
  (row,) = engine.audit(config, tmp_path / 'run')
  run = collection.read(tmp_path / 'run')
  x, x_hat = (collection.array(run, row, n)[0] for n in ('x', 'x_hat'))
  own = np.square(x - x_hat)[16:48].mean()
  assert row['psnr_in_content'] == pytest.approx(-10 * np.log10(own), abs=1e-3)
  # The mean image knows the bars, and nothing else.
  mean = row['baselines']['mean_image']
  assert mean['psnr_in_content'] == pytest.approx(
    mean['psnr'] - 10 * np.log10(2), abs=0.01
  )
  assert mean['ssim_in_content'] < mean['ssim']
  assert row['ssim_range6'] < row['ssim_range6_grey'] < 1
  assert 'lpips_in_content' not in row


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
    cases__rule='objects',
    cases__objects=(2, 3),
  )
  for row in engine.audit(config, tmp_path):
    assert not row['labels_granted'] and 0 <= row['labels_recovered'] <= 1
    assert 'known boxes' not in row['setting_reasons']
  run = collection.read(tmp_path)
  for row in run.rows:
    valid = collection.targets(run, row, 'y')['valid']
    assert 2 <= valid.sum() <= 3
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


def test_all_targets_of_a_set_are_optimised(tmp_path):
  attack = {'name': 'inverting_gradients', 'num_steps': 3, 'joint': True}
  config = _config(
    model=CELLS,
    task={'name': 'detection', 'loss': 'detr', 'slots': 3},
    attack=attack,
    threat__grants=(),
  )
  (row,) = engine.audit(config, tmp_path)
  assert np.isfinite(row['score']) and not row['labels_granted']
  run = collection.read(tmp_path)
  claimed = collection.targets(run, run.rows[0], 'y_hat')
  assert claimed['classes'].shape[-1] == 3 and claimed['valid'].all()


def test_an_oracle_tells_the_matching_of_the_client_and_no_more():
  grants = {'threat__grants': TOLD, 'cases__batch_size': 2}
  oracle = build.setup(
    build.resolve(_config(model=CELLS, task=ORACLE, **grants))
  )
  task = {**ORACLE, 'matching': 'each step'}
  plain = build.setup(build.resolve(_config(model=CELLS, task=task, **grants)))
  item = oracle.source.item(oracle, 0)
  seen, own = (exchange.player(s)(item)[0] for s in (oracle, plain))
  jax.tree.map(np.testing.assert_array_equal, seen.update, own.update)
  out = plain.net.apply(plain.variables, item.batch.x).out
  expected = set_matching.match(out, item.batch.y)
  np.testing.assert_array_equal(seen.side['matching'], expected)
  assert {*seen.side} == {*TOLD} and {*own.side} == {*TOLD} - {'matching'}


def test_an_oracle_is_named_as_a_reason(tmp_path):
  config = _config(model=CELLS, task=ORACLE, threat__grants=TOLD)
  (row,) = engine.audit(config, tmp_path)
  assert row['setting'] == 'diagnostic'
  assert 'known matching' in row['setting_reasons']
  assert np.isfinite(row['score'])
  page = report.write(tmp_path).read_text()
  assert 'The attacker was told which predictions' in page


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (dict(threat__grants=('labels', 'boxes')), '[(]batch_size.*out matching;'),
    (
      dict(labels='present_classes', threat__grants=TOLD),
      "labels='granted' for task.matching='oracle'",
    ),
    (
      dict(
        threat__grants=TOLD,
        attack={'name': 'inverting_gradients', 'joint': True},
      ),
      'whose matching can be optimised',
    ),
    (
      dict(
        threat__grants=TOLD,
        client={'name': 'fedavg', 'epochs': 2, 'learning_rate': 0.1},
      ),
      'one local step for task.matching.*got 2 steps',
    ),
  ],
)
def test_what_an_oracle_does_not_go_with_is_refused(tmp_path, changes, words):
  config = _config(model=CELLS, task=ORACLE, **changes)
  with pytest.raises(ValueError, match=words) as error:
    engine.audit(config, tmp_path)
  assert '\n' not in str(error.value)


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
