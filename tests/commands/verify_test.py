"""Tests of `giajax craft` and `giajax verify`: exit codes, words, bad input."""

import json
import logging
import os
import pickle

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors import numpy as safetensors
import zipped

from giajax import main
from giajax import trees
from giajax import types
from giajax.attacks import ATTACKS
from giajax.attacks import base as attacks
from giajax.models import layers

_CONFIG = """
from giajax.engine import build


def get_config(arg=None):
  config = build.default_config()
  config.dataset = dict(name='photographs', size=8)
  config.cases.batch_size = 4
  config.model = dict(name='mlp', widths=(20,))
  config.attack = dict(name=arg or 'dlg')
  config.threat = dict(level='F', grants=('labels',))
  return config
"""


@pytest.fixture(autouse=True)
def logger(monkeypatch, tmp_path):
  """Leaves the package's logger, and the user's folders, as they were."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  log = logging.getLogger('giajax')
  old = log.handlers, log.level, log.propagate
  yield
  log.handlers, log.level, log.propagate = old


@pytest.fixture
def config(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text(_CONFIG)
  return path


def run(capsys, *arguments):
  code = main.main(['giajax', *map(str, arguments)])
  out, err = capsys.readouterr()
  return code, out, err


@pytest.fixture
def sent(tmp_path, config, capsys):
  """Returns the file and the arrays that an honest server sends."""
  path = tmp_path / 'sent.npz'
  code, out, _ = run(capsys, 'craft', f'--config={config}', f'--out={path}')
  assert code == 0
  assert out == (
    f'{path}: what dlg sends to client 0 of case 0 in round 0: 4 tensors as '
    'agreed, 0 changed, 0 added\n'
  )
  return path, dict(np.load(path))


def fished(arrays):
  bias = arrays['layers.1.bias'] + 1000 * (np.arange(16) != 3)
  return {**arrays, 'layers.1.bias': bias.astype(np.float32)}


def test_words_and_exit_codes(tmp_path, config, capsys, sent):
  path, arrays = sent
  verify = ('verify', f'--config={config}', '--seed=0')
  code, out, _ = run(capsys, *verify, f'--received={path}')
  assert code == 0 and 'FLAGGED' not in out
  words = f'seed 0\n{path}: none of the 13 checks that ran objects\n'
  assert out.endswith(words)
  silent = [x.split()[2] for x in out.splitlines() if x.startswith('not run')]
  assert silent == [
    'identity_kernels',
    'running_statistics',
    'update_distance',
    'update_rank',
  ]
  bad = tmp_path / 'bad.safetensors'
  safetensors.save_file(fished(arrays), bad)
  code, out, _ = run(capsys, *verify, f'--received={bad}')
  assert code == 1
  (line,) = [x for x in out.splitlines() if x.split()[1] == 'class_bias']
  assert line.startswith('FLAGGED  class_bias')
  assert 'layers.1 span 1e+03 nats' in line
  flags = ('--json', '--only=class_bias,scale', f'--accepted={path}')
  code, out, _ = run(capsys, *verify, f'--received={bad}', *flags)
  found = json.loads(out)
  assert code == 1 and found['verdict'] == 'flagged'
  assert found['flagged'] == ['class_bias', 'scale']
  assert found['checks']['class_bias']['score'] > 990
  assert found['checks']['class_bias']['ran'] is True
  assert found['seed'] == 0


def test_a_new_seed_each_time_repeats_a_run(config, capsys, sent):
  path, _ = sent
  verify = ('verify', f'--config={config}', f'--received={path}', '--json')
  flags = ('--only=dsnr', '--probe=8', '--config.cases.batch_size=1')
  one, two = (json.loads(run(capsys, *verify, *flags)[1]) for _ in range(2))
  assert one['seed'] != two['seed'] and one['checks'] != two['checks']
  same = run(capsys, *verify, *flags, f'--seed={two["seed"]}')[1]
  assert json.loads(same) == two


def test_a_score_that_is_not_finite_is_null(config, capsys, sent):
  path, arrays = sent
  huge = {k: v * np.float32(1e30) for k, v in arrays.items()}
  np.savez(path, **huge)
  verify = ('verify', f'--config={config}', f'--received={path}')
  code, out, _ = run(capsys, *verify, '--json', '--only=dominance')
  found = json.loads(out)
  assert code == 1 and found['checks']['dominance']['score'] is None
  assert 'is not finite' in found['checks']['dominance']['evidence']


def test_an_orbax_checkpoint(tmp_path, config, capsys, sent):
  path, arrays = sent
  tree = {
    'params': {
      'layers': {
        i: {
          'kernel': arrays[f'layers.{i}.weight'].T,
          'bias': arrays[f'layers.{i}.bias'],
        }
        for i in ('0', '1')
      }
    }
  }
  with ocp.StandardCheckpointer() as opened:
    opened.save(tmp_path / 'orbax', tree)
    opened.save(tmp_path / 'other', {'weights': tree['params']})
    stats = {'bn': {'var': -np.ones(3, np.float32)}}
    opened.save(tmp_path / 'negative', {**tree, 'stats': stats})
  flags = ('--json', '--only=scale,dsnr', '--seed=0')
  verify = ('verify', f'--config={config}', *flags)
  code, out, _ = run(capsys, *verify, f'--received={tmp_path / "orbax"}')
  assert code == 0
  _, same, _ = run(capsys, *verify, f'--received={path}')
  assert json.loads(out)['checks'] == json.loads(same)['checks']
  mistakes = {
    'other': 'params, stats',
    'cache': 'an Orbax',
    'negative': 'variances below 0: stats.bn.var',
  }
  for folder, words in mistakes.items():
    (tmp_path / folder).mkdir(exist_ok=True)
    code, out, err = run(capsys, *verify, f'--received={tmp_path / folder}')
    assert code == 2 and not out and words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda a: {**a, 'layers.0.bias': a['layers.0.bias'] * np.nan}, 'finite'),
    (
      lambda a: {k: v.astype(np.float16) for k, v in a.items()},
      'another dtype: layers.0.bias float16, layers.0.weight float16',
    ),
    (lambda a: {k: v.astype(np.int32) for k, v in a.items()}, 'dtype'),
    (lambda a: {}, 'no arrays: an empty file'),
    (lambda a: {**a, 'b': np.array(['text'])}, 'another dtype: b <U4'),
    (
      lambda a: {**a, 'bn.running_var': -np.ones(3, 'f')},
      'variances below 0: bn.running_var',
    ),
    (
      lambda a: (
        {**a, 'layers.0.num_batches_tracked': np.ones(1, int)}
        | {'bn.num_batches_tracked': np.ones(1, int)}
      ),
      'another dtype: bn.num_batches_tracked int64;',
    ),
    (
      lambda a: {
        **a,
        'a': np.ones(3, 'f'),
        'a.value.weight': np.ones((2, 2), 'f'),
      },
      'not parts of others',
    ),
  ],
)
def test_weights_that_cannot_be_used(
  tmp_path, config, capsys, sent, change, words
):
  path, arrays = sent
  np.savez(path, **change(arrays))
  code, out, err = run(
    capsys, 'verify', f'--config={config}', f'--received={path}'
  )
  assert code == 2 and not out
  assert words in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
  'arguments, words',
  [
    (('verify',), 'verify --config=NAME --received=FILE; got nothing'),
    (('verify', '--config={c}'), '--received=FILE'),
    (('verify', '--config={c}', '--received={t}/no.npz'), 'does not exist'),
    (('verify', '--config={c}', '--received={t}/cut.npz'), 'a whole npz'),
    (('verify', '--config={c}', '--received={t}/pickle.npz'), 'a whole npz'),
    (('verify', '--config={c}', '--received={t}/empty.npz'), 'a whole npz'),
    (('verify', '--config={c}', '--received={t}/twice.npz'), ".bias' twice"),
    (('verify', '--config={c}', '--received={t}/pipe.npz'), 'not a regular'),
    (('verify', '--config={c}', '--received=/dev/zero'), 'not a regular'),
    (('verify', '--config={c}', '--received={s}', '--only=x'), 'known check'),
    (
      ('verify', '--config={c}', '--received={s}', '--learning_rate=-1'),
      'learning_rate > 0',
    ),
    (
      ('verify', '--config={c}', '--received={s}', '--probe=1'),
      'a probe of at least 8 images',
    ),
    (
      ('verify', '--config={c}', '--received={s}', '--only=update_distance'),
      'something to look at; got update_distance (There are no weights',
    ),
    (
      ('verify', '--config={c}', '--received={s}', '--accepted={t}/fc.npz'),
      'accepted weights of mlp',
    ),
    (('craft',), 'craft --config=NAME --out=FILE.npz; got nothing'),
    (('craft', '--config={c}', '--out={t}/x.txt'), 'ends in .npz'),
    (('craft', '--config={c}', '--out={t}/x.npz', '--round=1'), 'fewer'),
    (('craft', '--config={c}', '--out={t}/x.npz', '--client=1'), 'from 0 to 0'),
  ],
)
def test_mistakes(tmp_path, config, capsys, sent, arguments, words):
  path, arrays = sent
  (tmp_path / 'cut.npz').write_bytes(path.read_bytes()[:-40])
  (tmp_path / 'pickle.npz').write_bytes(pickle.dumps(arrays))
  (tmp_path / 'empty.npz').write_bytes(b'')
  np.savez(tmp_path / 'fc.npz', **{'fc.bias': arrays['layers.0.bias']})
  # Numpy reads what has no ending; the honest weights follow.
  evil = {name: zipped.npy(1000 * array) for name, array in arrays.items()}
  honest = {f'{name}.npy': zipped.npy(array) for name, array in arrays.items()}
  (tmp_path / 'twice.npz').write_bytes(zipped.zip(evil | honest))
  os.mkfifo(tmp_path / 'pipe.npz')
  names = {'c': config, 's': path, 't': tmp_path}
  code, out, err = run(capsys, *(a.format(**names) for a in arguments))
  assert code == 2 and not out
  assert err.startswith('giajax: Expected') and '; got ' in err
  assert words in err and len(err.splitlines()) == 1


class Bottleneck(layers.Layer):
  """Two linear layers over all values of an image."""

  def __init__(self, *, rngs):
    self.first = layers.Linear(192, 6, rngs=rngs)
    self.second = layers.Linear(6, 192, rngs=rngs)

  def __call__(self, x):
    return self.second(self.first(x.reshape(len(x), -1))).reshape(x.shape)


def imprint(world):
  """An attack of the tests: equal rows in front of the network."""

  def craft(key, message, side, history):
    leaves = trees.named_leaves(message.variables.params)
    leaves['front.first.kernel'] = jnp.ones_like(leaves['front.first.kernel'])
    leaves['front.first.bias'] = jnp.linspace(0.0, float(len(history) + 1), 6)
    params = trees.nested(leaves)
    return types.ServerMessage(message.variables._replace(params=params))

  def on_net(net):
    return net.edit(
      lambda module, rngs: setattr(module, 'front', Bottleneck(rngs=rngs))
    )

  def read(obs):
    return types.Reconstruction(
      types.Batch(jnp.zeros((4, 8, 8, 3)), jnp.zeros(4, jnp.int32)),
      jnp.ones(4, bool),
      jnp.zeros(()),
    )

  return attacks.closed_form(
    read, needs={'model'}, craft=craft, on_net=on_net, num_rounds=2
  )


def test_what_a_malicious_server_sends(tmp_path, config, capsys, monkeypatch):
  monkeypatch.setitem(ATTACKS, 'imprint_of_tests', imprint)
  craft = ('craft', f'--config={config}:imprint_of_tests')
  for turn, top in ((0, 1.0), (1, 2.0)):
    path = tmp_path / f'{turn}.npz'
    code, out, _ = run(capsys, *craft, f'--out={path}', f'--round={turn}')
    assert code == 0 and '4 tensors as agreed, 0 changed, 4 added' in out
    assert np.load(path)['front.first.bias'][-1] == top
  code, out, _ = run(
    capsys, 'verify', f'--config={config}', f'--received={path}', '--json'
  )
  found = json.loads(out)
  assert code == 1
  assert found['flagged'] == [
    'architecture',
    'monotone_biases',
    'proportional_rows',
  ]
  assert (
    'surplus: front.first.bias' in found['checks']['architecture']['evidence']
  )
