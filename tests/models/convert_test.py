"""Tests of giajax.models.convert."""

import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from giajax.models import base
from giajax.models import convert
from giajax.models import from_callable
from giajax.models import MODELS
from giajax.models.classification import mlp
from giajax.models.classification import mobilenet_v2
from giajax.models.classification import resnet
from giajax.models.classification import vit

BREACHING = {
  'stem.0': 'conv1',
  'stem.1': 'bn1',
  **{f'layers.{i}': f'layer{i + 1}' for i in range(3)},
}


@pytest.fixture(scope='module')
def net():
  return mlp.mlp((2, 2, 3), 4, widths=(5,))


@pytest.fixture
def state():
  key = np.random.default_rng(0)
  shapes = {
    'layers.0.weight': (5, 12),
    'layers.0.bias': (5,),
    'layers.1.weight': (4, 5),
    'layers.1.bias': (4,),
  }
  return {k: key.standard_normal(s, np.float32) for k, s in shapes.items()}


def test_round_trip_and_layout(net, state, tmp_path):
  path = tmp_path / 'x.npz'
  np.savez(path, **state)
  variables = convert.load(path, net)
  kernel = variables.params['layers']['0']['kernel']
  np.testing.assert_array_equal(kernel, state['layers.0.weight'].T)
  back = convert.to_state_dict(variables)
  assert back.keys() == state.keys()
  for name, value in state.items():
    np.testing.assert_array_equal(back[name], value)
  # Channels first, as torch flattens.
  x = np.random.default_rng(1).random((3, 2, 2, 3), np.float32)
  hidden = x.transpose(0, 3, 1, 2).reshape(3, -1) @ state['layers.0.weight'].T
  hidden = np.maximum(hidden + state['layers.0.bias'], 0)
  expected = hidden @ state['layers.1.weight'].T + state['layers.1.bias']
  np.testing.assert_allclose(
    net.apply(variables, x).out, expected, rtol=1e-5, atol=1e-5
  )


def test_safetensors_of_any_floating_type(net, state, tmp_path):
  path = tmp_path / 'x.safetensors'
  for dtype in (np.float32, np.float16, jnp.bfloat16):
    given = {name: value.astype(dtype) for name, value in state.items()}
    safetensors.save_file(given, path)
    variables = convert.load(path, net)
    kernel = variables.params['layers']['0']['kernel']
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(
      kernel, given['layers.0.weight'].T.astype(np.float32)
    )
  given['layers.1.bias'] = np.full(4, np.nan, jnp.bfloat16)
  safetensors.save_file(given, path)
  with pytest.raises(ValueError, match=r'not finite: layers\.1\.bias'):
    convert.load(path, net)


def test_statistics_and_kernels():
  net = resnet.resnet((8, 8, 3), depth=20, shortcut='B')
  abstract = jax.eval_shape(net.init, jax.random.key(0))
  state = convert.to_state_dict(
    jax.tree.map(lambda s: np.zeros(s.shape), abstract)
  )
  assert state['layer2.0.downsample.0.weight'].shape == (32, 16, 1, 1)
  assert state['conv1.weight'].shape == (16, 3, 3, 3)
  state['bn1.running_var'] = np.full(16, 3.0)
  state['bn1.num_batches_tracked'] = np.array(7)
  state['conv1.weight'] = np.arange(432.0).reshape(16, 3, 3, 3)
  variables = convert.from_state_dict(state, net)
  np.testing.assert_array_equal(variables.stats['bn1']['var'], np.full(16, 3.0))
  np.testing.assert_array_equal(
    variables.params['conv1']['kernel'],
    state['conv1.weight'].transpose(2, 3, 1, 0),
  )
  assert variables.params['bn1']['scale'].shape == (16,)


def test_all_troubles_are_in_one_line(net, state):
  state['extra.weight'] = state.pop('layers.0.bias')
  state['layers.0.weight'] = state['layers.0.weight'].T
  state['layers.1.bias'][2] = np.nan
  with pytest.raises(ValueError, match='Expected the 4 tensors of mlp') as info:
    convert.from_state_dict(state, net)
  text = str(info.value)
  for part in (
    'missing: layers.0.bias;',
    'surplus: extra.weight;',
    'misshapen: layers.0.weight (12, 5) for (5, 12);',
    'not finite: layers.1.bias;',
  ):
    assert part in text
  assert '\n' not in text


