"""Nets of torch modules against torch itself, in both modes."""

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import convert
from giajax.models import from_torch
from giajax.models import gradient_moments
from giajax.models import inspect
from giajax.models import subset
from giajax.ops import moments

torch = pytest.importorskip('torch', reason='needs the extra torch')
nn = torch.nn
F = torch.nn.functional
SHAPE = (3, 8, 8)
CLASSES = 5
KEY = jax.random.key(0)
LABELS = np.array([1, 3])
DRAWS = np.random.default_rng(0)
X, TARGET = DRAWS.random((2, 2, 8, 8, 3), np.float32)


class Residual(nn.Module):
  """A block of a ResNet, with a strided path beside it."""

  def __init__(self):
    super().__init__()
    self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(8, momentum=0.3)
    self.conv2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(8, affine=False)
    self.downsample = nn.Conv2d(3, 8, 1, 2)
    self.register_buffer('shift', torch.full((3, 1, 1), 0.1))
    self.fc = nn.Linear(8, CLASSES)

  def forward(self, x):
    x = x - self.shift
    y = F.relu(self.bn1(self.conv1(x)), inplace=True)
    y = self.bn2(self.conv2(y))
    y += self.downsample(x)
    return self.fc(F.adaptive_avg_pool2d(F.relu(y), 1).flatten(1))


class Transformer(nn.Module):
  """A token, positions, attention and a perceptron."""

  def __init__(self):
    super().__init__()
    self.patch = nn.Conv2d(3, 8, 4, 4)
    self.token = nn.Parameter(torch.randn(1, 1, 8))
    self.positions = nn.Parameter(torch.randn(1, 5, 8))
    self.ln = nn.LayerNorm(8)
    self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
    self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
    self.gamma = nn.Parameter(torch.randn(8))
    self.head = nn.Linear(8, CLASSES)

  def forward(self, x):
    x = self.patch(x).flatten(2).transpose(1, 2)
    x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
    y = self.ln(x)
    x = x + self.attention(y, y, y, need_weights=False)[0]
    return self.head((x + self.gamma * self.mlp(x))[:, 0])


class ConvNeXt(nn.Module):
  """A depthwise convolution, and what permutes around it."""

  def __init__(self):
    super().__init__()
    self.stem = nn.Conv2d(3, 6, 2, 2)
    self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    self.norm = nn.LayerNorm(6, eps=1e-6)
    self.up = nn.Linear(6, 12)
    self.down = nn.Linear(12, 6)
    self.scale = nn.Parameter(torch.rand(6, 1, 1))
    self.group = nn.GroupNorm(2, 6)
    self.head = nn.Linear(6, CLASSES)

  def forward(self, x):
    x = self.stem(x)
    y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
    y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
    return self.head(self.group(x + self.scale * y).mean((-2, -1)))


class Swin(nn.Module):
  """Windows that are rolled, with relative positions and a mask."""

  def __init__(self):
    super().__init__()
    self.patch = nn.Conv2d(3, 6, 2, 2)
    self.qkv = nn.Linear(6, 18)
    self.table = nn.Parameter(torch.randn(9, 2))
    index = torch.arange(16).view(4, 4) % 9
    self.register_buffer('relative_position_index', index)
    self.head = nn.Linear(6, CLASSES)

  def forward(self, x):
    x = self.patch(x).permute(0, 2, 3, 1)
    x = torch.roll(x, (-1, -1), (1, 2))
    x = x.view(-1, 2, 2, 2, 2, 6).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 6)
    q, k, v = self.qkv(x).reshape(-1, 4, 3, 2, 3).permute(2, 0, 3, 1, 4)
    logits = q * 3**-0.5 @ k.transpose(-2, -1)
    bias = self.table[self.relative_position_index.view(-1)].view(4, 4, 2)
    mask = x.new_zeros(4, 4)
    mask[0, 1:3] = -10.0
    logits = logits + bias.permute(2, 0, 1) + mask
    x = (logits.softmax(-1) @ v).transpose(1, 2).reshape(-1, 2, 2, 2, 2, 6)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4, 6)
    return self.head(torch.roll(x, (1, 1), (1, 2)).mean((1, 2)))


