"""Tests of the command line: what users get wrong, in one line."""

import logging
import pathlib
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from safetensors import numpy as safetensors

from giajax import main
from giajax.commands import audit
from giajax.commands import flags
from giajax.engine import build

_CONFIG = """
'''Two photographs.'''
from giajax.engine import build


def get_config(arg=None):
  config = build.default_config()
  config.dataset = dict(name='photographs', size=12)
  config.model = dict(name='mlp', widths=(4,))
  config.attack = dict(name='inverting_gradients', num_steps=2)
  config.attack.total_variation = 0.0
  {change}
  return config
"""


def _write(folder, change='pass'):
  path = folder / 'config.py'
  path.write_text(_CONFIG.replace('{change}', change))
  return path


def _line(capsys, *arguments):
  """Runs giajax and returns the one line that it must complain in."""
  code = main.main(['giajax', *map(str, arguments)])
  out, err = capsys.readouterr()
  assert code == 2
  assert out == ''
  lines = err.splitlines()
  assert len(lines) == 1, err
  assert lines[0].startswith('giajax: Expected')
  assert 'Traceback' not in err
  assert '; got ' in err
  return lines[0]


@pytest.fixture(autouse=True)
def logger():
  """Leaves the package's logger as it was."""
  log = logging.getLogger('giajax')
  old = log.handlers, log.level, log.propagate
  yield
  log.handlers, log.level, log.propagate = old


@pytest.mark.parametrize(
  'change, words',
  [
    (
      "config.attack = dict(name='dgl')",
      "known attack (beyond_inferring, .*'dlg'",
    ),
    ("config.model = dict(name='x')", 'known model (alexnet, .*mlp'),
    ("config.dataset = dict(name='x')", 'known dataset (.*photographs'),
    ('config.attack.tv = 1.0', "attack (inverting.*total_variation.* got 'tv'"),
    ("config.labels = 'x'", 'known label rule (.*idlg'),
    ('config.atack = 1', "'*atack'*.*'*attack'*"),
    ('config.cases.cuont = 1', 'cuont.*count'),
    ('config.attack.num_stepz = 1', "did you mean 'num_steps'"),
    ('config.restarts = 0', 'restarts of at least 1; got restarts=0'),
    ("config.restarts = 'two'", 'restarts.*two'),
    ('config.cases.given = (99,); config.cases.rule = "given"', '[0, size=16)'),
    ('config.cases.given = (1,)', "given exactly when rule='given'"),
    ('config.cases.batch_size = 40', 'batch_size of 1 to 16'),
    ('config.threat.grants = ()', 'cover the needs .* without labels'),
    ("config.threat.level = 'A'", 'cover the needs .* without batch_size'),
    ("config.weights.path = 'no.npz'", 'a file of weights'),
    ("config.lpips = 'no.npz'", 'no.npz'),
    ("config.sweep = {'seed': ()}", "sweep['seed']"),
    ("config.sweep = {'sede': (1,)}", "did you mean 'seed'"),
    (
      "config.attack = dict(name='linear_layer'); config.cases.batch_size = 2",
      'batch_size 1 for linear_layer',
    ),
    ("config.dataset = dict(name='folder', path='/no', size=8)", '/no'),
  ],
)
def test_mistakes_in_a_config(capsys, tmp_path, change, words):
  workdir = tmp_path / 'run'
  config = _write(tmp_path, change)
  line = _line(capsys, f'--config={config}', f'--workdir={workdir}')
  position = 0
  for word in words.split('.*'):
    word = word.replace("'*", '')
    assert word in line[position:], line
    position = line.index(word, position)
  assert not workdir.exists()


@pytest.mark.parametrize(
  'arguments, words',
  [
    ((), '--config=... and --workdir=...; got nothing'),
    (('--config={c}',), '--workdir'),
    (('--config=nothing', '--workdir={w}'), 'smoke'),
    (('--config=no/such.py', '--workdir={w}'), 'a config file'),
    (('--config',), 'a config file'),
    (('--config={c}', '--workdir={w}', 'extra'), 'got --config'),
    (('--config={c}', '--workdir={w}', '--shrad=0/2'), 'shard'),
    (('--config={c}', '--workdir={w}', '--shard=2'), '--shard=i/n'),
    (('--config={c}', '--workdir={w}', '--shard=2/2'), '0 <= i < n'),
    (('--config={c}', '--workdir={w}', '--config.restarts=x'), 'invalid lit'),
    (('--config={c}', '--workdir={w}', '--config.atack.x=1'), 'attack'),
    (('--config={c}', '--workdir={w}', '--config.attack.x=1'), 'attack.x=1'),
    (('--config={c}', '--workdir={w}', "--config.model={{'a':1}}"), '.name=N'),
    (('--config={c}', '--workdir={w}', '--processes=2'), '--coordinator'),
    (('--config={c}', '--workdir={w}', '--processes=0'), 'processes'),
    (('--config={c}', '--workdir={c}'), 'a workdir that can be written'),
    (('report',), 'giajax report WORKDIR'),
    (('report', '{w}'), 'config.json'),
  ],
)
def test_mistakes_in_a_command(capsys, tmp_path, arguments, words):
  names = {'c': _write(tmp_path), 'w': tmp_path / 'run'}
  line = _line(capsys, *(a.format(**names) for a in arguments))
  assert words in line
  assert not (tmp_path / 'run').exists()