def test_long_lists_are_cut(net):
  with pytest.raises(ValueError, match=r'surplus: a0, a1, a2, a3 and 96 more'):
    convert.from_state_dict({f'a{i}': np.zeros(1) for i in range(100)}, net)


def test_other_classes_are_recognised(state):
  net = mlp.mlp((2, 2, 3), 10, widths=(5,))
  with pytest.raises(
    ValueError, match=r'layers.1.weight \(4, 5\) for \(10, 5\).*num_classes=4'
  ):
    convert.from_state_dict(state, net)


def test_numbers_must_be_floating(net, state):
  state['layers.1.bias'] = np.zeros(4, np.int64)
  with pytest.raises(ValueError, match=r'not floating: layers.1.bias int64'):
    convert.from_state_dict(state, net)
  state['layers.1.bias'] = np.zeros(4, np.float16)
  variables = convert.from_state_dict(state, net)
  assert variables.params['layers']['1']['bias'].dtype == jnp.float32


def test_prefix_and_rename(net, state, tmp_path):
  path = tmp_path / 'x.npz'
  renamed = {
    k.replace('layers.0', 'body.hidden').replace('layers.1', 'head'): v
    for k, v in state.items()
  }
  np.savez(
    path, x=np.zeros(3), **{f'state.module.{k}': v for k, v in renamed.items()}
  )
  rename = {'module': '', 'module.body.hidden': 'layers.0'}
  rename['module.head'] = 'layers.1'
  with pytest.raises(ValueError, match=r'begin a name; got rename of module'):
    convert.load(path, net, prefix='state', rename=rename)
  del rename['module']
  variables = convert.load(path, net, prefix='state', rename=rename)
  np.testing.assert_array_equal(
    variables.params['layers']['1']['bias'], state['layers.1.bias']
  )
  dropped = convert.from_state_dict(
    {f'module.{k}': v for k, v in state.items()}, net, rename={'module': ''}
  )
  jax.tree.map(np.testing.assert_array_equal, dropped, variables)
  with pytest.raises(ValueError, match=r"prefix='stat'.*got state, x"):
    convert.load(path, net, prefix='stat')
  with pytest.raises(ValueError, match=r'stay distinct.*layers\.0\.\w+. twice'):
    convert.from_state_dict(state, net, rename={'layers.1': 'layers.0'})


def test_buffers_belong_to_the_state():
  net = resnet.resnet((8, 8, 3), depth=20)
  abstract = jax.eval_shape(net.init, jax.random.key(0))
  full = convert.to_state_dict(
    jax.tree.map(lambda s: np.ones(s.shape), abstract)
  )
  assert convert.from_state_dict(full, net).stats['bn1']['mean'].shape == (16,)
  bare = {k: v for k, v in full.items() if 'running' not in k}
  with pytest.raises(ValueError, match=r'missing: bn1\.running_mean'):
    convert.from_state_dict(bare, net)


def test_files_that_are_no_weights(net, state, tmp_path):
  def refused(name, match):
    with pytest.raises(ValueError, match=match) as info:
      convert.load(tmp_path / name, net)
    assert '\n' not in str(info.value)

  np.savez(tmp_path / 'whole.npz', **state)
  whole = (tmp_path / 'whole.npz').read_bytes()
  (tmp_path / 'cut.npz').write_bytes(whole[:-200])
  middle = bytearray(whole)
  middle[100:140] = bytes(40)
  (tmp_path / 'flipped.npz').write_bytes(middle)
  (tmp_path / 'text.npz').write_text('hello')
  (tmp_path / 'pickle.npz').write_bytes(pickle.dumps(state))
  np.savez(tmp_path / 'object.npz', a=np.array({}, dtype=object))
  with zipfile.ZipFile(tmp_path / 'torch.pt', 'w') as archive:
    archive.writestr('archive/data.pkl', 'x')
  refused('absent.npz', 'does not exist; correct the path')
  for name in ('cut.npz', 'flipped.npz', 'text.npz', 'pickle.npz'):
    refused(name, 'Expected a whole npz of plain arrays.*write it again')
  refused('object.npz', r"objects in 'a\.npy'")
  refused('torch.pt', r'those of torch.save\); convert it')