class Stopped(nn.Module):
  """Derivatives that end at detach and no_grad, in the midst of others."""

  def __init__(self):
    super().__init__()
    self.one = nn.Linear(192, 4)
    self.two = nn.Linear(4, CLASSES)

  def forward(self, x):
    y = torch.tanh(self.one(x.flatten(1)))
    with torch.no_grad():
      scale = 1 + y.abs().mean()
    return self.two(y * y.detach() * scale)


def cnn():
  return nn.Sequential(
    nn.Conv2d(3, 6, 3, padding=1),
    nn.BatchNorm2d(6),
    nn.ReLU(),
    nn.MaxPool2d(3, 2, 1),
    nn.Conv2d(6, 8, 3),
    nn.BatchNorm2d(8),
    nn.SiLU(),
    nn.AvgPool2d(2),
    nn.Flatten(),
    nn.Linear(8, CLASSES),
  )


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


MODULES = {
  'cnn': cnn,
  'residual': Residual,
  'transformer': Transformer,
  'convnext': ConvNeXt,
  'swin': Swin,
  'stopped': Stopped,
}


class Subject(NamedTuple):
  module: Any
  net: base.Net
  variables: types.Variables


@functools.cache
def subject(name):
  torch.manual_seed(1)
  module = MODULES[name]()
  with torch.no_grad():
    for key, buffer in module.named_buffers():
      if 'running_' in key:
        buffer.uniform_(0.5, 1.5)
  net = from_torch.from_torch(module, SHAPE, normalisation='half', name=name)
  return Subject(module, net, net.init(KEY))


def nchw(x):
  return torch.tensor((x - 0.5) / 0.5).permute(0, 3, 1, 2)


def loss_fn(output):
  log_p = jax.nn.log_softmax(output.out)
  return -log_p[jnp.arange(2), LABELS].mean()


def distance(one, other):
  return (
    sum((a * b).sum() for a, b in zip(one, other))
    / (sum((a * a).sum() for a in one) * sum((b * b).sum() for b in other))
    ** 0.5
  )


@functools.cache
def of_torch(name, train):
  """Returns logits, buffers, the gradient, and the matching loss's to x."""
  module = copy.deepcopy(subject(name).module).train(train)
  parameters = dict(module.named_parameters())

  def gradient(x):
    logits = module(x)
    loss = F.cross_entropy(logits, torch.tensor(LABELS))
    return logits, torch.autograd.grad(
      loss, [*parameters.values()], create_graph=True
    )

  with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
    observed = [g.detach() for g in gradient(nchw(TARGET))[1]]
    module.load_state_dict(subject(name).module.state_dict())
    x = nchw(X).requires_grad_(True)
    logits, found = gradient(x)
    (slope,) = torch.autograd.grad(distance(found, observed), x)
  return (
    logits.detach().numpy(),
    {k: v.numpy() for k, v in module.state_dict().items()},
    {k: g.detach().numpy() for k, g in zip(parameters, found)},
    slope.permute(0, 2, 3, 1).numpy() / 0.5,
  )


def gradient_of(s, params, x, train):
  def loss(params):
    output = s.net.apply(
      s.variables._replace(params=params), x, train=train, key=KEY
    )
    return loss_fn(output), output

  return jax.grad(loss, has_aux=True)(params)


def near(found, expected, tolerance=1e-4):
  size = max(np.abs(expected).max(), 1e-2)
  np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('name', MODULES)
