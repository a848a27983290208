"""Modules of torch that cannot be represented, each refused in one line."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.models import from_torch

torch = pytest.importorskip('torch', reason='needs the extra torch')
nn = torch.nn
F = torch.nn.functional
SHAPE = (3, 8, 8)
CLASSES = 5
KEY = jax.random.key(0)
X = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)


class Plain(nn.Module):
  """A linear layer, and whatever a test puts into its pass."""

  def __init__(self, fn=lambda self, y: y, **parts):
    super().__init__()
    self.fc = nn.Linear(192, CLASSES)
    self.fn = fn
    for name, part in parts.items():
      setattr(self, name, part)

  def forward(self, x):
    return self.fn(self, self.fc(x.flatten(1)))


class Identity(torch.autograd.Function):
  @staticmethod
  def forward(ctx, x):
    return x.clone()

  @staticmethod
  def backward(ctx, cotangent):
    return 2 * cotangent


def tied():
  module = Plain(one=nn.Linear(5, 5), two=nn.Linear(5, 5))
  module.two.weight = module.one.weight
  return module


def buffered(fn, dtype=torch.float32):
  module = Plain(fn)
  module.register_buffer('seen', torch.zeros((), dtype=dtype))
  return module


REFUSED = {
  'branch': (
    lambda: Plain(lambda m, y: y if y.sum() > 0 else -y),
    r'torch.export can follow .* Plain, where torch says: .*exports_test',
  ),
  'shape': (
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 5)),
    r'runs an inference pass on inputs \[2, 3, 8, 8\]; got Sequential, where '
    r'torch says: mat1 and mat2 shapes',
  ),
  'operators': (
    lambda: Plain(lambda m, y: torch.special.i0(torch.cumprod(y, 1))),
    r'operators that giajax has; got aten.cumprod.default at .*_test.py:\d+: '
    r'.*; aten.i0.default at ',
  ),
  'several': (
    lambda: Plain(lambda m, y: (y, y)),
    'one float32 tensor .*; got a tuple',
  ),
  'numbers': (
    lambda: Plain(lambda m, y: y[:, 0]),
    r'got a tensor of shape \[2\]',
  ),
  'half': (lambda: Plain(lambda m, y: y.half()), 'got numbers of float16'),
  'double': (lambda: Plain().double(), r"float32 parameters; got 'fc.weight'"),
  'function': (
    lambda: Plain(lambda m, y: Identity.apply(y)),
    'derivatives that torch.export keeps; got Identity in Plain',
  ),
  'tied': (tied, "one name each; got 'two.weight' in Plain, which is 'one.we"),
  'counted': (
    lambda: nn.Sequential(nn.BatchNorm2d(3, momentum=None), Plain()),
    "a momentum for running statistics; got '0' in Sequential",
  ),
  'moving': (
    lambda: buffered(lambda m, y: y + m.seen.add_(1)),
    "moves 'seen' in an inference pass",
  ),
  'counter': (
    lambda: buffered(lambda m, y: y * m.seen.add_(1), torch.int64),
    "depend on no counter; got Plain, which reads 'seen'",
  ),
  'drawing': (
    lambda: Plain(lambda m, y: F.dropout(y, 0.5, True)),
    'draws random numbers in an inference pass',
  ),
  'pixels': (
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.BatchNorm1d(5)),
    None,
  ),
  'no module': (lambda: len, r'a torch.nn.Module; got module='),
  'parts': (
    lambda: Plain(
      lambda m, y: y * m.fc.kernel,
      fc=nested(),
    ),
    'names of arrays that are not parts of others',
  ),
}


def nested():
  layer = nn.Linear(192, CLASSES)
  layer.kernel = nn.Parameter(torch.ones(CLASSES))
  return layer


@pytest.mark.parametrize('name', [n for n, row in REFUSED.items() if row[1]])
def test_modules_that_cannot_be_represented_are_refused(name):
  make, words = REFUSED[name]
  with pytest.raises(ValueError, match=rf'^Expected .*{words}') as caught:
    from_torch.from_torch(make(), SHAPE)
  assert '\n' not in str(caught.value)


def test_torch_is_asked_for_where_it_is_missing(monkeypatch):
  module = Plain()
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ValueError, match=r'^Expected torch .*giajax\[torch\]$'):
    from_torch.from_torch(module, SHAPE)


def test_arguments_are_checked():
  for arguments, words in (
    ({'input_shape': (3, 8)}, r'input_shape=\(C, H, W\)'),
    ({'input_shape': (3, 8, 0.5)}, r'input_shape=\(C, H, W\)'),
    ({'num_classes': 9}, 'the number of logits of Plain, 5; got num_classes=9'),
    ({'normalisation': 'nosuch'}, 'normalisation'),
  ):
    with pytest.raises(ValueError, match=words):
      from_torch.from_torch(Plain(), **{'input_shape': SHAPE, **arguments})
  net = from_torch.from_torch(Plain(), SHAPE)
  with pytest.raises(ValueError, match=r'^Expected images \[B, H, W, C\]; got'):
    net.apply(net.init(KEY), jnp.asarray(X[0]))


def test_a_batch_of_single_values_is_refused_when_it_is_passed():
  net = from_torch.from_torch(REFUSED['pixels'][0](), SHAPE)
  with pytest.raises(ValueError, match='more than 1 value per channel'):
    net.apply(net.init(KEY), jnp.asarray(X[:1]), train=True)
  assert net.apply(net.init(KEY), jnp.asarray(X[:1])).out.shape == (1, 5)


def test_outputs_of_each_pixel_have_their_classes_last():
  module = nn.Conv2d(3, 2, 1)
  net = from_torch.from_torch(module, SHAPE)
  out = net.apply(net.init(KEY), jnp.asarray(X)).out
  images = torch.from_numpy(np.array(X).transpose(0, 3, 1, 2).copy())
  theirs = module(images).detach().numpy().transpose(0, 2, 3, 1)
  assert net.spec.num_classes == 2
  np.testing.assert_allclose(out, theirs, atol=1e-5)
  again = net.original(net.init(KEY), X, False)
  np.testing.assert_allclose(again, theirs, atol=1e-5)


def test_rows_of_a_table_reach_a_module_as_rows():
  module = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
  net = from_torch.from_torch(module, (6,))
  assert net.spec.image_shape == (1, 1, 6)
  rows = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6)
  theirs = module(torch.from_numpy(rows)).detach().numpy()
  out = net.apply(net.init(KEY), jnp.asarray(rows)[:, None, None]).out
  np.testing.assert_allclose(out, theirs, atol=1e-6)
