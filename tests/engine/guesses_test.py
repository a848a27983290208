"""Tests of what an update is compared with."""

import jax
import numpy as np
import tiny

from giajax import archives
from giajax import types
from giajax.data import photographs
from giajax.engine import build
from giajax.engine import guesses
from giajax.engine import identity
from giajax.engine import run
from giajax.engine import setting
from giajax.engine.sources import simulated
from giajax.generative import base as generative
from giajax.generative import dcgan
from giajax.generative import GENERATORS
from giajax.models import convert
from giajax.report import report

_SHAPE = (12, 12, 3)
_RIVAL = photographs.load(size=16)


def _learned(setup):
  """Returns a setup whose attack uses what was learned from auxiliary data."""
  needs = setup.attack.needs | {'auxiliary_data'}
  return setup._replace(attack=setup.attack._replace(needs=needs))


def _setup(**changes):
  config = tiny.config(cases__batch_size=2, **changes)
  return _learned(build.setup(build.resolve(config)))


def _with_generator(setup, name, **kwargs):
  generator = GENERATORS[name](_SHAPE, **kwargs)
  weights = generator.init(jax.random.key(0))
  params = jax.tree.map(lambda w: 20 * w, weights.params)
  trained = generative.Trained(generator, weights._replace(params=params), '')
  return setup._replace(generator=trained)


def test_random_samples_depend_on_seed_case_and_class_alone():
  setup = _with_generator(
    _setup(),
    'conditional_dcgan',
    num_classes=16,
    latent=3,
    embedding=2,
    width=2,
  )
  items = [simulated.item(setup, case) for case in range(2)]

  def made(item, seed=0):
    return guesses.of_item(setup, item, seed)['class_sample']

  first = made(items[0])
  assert first.shape == (2, *_SHAPE)
  assert 0 <= first.min() < first.max() <= 1
  np.testing.assert_array_equal(first, made(items[0]))
  other = items[0].batch._replace(y=(items[0].batch.y + 1) % 16)
  for changed in (
    made(items[0], seed=1),
    made(items[0]._replace(case=1)),
    made(items[0]._replace(batch=other)),
  ):
    assert np.abs(changed - first).max() > 1e-3
  alike = items[0]._replace(batch=items[0].batch._replace(x=items[1].batch.x))
  np.testing.assert_array_equal(first, made(alike))


def test_only_samplers_give_random_samples():
  setup = _setup()
  item = simulated.item(setup, 0)
  for one, has in (
    (setup, False),
    (_with_generator(setup, 'dcgan', latent=3, width=2), True),
  ):
    assert ('class_sample' in guesses.of_item(one, item, 0)) == has
  decoder = GENERATORS['autoencoder_decoder']((16, 16, 3), latent=2, width=4)
  assert not decoder.spec.samples
  trained = generative.Trained(decoder, None, '')
  blind = setup._replace(generator=trained)
  assert 'class_sample' not in guesses.of_item(blind, item, 0)


def test_the_nearest_auxiliary_image_is_none_of_the_batch():
  """Where the auxiliary data are the data set, its other images are left."""
  setup = _setup(auxiliary={'name': 'photographs', 'size': 12})
  assert setup.auxiliary is setup.dataset
  item = simulated.item(setup, 0)
  found = guesses.of_item(setup, item, 0)['nearest_auxiliary']
  every = np.asarray(setup.dataset.take(np.arange(16)).x)
  for x, nearest in zip(item.batch.x, found):
    errors = ((every - x) ** 2).mean((1, 2, 3))
    errors[item.indices] = np.inf
    np.testing.assert_array_equal(nearest, every[errors.argmin()])
  assert 'nearest_auxiliary' not in guesses.of_item(_setup(), item, 0)
  # An attack that learned nothing from them is compared with other guesses.
  plain = setup._replace(attack=setup.attack._replace(needs=frozenset()))
  assert 'nearest_auxiliary' not in guesses.of_item(plain, item, 0)
  assert not guesses.known_before(plain, item, 0)


