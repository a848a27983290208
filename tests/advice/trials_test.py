"""Tests of the command that tries what could be changed."""

import json

import numpy as np
from PIL import Image
import pytest
import tiny

from giajax import main
from giajax.advice import trials
from giajax.engine import build
from giajax.engine import run as engine
from giajax.engine import workdir as folders


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """Returns the folder of a finished run with a sweep."""
  folder = tmp_path_factory.mktemp('audit')
  config = build.default_config()
  config.dataset = dict(name='photographs', size=12)
  config.model = dict(name='mlp', widths=(8,))
  config.attack = dict(name='linear_layer')
  config.cases.count = 8
  config.noise_controls = 0
  config.sweep = {'model.widths': ((8,), (16,))}
  engine.audit(config, folder)
  return folder


def test_changes_are_measured_and_reported(workdir):
  text = trials.advise(
    workdir, only=['activation', 'batch', 'noise', 'deeper'], point=1
  )
  lines = dict(line.split(': ', 1) for line in text.splitlines())
  assert lines['batch'].startswith('not tried (Expected batch_size 1')
  assert lines['deeper'].startswith('not tried (Expected a network')
  record = json.loads((workdir / 'advice.json').read_text())
  audited, changes = (
    record['audited'],
    {c['name']: c for c in record['changes']},
  )
  assert audited['psnr'] > 40 and audited['recognised'] == 8
  assert audited['recovered'] and audited['updates'] == 8
  assert audited['fidelity'] == pytest.approx(1)
  # The closed form does not mind the activation, and does mind the noise.
  same, noise = changes['activation'], changes['noise']
  assert same['psnr'] > 40 and same['chance'] == 1 and same['gain'] == 0
  assert same['parameters'] == audited['parameters']
  assert noise['psnr'] < 20 and noise['fidelity'] < 0.9 and noise['paired']
  assert noise['chance'] == pytest.approx(2 / 2**8) and noise['gain'] < -20
  assert noise['seconds_per_image'] > 0 < noise['audited_seconds_per_image']
  assert lines['noise'].startswith('helps; median PSNR')
  assert lines['activation'].startswith('no more than chance; median PSNR')
  checked = record['validation']
  assert checked['honest'] and checked['models'] == 8
  assert checked['refused'] == 0 and checked['agreed'] == {}
  # A second call adds to what the first one tried.
  trials.advise(workdir, only=['pruning'], point=1)
  record = json.loads((workdir / 'advice.json').read_text())
  names = [change['name'] for change in record['changes']]
  assert names == ['activation', 'deeper', 'batch', 'noise', 'pruning']
  page = (workdir / 'report.html').read_text()
  assert 'What was changed' in page and 'Clipping and noise' in page


def test_an_audit_without_a_leak_ranks_nothing(tmp_path, caplog):
  caplog.set_level('INFO', 'giajax')
  config = tiny.config(noise_controls=0, attack__num_steps=1)
  engine.audit(config, tmp_path)
  line = trials.advise(tmp_path, only=['batch'])
  assert line.startswith('batch: nothing to take away; median PSNR')
  assert 'recovered nothing: no change can be ranked' in caplog.text
  page = (tmp_path / 'report.html').read_text()
  assert 'The audited attack recovered nothing' in page
  assert 'helps' not in page.partition('What was changed')[2]


def test_mistakes(workdir, capsys, tmp_path):
  assert main.main(['giajax', 'advise', str(workdir)]) == 2
  assert 'Expected a point from 0 to 1' in capsys.readouterr().err
  assert main.main(['giajax', 'advise', str(workdir), '--only=less']) == 2
  assert 'Expected a known change' in capsys.readouterr().err
  assert main.main(['giajax', 'advise', str(tmp_path)]) == 2
  assert 'Expected a finished run' in capsys.readouterr().err
  assert main.main(['giajax', 'advise']) == 2
  assert 'Expected giajax advise WORKDIR' in capsys.readouterr().err
  assert main.main(['giajax', 'advise', '--epoch=1']) == 2
  assert 'did you mean --epochs?' in capsys.readouterr().err


def test_an_audit_of_other_files_is_no_standard(tmp_path):
  folder, workdir = tmp_path / 'images', tmp_path / 'run'
  folder.mkdir()

  def draw(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 8, 8, 3))
    for i, image in enumerate(pixels.astype(np.uint8)):
      Image.fromarray(image).save(folder / f'{i}.png')

  draw(0)
  dataset = {'name': 'folder', 'path': str(folder), 'size': 8}
  config = tiny.config(
    dataset=dataset, noise_controls=0, attack={'name': 'linear_layer'}
  )
  engine.audit(config, workdir)
  draw(1)
  with pytest.raises(ValueError, match=r'^Expected the files that .*0\.png'):
    trials.advise(workdir, only=['batch'])


def test_a_folder_that_is_held_is_no_result(workdir):
  audited, _ = trials._audited(workdir, 0, 0, False)
  (workdir / 'advice.json').unlink(missing_ok=True)
  with (
    folders.locked(audited.folder / 'noise'),
    pytest.raises(ValueError, match=r'^Expected a folder that no process'),
  ):
    trials.advise(workdir, only=['noise'], point=0)
  assert not (workdir / 'advice.json').exists()