def test_passes_and_derivatives_are_those_of_torch(name, train):
  s = subject(name)
  logits, state, gradient, slope = of_torch(name, train)

  @jax.jit
  def passed(x, observed):
    def matching(x):
      found, output = gradient_of(s, s.variables.params, x, train)
      parts = jax.tree.leaves(found), jax.tree.leaves(observed)
      return distance(*parts), (found, output)

    return jax.grad(matching, has_aux=True)(x)

  _, (observed, _) = passed(TARGET, s.variables.params)
  found, (own, output) = passed(X, observed)
  near(output.out, logits)
  near(found, slope, 1e-3)
  named = convert.to_state_dict(types.Variables(own, output.stats))
  expected = {**gradient, **{k: state[k] for k in named if 'running_' in k}}
  assert named.keys() == expected.keys()
  largest = max(np.abs(g).max() for g in gradient.values())
  for key, value in expected.items():
    near(named[key] / largest, value / largest)


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('name', MODULES)
def test_moments_are_those_of_the_gradient(name, train):
  s = subject(name)
  assert s.net.probe is not None

  @jax.jit
  def both(x):
    gradient, output = gradient_of(s, s.variables.params, x, train)
    target = jax.tree.map(jnp.cos, gradient)
    found, other = gradient_moments.gradient_moments(
      s.net, loss_fn, s.variables, x, target, train=train, key=KEY
    )
    return found, moments.of_gradients(gradient, target), output, other

  found, expected, output, other = both(X)
  near(other.out, output.out)
  for one, two in zip(found, expected):
    assert one.keys() == two.keys()
    scale = max(float(abs(v)) for v in two.values())
    for key in two:
      near(one[key] / scale, two[key] / scale)


def test_weights_are_a_copy_with_the_names_of_torch():
  s = subject('residual')
  module, net = copy.deepcopy(s.module).eval(), s.net
  for parameter in module.parameters():
    parameter.requires_grad_(False)
  own = from_torch.from_torch(module, SHAPE, name='own', num_classes=CLASSES)
  assert not module.training and not any(
    p.requires_grad for p in module.parameters()
  )
  before = own.init(KEY)
  with torch.no_grad():
    module.fc.weight.zero_()
  again = own.init(jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, before, again)
  state = convert.to_state_dict(before)
  expected = {
    name: value.numpy()
    for name, value in s.module.state_dict().items()
    if name != 'shift' and not name.endswith('num_batches_tracked')
  }
  assert state.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(state[name], value)
  # Constants of the network are no part of what it reads.
  shift = np.full((3, 1, 1), 0.1, np.float32)
  expected['bn1.num_batches_tracked'] = np.array(7)
  found = convert.from_state_dict({**expected, 'shift': shift}, net)
  jax.tree.map(np.testing.assert_array_equal, found, before)
  found = convert.as_found({**expected, 'shift': shift}, net)
  jax.tree.map(np.testing.assert_array_equal, found, before)
  with pytest.raises(ValueError, match="was made with; got 'shift' with other"):
    convert.from_state_dict({**expected, 'shift': 2 * shift}, net)
  assert own.spec == base.make_spec('own', (8, 8, 3), CLASSES, 'none')


def test_layers_are_found():
  s = subject('transformer')
  kinds = {path: site.kind for path, site in inspect.sites(s.net).items()}
  assert kinds == {
    'patch': 'conv',
    'token': 'value',
    'positions': 'value',
    'ln': 'scale',
    'attention.in_proj': 'linear',
    'attention.out_proj': 'linear',
    'mlp.0': 'linear',
    'mlp.2': 'linear',
    'gamma': 'value',
    'head': 'linear',
  }
  assert inspect.classifier(s.net) == 'head'
  assert inspect.positions(s.net, 'a test') == 'positions'
  taps = s.net.apply(s.variables, X, taps=['patch', 'head.input']).taps
  assert {k: v.shape for k, v in taps.items()} == {
    'patch': (2, 2, 2, 8),
    'head.input': (2, 8),
  }
  with pytest.raises(ValueError, match=r'^Expected taps .* transformer; got'):
    s.net.apply(s.variables, X, taps=['nosuch'])
  assert inspect.momenta(subject('residual').net) == {'bn1': 0.3, 'bn2': 0.1}
  assert [*inspect.sites(subject('convnext').net)][:3] == [
    'stem',
    'depthwise',
    'norm',
  ]