def test_images_known_before_are_found_by_name_or_by_pixels():
  setup = _setup()
  item = simulated.item(setup, 0)
  every = np.asarray(setup.dataset.take(np.arange(16)).x)

  def known(x, **changes):
    """Returns whether auxiliary images x hold an image of the batch."""
    auxiliary = setup.dataset._replace(
      labels=np.arange(len(x)),
      take=lambda i: types.Batch(x[np.asarray(i)], np.asarray(i)),
      **changes,
    )
    return guesses.known_before(setup._replace(auxiliary=auxiliary), item, 0)

  assert not guesses.known_before(setup, item, 0)
  assert guesses.known_before(setup._replace(auxiliary=setup.dataset), item, 0)
  # By the record of its training, where nobody names what it learned from.
  for dataset, same in ((setup.dataset, True), (_RIVAL, False)):
    record = {'images': identity.facts(dataset)}
    trained = generative.Trained(GENERATORS['dcgan'](), None, '', record)
    recorded = setup._replace(generator=trained)
    assert guesses.known_before(recorded, item, 0) == same
  assert known(every, name='a copy')
  assert known(every + np.where(every < 0.5, 1, -1) * np.float32(1e-3))
  assert not known(np.delete(every, item.indices, axis=0))
  assert not known(1 - every)


def test_auxiliary_images_fit_into_memory(monkeypatch):
  setup = _setup(auxiliary={'name': 'photographs', 'size': 12})
  monkeypatch.setattr(guesses, '_BYTES', 3.5 * 12 * 12 * 3)
  sample = guesses.read(setup, 5)
  assert sample is not None and sample.levels.shape == (3, 12 * 12 * 3)


def test_the_sample_of_a_data_set_is_read_once():
  resolved = build.resolve(tiny.config())
  setup = _learned(build.setup(resolved))
  read = []
  take = setup.dataset.take

  def counting(indices):
    read.append(len(np.asarray(indices)))
    return take(indices)

  counted = setup.dataset._replace(take=counting)
  setup = setup._replace(dataset=counted, auxiliary=counted)
  items = [simulated.item(setup, case) for case in range(6)]
  del read[:]
  for item in items:
    setting.describe(setup, 0)
    guesses.of_item(setup, item, 0)
  # 16 for the mean image, 16 to see what the network knows, 16 for the nearest,
  # and two more images for each item.
  assert sorted(read) == [1] * 12 + [16] * 3
  for item in items:
    made = guesses.of_item(setup, item, 0)
    x = np.delete(np.asarray(take(np.arange(16)).x), item.indices, axis=0)
    np.testing.assert_allclose(made['mean_image'][0], x.mean(0), atol=1e-6)


def test_images_known_before_are_told_before_the_run(tmp_path, caplog):
  caplog.set_level('INFO', 'giajax')
  made = dcgan.dcgan((12, 12, 3), latent=2, width=2)
  weights = made.init(jax.random.key(0))
  path = tmp_path / 'weights.npz'
  archives.write(path, convert.to_state_dict(weights))
  generator = dict(name='dcgan', latent=2, width=2, path=str(path))
  folder = tmp_path / 'run'
  rows = run.audit(
    tiny.config(
      attack=dict(name='ggl_adam', num_steps=1, generator=generator),
      auxiliary={'name': 'photographs', 'size': 12},
      threat__level='D',
      noise_controls=0,
    ),
    folder,
    finish=report.write,
  )
  texts = [record.getMessage() for record in caplog.records]
  (told,) = [i for i, text in enumerate(texts) if 'auxiliary' in text]
  assert 'images behind 2 updates' in texts[told]
  assert told < texts.index('compiling program 1')
  for row in rows:
    assert 'images in the auxiliary data' in row['setting_reasons']
    assert 'nearest_auxiliary' in row['baselines']
  with archives.Arrays(folder / 'recon.npz') as arrays:
    assert arrays['0000/x_nearest_auxiliary'].shape == (2, 1, 12, 12, 3)
  assert 'may have been remembered' in (folder / 'report.html').read_text()
