"""Tests of `giajax audit`: every form of files, exit codes, bad input."""

import json

import captures
import commandline
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from giajax import archives
from giajax import capture
from giajax import main

_MODEL = '--model=mlp,widths=[8]'
_CLIENT = '--client=fedavg,learning_rate=0.1,train_mode=True'
_USUAL = (_MODEL, '--input=12,12,3', '--classes=16', '--only=linear layer')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Returns the folder of one update in every form of files."""
  path = tmp_path_factory.mktemp('capture')
  captures.write(path)
  arrays = {n: archives.read(path / f'{n}.npz') for n in ('sent', 'received')}
  for name, state in arrays.items():
    whole = {k: np.ascontiguousarray(v) for k, v in state.items()}
    safetensors.save_file(whole, path / f'{name}.safetensors')
    np.savez(path / f'{name}-list.npz', *state.values())
  capture.save(
    path / 'capture.safetensors',
    *arrays.values(),
    client=captures.CLIENT,
    input_shape=captures.SHAPE,
    num_classes=captures.CLASSES,
  )
  return path


@pytest.fixture(autouse=True)
def jax_state(monkeypatch, tmp_path):
  """Keeps caches out of the user's folders."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  yield
  jax.config.update('jax_compilation_cache_dir', None)


def _run(capsys, *arguments):
  code = main.main(['giajax', 'audit', *map(str, arguments)])
  return code, capsys.readouterr().out


@pytest.mark.parametrize(
  ('sent', 'received'),
  [
    ('sent.npz', 'received.npz'),
    ('sent.safetensors', 'received.safetensors'),
    ('sent.npz', 'received-list.npz'),
  ],
)
def test_forms_end_in_one_verdict(folder, tmp_path, capsys, sent, received):
  code, out = _run(
    *(capsys, *_USUAL, _CLIENT),
    *(f'--sent={folder / sent}', f'--received={folder / received}'),
    *(f'--truth={folder / "truth.npz"}', f'--workdir={tmp_path / "w"}'),
    '--fail_on=leaks',
  )
  assert code == 1 and 'linear layer, case 0: leaks' in out
  found = json.loads((tmp_path / 'w' / 'summary.json').read_text())
  assert found['verdict'] == 'leaks' and found['worst']['psnr'] > 40


def test_unknown_images_and_a_capture(folder, tmp_path, capsys):
  code, out = _run(
    *(capsys, _MODEL, '--only=linear layer', '--examples=1'),
    f'--capture={folder / "capture.safetensors"}',
    f'--workdir={tmp_path / "w"}',
  )
  assert code == 0 and ': unscored.' in out and 'report.html' in out


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--fail_on=leaks'], ['--truth with --fail_on']),
    (['--fail_on=nonsense', '--truth={f}/truth.npz'], ['leaks, partial']),
    (['--form=nonsense'], ['delta, gradient, weights']),
    (['--form=gradient'], ["client.name='fedsgd'"]),
    (['--input=12,12'], ['--input=H,W,C']),
    (['--input=12,x,3'], ['32,32,3']),
    (['--classes=0'], ['Expected num_classes']),
    (['--classes=7'], ['misshapen']),
    (['--input=16,16,3'], ['misshapen']),
    (['--client=nonsense'], ['known client']),
    (['--client=fedavg,epochs=x'], ['client.epochs']),
    (['--client=fedavg,,'], ['key=value']),
    (['--received=/nowhere.npz'], ['/nowhere.npz']),
    (['--received='], ['Expected received']),
    (['--model=nonsense'], ['known model']),
    (['--model=/nowhere.py:Net'], ['Python file']),
    (['--only=nonsense'], ['attack of the battery']),
    (['--minutes=0'], ['minutes above 0']),
    (['--capture=/nowhere.safetensors'], ['/nowhere.safetensors']),
    (['--examples=2', '--truth={f}/truth.npz'], ['as many images']),
    (['--seed=-1'], ['seed']),
  ],
)
def test_mistakes(folder, tmp_path, capsys, arguments, words):
  given = {
    'sent': folder / 'sent.npz',
    'received': folder / 'received.npz',
    'model': 'mlp,widths=[8]',
    'client': 'fedavg,learning_rate=0.1,train_mode=True',
    'input': '12,12,3',
    'classes': '16',
    'only': 'linear layer',
    'examples': '1',
    'workdir': tmp_path / 'w',
  }
  usual = [f'--{name}={value}' for name, value in given.items()]
  own = [text.replace('{f}', str(folder)) for text in arguments]
  main.main(['giajax', '--version'])
  capsys.readouterr()
  code = main.main(['giajax', 'audit', *usual, *own])
  out, err = capsys.readouterr()
  lines = [line for line in err.splitlines() if 'Expected' in line]
  assert code == 2 and out == '' and len(lines) == 1, err
  for word in words:
    assert word in lines[0]
  assert not (tmp_path / 'w').exists()


def test_two_flags_are_required(capsys):
  line = commandline.complaint(capsys, 'audit', _MODEL)
  assert 'giajax audit --model=NAME --workdir=DIR' in line
