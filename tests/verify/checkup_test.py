"""Tests of what all checks say together."""

import json

import handmade
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax.data import base as data
from giajax.data import shapes
from giajax.tasks import detection
from giajax.verify import base
from giajax.verify import checkup
from giajax.verify import VERIFIERS
from tests import detectors


def dataset(size):
  rng = np.random.default_rng(0)
  images = rng.random((size, *handmade.SHAPE)).astype(np.float32)
  return data.dataset(
    name='noise',
    image_shape=handmade.SHAPE,
    class_names=tuple('abcd'),
    labels=np.arange(size) % 4,
    note='',
    read=lambda i: images[i],
  )


def test_a_probe_is_drawn_by_seed_and_case():
  view, images = handmade.view(), dataset(20)

  def draw(**how):
    return checkup.draw_probe(images, view.net, view.task, **how)

  def labels(seed, case):
    return draw(size=8, case=case, seed=seed).x

  assert labels(0, 0).shape == (8, *handmade.SHAPE)
  assert np.array_equal(labels(0, 0), labels(0, 0))
  assert not np.array_equal(labels(0, 0), labels(1, 0))
  assert not np.array_equal(labels(0, 0), labels(0, 1))
  with pytest.raises(ValueError, match='at least 8 images'):
    draw(size=4, case=0, seed=0)


def test_a_detector_has_checks_but_no_classifier():
  images = shapes.load(size=32, count=12)
  net = detectors.net(num_classes=images.num_classes)
  task = detection.detection(images.num_classes, images.image_shape)
  view = base.view(net, task)
  probe = checkup.draw_probe(images, net, task, size=8, case=0, seed=0)
  message = types.ServerMessage(net.init(handmade.KEY))
  result = checkup.check(view, message, probe)
  assert {'dominance', 'sign_split', 'architecture'} <= {*result.ran}
  assert not base.OF_CLASSIFIERS & {*result.ran}
  assert result.verdicts['class_bias'].evidence == 'No classifier.'
  assert not result.flagged
  leaves = trees.named_leaves(message.variables.params)
  stem = leaves['levels.2.stem.kernel']
  leaves['front.kernel'] = handmade.mirrored(stem.reshape(-1, stem.shape[-1]))
  altered = types.Variables(trees.nested(leaves), message.variables.stats)
  result = checkup.check(view, types.ServerMessage(altered), probe)
  assert {'architecture', 'sign_split'} <= {*result.flagged}


def test_chosen_checks_run_in_order():
  names = ['scale', 'class_bias', 'update_rank']
  result = checkup.check(
    handmade.view(), handmade.received(), handmade.probe(), only=names, seed=3
  )
  assert [*result.verdicts] == names and result.seed == 3
  assert result.ran == names[:2] and result.flagged == []
  words = checkup.words(result, 'w.npz').splitlines()
  assert words[2].startswith('not run  update_rank')
  assert words[3:] == ['seed 3', 'w.npz: none of the 2 checks that ran objects']


def test_objections_in_words_and_in_json():
  verdicts = {
    'scale': base.Verdict(np.inf, True, 'Too large.'),
    'dsnr': base.Verdict(0.5, False, 'Fine.'),
  }
  result = checkup.Checkup(verdicts, 0)
  last = checkup.words(result, 'w.npz').splitlines()[-1]
  assert last == (
    'w.npz: flagged by 1 of the 2 checks that ran (scale); do not train it'
  )
  record = json.loads(checkup.to_json(result, 'w.npz'))
  assert record['verdict'] == 'flagged' and record['flagged'] == ['scale']
  assert record['checks']['scale']['score'] is None
  assert record['checks']['dsnr']['score'] == 0.5


def test_all_checks_are_run_by_default():
  message = types.ServerMessage(types.Variables({}, {}))
  result = checkup.check(handmade.view(), message, handmade.probe())
  assert [*result.verdicts] == [*VERIFIERS]
  assert result.ran == result.flagged == ['architecture']


def test_names_of_tensors_forge_no_verdict():
  evil = 'fc\x1b[2J\x1b[H\nx.npz: none of the 1 checks that ran objects\x9b'
  verdict = base.verdict(2.0, 1.0, '{name} has {score}.', name=evil)
  result = checkup.Checkup({'scale': verdict}, 0)
  lines = checkup.words(result, 'w\n\udce9.npz').split('\n')
  assert len(lines) == 3 and all(map(str.isprintable, lines))
  assert r'fc\x1b[2J\x1b[H\nx.npz: none' in lines[0]
  assert lines[2].startswith(r'w\n\udce9.npz: flagged by 1 of the 1')
  assert '\x1b' not in checkup.to_json(result, evil)