def test_weights_of_another_architecture(capsys, tmp_path):
  np.savez(tmp_path / 'w.npz', **{'conv1.weight': np.ones((2, 2), np.float32)})
  config = _write(tmp_path, f"config.weights.path = '{tmp_path}/w.npz'")
  arguments = f'--config={config}', f'--workdir={tmp_path}/run'
  line = _line(capsys, *arguments)
  assert 'missing: layers.0.' in line
  assert 'surplus: conv1.weight' in line
  data = (tmp_path / 'w.npz').read_bytes()
  (tmp_path / 'w.npz').write_bytes(data[:-30])
  assert 'a whole npz' in _line(capsys, *arguments)
  with zipfile.ZipFile(tmp_path / 'w.npz', 'w') as file:
    file.writestr('archive/data.pkl', b'cos\nsystem\n(S"false"\ntR.')
  assert 'an npz of plain arrays' in _line(capsys, *arguments)


_OPTIONS = '--model_options=image_shape=(2, 2, 3), widths=(4,)'
_MLP = ('--model=mlp', f'{_OPTIONS}, num_classes=16')


def _state(change=None):
  """Returns the state dict of the smallest network, with some of it changed."""
  shapes = {
    'layers.0.weight': (4, 12),
    'layers.0.bias': (4,),
    'layers.1.weight': (16, 4),
    'layers.1.bias': (16,),
  }
  state = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
  return {**state, **(change or {})}


def test_weights_are_converted_for_a_config(capsys, tmp_path):
  source, out = tmp_path / 'x.safetensors', tmp_path / 'x.npz'
  state = {f'state.module.{k}': 2 * v for k, v in _state().items()}
  safetensors.save_file({**state, 'steps': np.ones(1)}, source)
  flags = (*_MLP, '--prefix=state', '--rename=module=', f'--out={out}')
  code = main.main(['giajax', 'convert', str(source), *flags])
  text = capsys.readouterr()[0]
  assert code == 0
  assert text == f'{out}: 4 tensors, 132 numbers of mlp\n'
  safetensors.save_file({k: 2 * v for k, v in _state().items()}, source)
  config = build.default_config()
  config.dataset = dict(name='photographs', size=2)
  config.model = dict(name='mlp', widths=(4,))
  for path in (out, source):
    config.weights.path = str(path)
    variables = build.setup(build.resolve(config)).variables
    np.testing.assert_array_equal(
      variables.params['layers']['0']['kernel'], np.full((12, 4), 2)
    )


