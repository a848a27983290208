"""Tests of `giajax convert`."""

import pickle
import sys

import commandline
import numpy as np
import pytest
from safetensors import numpy as safetensors

from giajax import main
from giajax.engine import build

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
    (('{t}/pickle.pth', *_MLP, '--out={o}'), 'giajax[torch]'),
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
  for name in ('pickle.npz', 'pickle.pth'):
    (folder / name).write_bytes(pickle.dumps(_state()))
  names = {'s': folder / 'x.npz', 'o': out, 't': folder}
  before = sorted(tmp_path.rglob('*'))
  line = commandline.complaint(
    capsys, 'convert', *(a.format(**names) for a in arguments)
  )
  assert words in line
  assert sorted(tmp_path.rglob('*')) == before