def test_frozen_layers_keep_their_statistics():
  s = subject('cnn')
  net = subset.subset(s.net, ['9.*', '4.*', '5.*'])
  variables = net.init(KEY)
  assert trees.named_leaves(variables.frozen).keys() == {
    *('0.kernel', '0.bias', '1.scale', '1.bias'),
  }
  module = copy.deepcopy(s.module).train()
  module[1].eval()
  expected = module(nchw(X)).detach().numpy()
  output = net.apply(variables, jnp.asarray(X), train=True)
  near(output.out, expected)
  before, after = (trees.named_leaves(v.stats) for v in (variables, output))
  np.testing.assert_array_equal(before['1.mean'], after['1.mean'])
  near(after['5.var'], module[5].running_var.numpy())


def test_dropout_draws_from_the_key_of_a_training_pass():
  class Dropping(nn.Module):
    def __init__(self):
      super().__init__()
      self.fc = nn.Linear(192, CLASSES)

    def forward(self, x):
      x = F.dropout(x.flatten(1), 0.5, self.training)
      if self.training:
        x = x * x.new_empty(len(x), 1).bernoulli_(0.8) / 0.8
      return self.fc(x)

  net = from_torch.from_torch(Dropping(), SHAPE)
  variables = net.init(KEY)
  out = net.apply(variables, X).out

  def passed(seed):
    key = jax.random.key(seed)
    return net.apply(variables, jnp.asarray(X), train=True, key=key).out

  np.testing.assert_array_equal(passed(1), passed(1))
  assert np.abs(passed(1) - passed(2)).max() > 1e-3
  mean = np.mean(jax.vmap(passed)(jnp.arange(600)), 0)
  assert np.abs(mean - out).max() < 0.15
  with pytest.raises(ValueError, match=r'^Expected a key .* Dropping, which'):
    net.apply(variables, jnp.asarray(X), train=True)
  assert inspect.draws(net, train=True) and not inspect.draws(net, train=False)


def test_passes_are_vectorised_and_of_any_batch():
  s = subject('cnn')
  many = jnp.stack([X, TARGET])
  found = jax.vmap(lambda x: s.net.apply(s.variables, x, train=True).out)(many)
  for one, x in zip(found, many):
    near(one, s.net.apply(s.variables, x, train=True).out)
  three = jnp.concatenate([X, TARGET[:1]])
  near(s.net.apply(s.variables, three).out[:2], s.net.apply(s.variables, X).out)


@pytest.mark.parametrize(
  'module',
  [
    lambda: Plain(lambda m, y: m.again(m.again(y)), again=nn.Linear(5, 5)),
    lambda: Plain(unused=nn.Linear(5, 5)),
    lambda: Plain(lambda m, y: m.act(y), act=nn.PReLU()),
    lambda: Plain(lambda m, y: y * m.fc.weight.sum()),
    lambda: Plain(
      lambda m, y: m.up(y[:, :, None, None]).mean((2, 3)),
      up=nn.ConvTranspose2d(5, 5, 2),
    ),
    lambda: Plain(
      lambda m, y: y + m.rows(torch.arange(1)), rows=nn.Embedding(2, 5)
    ),
  ],
)
def test_a_network_without_sites_for_all_its_weights_has_no_probe(module):
  own = module()
  net = from_torch.from_torch(own, SHAPE)
  assert net.probe is None
  variables = net.init(KEY)
  near(
    net.apply(variables, X, taps=['fc.input']).out,
    own(torch.tensor(X).permute(0, 3, 1, 2)).detach().numpy(),
  )
  state = convert.to_state_dict(variables)
  assert state.keys() == own.state_dict().keys()