def test_networks_beyond_the_rules_are_refused():
  net = from_callable.from_callable(
    lambda key: {'table': jnp.zeros((3, 3, 3))},
    lambda params, x: x.mean((1, 2)) @ params['table'][0],
    base.make_spec('brought', (4, 4, 3), 3, 'none'),
  )
  with pytest.raises(
    ValueError, match=r'got params table of shape \(3, 3, 3\)'
  ):
    convert.to_state_dict(net.init(jax.random.key(0)))


def test_breaching_names_become_ours():
  net = resnet.resnet((8, 8, 3), depth=20, shortcut='B')
  abstract = jax.eval_shape(net.init, jax.random.key(0))
  assert base.count(abstract) == 272_474
  zeros = jax.tree.map(lambda s: np.zeros(s.shape), abstract)
  theirs = {}
  for name, value in convert.to_state_dict(zeros).items():
    for new, old in BREACHING.items():
      if name.startswith(f'{old}.'):
        name = name.replace(old, new, 1)
        break
    theirs[name] = value
  assert 'stem.0.weight' in theirs
  assert 'layers.1.0.downsample.1.running_var' in theirs
  jax.tree.map(
    np.testing.assert_array_equal,
    convert.from_state_dict(theirs, net, rename=BREACHING),
    convert.from_state_dict(convert.to_state_dict(zeros), net),
  )


# The parts of timm's MobileNetV2, and what torchvision calls them.
TIMM = {
  'conv_stem': 'features.0.0',
  'bn1': 'features.0.1',
  'blocks.0.0.conv_dw': 'features.1.conv.0.0',
  'blocks.0.0.bn1': 'features.1.conv.0.1',
  'blocks.0.0.conv_pw': 'features.1.conv.1',
  'blocks.0.0.bn2': 'features.1.conv.2',
  'blocks.1.0.conv_pw': 'features.2.conv.0.0',
  'blocks.1.0.bn1': 'features.2.conv.0.1',
  'blocks.1.0.conv_dw': 'features.2.conv.1.0',
  'blocks.1.0.bn2': 'features.2.conv.1.1',
  'blocks.1.0.conv_pwl': 'features.2.conv.2',
  'blocks.1.0.bn3': 'features.2.conv.3',
  'conv_head': 'features.3.0',
  'bn2': 'features.3.1',
  'classifier': 'classifier.1',
}


def test_timm_names_become_ours():
  net = mobilenet_v2.mobilenet_v2(depth=2, width=0.1)
  abstract = jax.eval_shape(net.init, jax.random.key(0))
  state = convert.to_state_dict(
    jax.tree.map(lambda s: np.ones(s.shape), abstract)
  )
  theirs = {}
  for old, new in TIMM.items():
    for name in [n for n in state if n.rpartition('.')[0] == new]:
      theirs[old + name.removeprefix(new)] = state.pop(name)
  assert not state
  variables = convert.from_state_dict(theirs, net, rename=TIMM)
  assert jax.tree.structure(variables) == jax.tree.structure(abstract)


def test_one_parameter_has_one_array():
  net = vit.vit((8, 8, 3), 4, patch=4, width=8, heads=2, depth=1)
  found = convert.to_state_dict(net.init(jax.random.key(0)))
  (name,) = [n for n in found if n.endswith('in_proj_weight')]
  other = name.replace('in_proj_weight', 'in_proj.weight')
  with pytest.raises(ValueError, match='one array of each parameter; got'):
    convert.as_found({**found, other: found[name]}, net)


def test_buffers_of_layers_that_were_not_agreed_on():
  net = MODELS['resnet20']((8, 8, 3), 4)
  state = convert.to_state_dict(net.init(jax.random.key(0)))
  counter = np.ones((), np.float32)
  own = {'bn1.num_batches_tracked': counter}
  found = convert.as_found({**state, **own}, net)
  assert convert.to_state_dict(found).keys() == state.keys()
  surplus = {'door.num_batches_tracked': counter}
  found = convert.as_found({**state, **surplus}, net)
  assert found.params['door']['num_batches_tracked']['value'] == 1
  negative = {**state, 'bn1.running_var': state['bn1.running_var'] * 0 - 1}
  with pytest.raises(ValueError, match=r'variances below 0: bn1\.running_var'):
    convert.as_found(negative, net)