@pytest.mark.parametrize(
  'arguments, words',
  [
    ((), 'SOURCE --model=NAME --out=FILE.npz; got nothing'),
    (('{s}', '--out={o}'), '--model=NAME'),
    (('{s}', '--model=mlp'), '--out=FILE.npz'),
    (('{s}', '--modle=mlp'), 'modle'),
    (('{s}', '--model=mpl', '--out={o}'), "did you mean 'mlp'"),
    (('{s}', '--model=resnet18', '--out={o}'), 'surplus: layers.0.weight'),
    (('{s}', *_MLP[:1], '--model_options=x y', '--out={o}'), 'key=value'),
    (('{s}', *_MLP[:1], '--model_options=stem=cifar', '--out={o}'), "'stem'"),
    *(
      (('{s}', *_MLP[:1], f'--model_options={wrong}', '--out={o}'), 'key=value')
      for wrong in (
        '**{{}}',
        'width=2, width=3',
        'name=mlp',
        ')+f(',
        '1',
        'x=y+1',
      )
    ),
    (
      ('{s}', *_MLP[:1], '--model_options=image_shape=32', '--out={o}'),
      'image_shape=(H, W, C)',
    ),
    (
      ('{s}', _MLP[0], _OPTIONS, '--out={o}'),
      'build it with num_classes=16',
    ),
    (
      (
        *('{s}', '--model=mobilenet_v2', '--out={o}'),
        '--model_options=image_shape=(31, 64, 3), stem=imagenet',
      ),
      'images of at least 32x32',
    ),
    (('{s}', *_MLP, '--out={o}', '--rename=a'), 'pairs old=new'),
    (('{s}', *_MLP, '--out={o}', '--rename=a=b'), 'renamed prefix'),
    (('{s}', *_MLP, '--out={o}', '--prefix=a'), "prefix='a'"),
    (('{s}', *_MLP, '--out={t}/x.txt'), 'ends in .npz'),
    (('{s}', *_MLP, '--out={t}/no/x.npz'), 'can be written'),
    (('{t}/no.npz', *_MLP, '--out={o}'), 'does not exist'),
    (('{t}/no.pth', *_MLP, '--out={o}'), 'giajax[convert]'),
    (('{t}/cut.npz', *_MLP, '--out={o}'), 'a whole npz'),
    (('{t}/cut.safetensors', *_MLP, '--out={o}'), 'a whole safetensors'),
    (('{t}/nan.npz', *_MLP, '--out={o}'), 'not finite: layers.1.bias'),
    (
      ('{t}/other.npz', *_MLP, '--out={o}'),
      'missing: layers.0.bias; surplus: fc.bias; misshapen: layers.1.bias (3,)',
    ),
    (('{t}/pickle.npz', *_MLP, '--out={o}'), 'a whole npz'),
  ],
)
def test_mistakes_in_a_conversion(
  capsys, tmp_path, monkeypatch, arguments, words
):
  monkeypatch.setitem(sys.modules, 'torch', None)
  folder, out = tmp_path / 'in', tmp_path / 'out' / 'x.npz'
  folder.mkdir()
  out.parent.mkdir()
  np.savez(folder / 'x.npz', **_state())
  np.savez(folder / 'nan.npz', **_state({'layers.1.bias': np.full(16, np.nan)}))
  other = _state({'layers.1.bias': np.ones(3), 'fc.bias': np.ones(4)})
  del other['layers.0.bias']
  np.savez(folder / 'other.npz', **other)
  whole = (folder / 'x.npz').read_bytes()
  (folder / 'cut.npz').write_bytes(whole[:-40])
  (folder / 'cut.safetensors').write_bytes(whole[:40])
  (folder / 'pickle.npz').write_bytes(pickle.dumps(_state()))
  names = {'s': folder / 'x.npz', 'o': out, 't': folder}
  before = sorted(tmp_path.rglob('*'))
  line = _line(capsys, 'convert', *(a.format(**names) for a in arguments))
  assert words in line
  assert sorted(tmp_path.rglob('*')) == before


def test_foreign_workdir(capsys, tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  config = _write(tmp_path)
  line = _line(capsys, f'--config={config}', f'--workdir={tmp_path}')
  assert 'to be written by giajax' in line


def test_bugs_keep_their_trace(monkeypatch):
  def broken(argv, usage):
    raise ValueError('no user did this')

  monkeypatch.setattr(audit, 'run', broken)
  with pytest.raises(ValueError, match=r'no user'):
    main.main(['giajax'])


def test_list_and_help(capsys):
  assert main.main(['giajax', '--list']) == 0
  out, _ = capsys.readouterr()
  for name in ('inverting_gradients', 'photographs', 'total_variation', 'mlp'):
    assert name in out
  assert main.main(['giajax', '--help']) == 0
  out, _ = capsys.readouterr()
  for flag in ('--config', '--workdir', '--shard', 'report WORKDIR', 'convert'):
    assert flag in out
  assert main.main(['giajax', 'convert', '--help']) == 0
  assert '--model_options' in capsys.readouterr()[0]


@pytest.mark.parametrize('separate', [True, False])
def test_names_are_found_in_configs(separate):
  given = ['--config', 'smoke:a'] if separate else ['--config=smoke:a']
  (found,) = flags.with_paths(given)
  path, _, arg = found.removeprefix('--config=').partition(':')
  assert pathlib.Path(path).is_file()
  assert arg == 'a'


def test_process_ends_with_one_line(tmp_path):
  config = _write(tmp_path, "config.attack = dict(name='dgl')")
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'giajax.main'),
      *(f'--config={config}', f'--workdir={tmp_path}/run'),
    ],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 2
  assert done.stderr.startswith('giajax: Expected a known attack (')
  assert len(done.stderr.splitlines()) == 1
  assert not (tmp_path / 'run').exists()


def test_whole_audit_and_its_report(capsys, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  closed = "config.attack = dict(name='linear_layer')"
  config = _write(tmp_path, closed)
  arguments = ['giajax', f'--config={config}', f'--workdir={tmp_path}/run']
  assert main.main([*arguments, '--config.cases.count=1']) == 0
  out, err = capsys.readouterr()
  assert out.startswith('case 0')
  assert f'report: {tmp_path}/run/report.html' in out
  assert 'compiled program 1 in' in err
  page = (tmp_path / 'run' / 'report.html').read_bytes()
  assert b'Two photographs.' in page
  (tmp_path / 'run' / 'report.html').unlink()
  assert main.main(['giajax', 'report', f'{tmp_path}/run']) == 0
  assert (tmp_path / 'run' / 'report.html').read_bytes() == page
  capsys.readouterr()
  line = _line(capsys, *arguments[1:], '--config.restarts=7')
  assert 'restarts=1; got restarts=7' in line
