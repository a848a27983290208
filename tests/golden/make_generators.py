"""Writes golden/generators/*.npz by torch, in float64.

  cd tests && python -m golden.make_generators DATA [case ...]

needs torch, and the folder of shared data and weights; nothing of giajax is
imported.
"""

import itertools
import math
import pathlib
import sys

from golden import draws
from golden import latents
import numpy as np
import torch
from torch import nn


class DCGAN(nn.Module):
  """PyTorch's example, for any number of sizes."""

  def __init__(self, case, latent=100, width=64):
    super().__init__()
    start, doublings = sizes(case)
    parts, inputs = [], latent
    for i in reversed(range(doublings)):
      shape = (4, 2, 1) if parts else (start, 1, 0)
      outputs = width * 2**i
      parts += [nn.ConvTranspose2d(inputs, outputs, *shape, bias=False)]
      parts += [nn.BatchNorm2d(outputs), nn.ReLU()]
      inputs = outputs
    last = nn.ConvTranspose2d(inputs, case.image_shape[2], 4, 2, 1, bias=False)
    self.main = nn.Sequential(*parts, last, nn.Tanh())

  def forward(self, z, y):
    """Maps [M, d] to [M, C, H, W] in [0, 1]."""
    return (self.main(z[:, :, None, None]) + 1) / 2


class ClassBatchNorm(nn.Module):
  """BatchNorm with a table of scales and one of biases."""

  def __init__(self, features, classes):
    super().__init__()
    self.bn = nn.BatchNorm2d(features, affine=False)
    self.gain = nn.Embedding(classes, features)
    self.bias = nn.Embedding(classes, features)

  def forward(self, x, y):
    """Maps [M, C, H, W] and [M] to the shape of x."""
    gain, bias = self.gain(y), self.bias(y)
    return self.bn(x) * gain[:, :, None, None] + bias[:, :, None, None]


class ConditionalDCGAN(nn.Module):
  """A linear layer, then transposed convolutions with classes."""

  def __init__(self, case, num_classes, latent, embedding, width):
    super().__init__()
    self.start, doublings = sizes(case)
    widths = [width * 2**i for i in reversed(range(doublings + 1))]
    self.embed = nn.Embedding(num_classes, embedding)
    self.fc = nn.Linear(
      latent + embedding, self.start**2 * widths[0], bias=False
    )
    self.bn = nn.BatchNorm2d(widths[0])
    pairs = list(itertools.pairwise(widths))
    self.deconvs = nn.ModuleList(
      nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False) for i, o in pairs
    )
    self.norms = nn.ModuleList(ClassBatchNorm(o, num_classes) for _, o in pairs)
    self.conv = nn.Conv2d(width, case.image_shape[2], 3, 1, 1)

  def forward(self, z, y):
    """Maps [M, d] and [M] to [M, C, H, W] in [0, 1]."""
    x = self.fc(torch.cat([z, self.embed(y)], 1))
    x = torch.relu(self.bn(x.view(len(z), -1, self.start, self.start)))
    for deconv, norm in zip(self.deconvs, self.norms):
      x = torch.relu(norm(deconv(x), y))
    return (torch.tanh(self.conv(x)) + 1) / 2


class Block(nn.Module):
  """Three convolutions beside the identity, and a pool in the middle."""

  def __init__(self, width, pooled):
    super().__init__()
    parts = []
    for _ in range(3):
      parts += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    self.conv = nn.Sequential(*parts[:-1])
    self.pool = None
    if pooled:
      self.pool = nn.Sequential(
        nn.Conv2d(width, 4 * width, 1, bias=False),
        nn.GroupNorm(4, 4 * width),
        nn.ReLU(),
        nn.Conv2d(4 * width, width, 1, bias=False),
      )

  def forward(self, x):
    """Maps [M, C, H, W] to the same shape."""
    if self.pool is not None:
      x = x + self.pool(x)
    return torch.relu(self.conv(x) + x)


class Clamp(nn.Module):
  """Bounds latents."""

  def forward(self, x):
    """Maps to [-3, 3]."""
    return 3 * torch.tanh(x / 3)


class Decoder(nn.Sequential):
  """The decoder of a tiny autoencoder."""

  def __init__(self, case, latent=32, width=64):
    def up():
      conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
      return [nn.Upsample(scale_factor=2), conv]

    def blocks(count, pooled=False):
      return [Block(width, pooled) for _ in range(count)]

    super().__init__(
      Clamp(),
      nn.Conv2d(latent, width, 3, padding=1),
      nn.ReLU(),
      *blocks(3, True),
      *up(),
      *blocks(3),
      *up(),
      *blocks(3),
      *up(),
      *blocks(1),
      nn.Conv2d(width, case.image_shape[2], 3, padding=1),
    )

  def forward(self, z, y):
    """Maps [M, h, w, d] to [M, C, H, W] in [0, 1]."""
    return super().forward(z.permute(0, 3, 1, 2)).clamp(0, 1)


class SpectralConv(nn.Conv2d):
  """A 3 x 3 convolution with one power iteration a pass."""

  def __init__(self, inputs, outputs):
    super().__init__(inputs, outputs, 3, padding=1)
    self.register_buffer('u0', torch.randn(1, outputs))

  def forward(self, x):
    """Maps [M, C, H, W] to [M, P, H, W]."""
    matrix = self.weight.flatten(1)
    with torch.no_grad():
      v = nn.functional.normalize(self.u0 @ matrix)
      u = nn.functional.normalize(v @ matrix.T)
      if self.training:
        self.u0.copy_(u)
    weight = self.weight / (v @ matrix.T @ u.T)
    return nn.functional.conv2d(x, weight, self.bias, padding=1)


class Progression(nn.Module):
  """Two spectral convolutions."""

  def __init__(self, inputs, outputs):
    super().__init__()
    parts = []
    for i in (inputs, outputs):
      parts += [SpectralConv(i, outputs), nn.BatchNorm2d(outputs)]
      parts += [nn.LeakyReLU(0.1)]
    self.conv = nn.Sequential(*parts)

  def forward(self, x):
    """Maps [M, C, H, W] to [M, P, H, W]."""
    return self.conv(x)


class CINet(nn.Module):
  """Blocks at each side from 4 on."""

  def __init__(self, case, latent, width):
    super().__init__()
    start, doublings = sizes(case)
    self.sides = [start * 2**i for i in range(doublings + 1)]
    self.input_layer = nn.Sequential(
      nn.ConvTranspose2d(latent, width, start),
      nn.BatchNorm2d(width),
      nn.LeakyReLU(0.1),
    )
    for side in self.sides:
      self.add_module(f'progression_{side}', Progression(width, width))
    last = nn.Conv2d(width, case.image_shape[2], 1)
    self.add_module(f'to_rgb_{self.sides[-1]}', last)

  def forward(self, z, y):
    """Maps [M, d] to [M, C, H, W] in [0, 1]."""
    x = self.input_layer(z[:, :, None, None])
    for i, side in enumerate(self.sides):
      x = nn.functional.interpolate(x, scale_factor=2) if i else x
      x = getattr(self, f'progression_{side}')(x)
    return (torch.tanh(getattr(self, f'to_rgb_{side}')(x)) + 1) / 2


class GRNN(nn.Module):
  """Gated linear units, and labels beside them."""

  def __init__(self, case, num_classes, latent, width):
    super().__init__()

    def up(inputs, outputs):
      conv = nn.Conv2d(inputs, 2 * outputs, 3, padding=1, bias=False)
      norm = nn.BatchNorm2d(2 * outputs)
      return nn.Sequential(nn.Upsample(scale_factor=2), conv, norm, nn.GLU(1))

    start, doublings = sizes(case)
    widths = [width * 2**i for i in reversed(range(doublings))]
    self.fc2 = nn.Sequential(nn.Linear(latent, num_classes))
    self.block0 = nn.Sequential(
      nn.ConvTranspose2d(latent, 2 * widths[0], start), nn.GLU(1)
    )
    self.blocks = nn.ModuleList(up(i, o) for i, o in itertools.pairwise(widths))
    self.deconv_out = up(width, case.image_shape[2])

  def forward(self, z, y):
    """Maps [M, d] to [M, C, H, W] in [0, 1]."""
    x = self.block0(z[:, :, None, None])
    for block in self.blocks:
      x = block(x)
    return torch.sigmoid(self.deconv_out(x))


class Residual(nn.Module):
  """Two convolutions with BatchNorm beside the identity."""

  def __init__(self, width):
    super().__init__()
    self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
    self.bn2 = nn.BatchNorm2d(width)

  def forward(self, x):
    """Maps [M, C, H, W] to the same shape."""
    h = nn.functional.leaky_relu(self.bn1(self.conv1(x)))
    return x + self.bn2(self.conv2(h))


class FGLA(nn.Module):
  """Features as a map, or a linear layer that makes one, then doublings."""

  def __init__(self, case, features, width, grid=0, blocks=1):
    super().__init__()
    self.side, doublings = sizes(case)
    if grid:
      self.side, doublings = grid, int(math.log2(case.image_shape[0] / grid))
    widths = [width * 2**i for i in reversed(range(doublings))]
    channels = features // grid**2 if grid else 2 * widths[0]
    self.fc = None
    if not grid:
      self.fc = nn.Linear(features, self.side**2 * channels)
    self.ups = nn.ModuleList(
      nn.Sequential(
        nn.ConvTranspose2d(i, o, 4, 2, 1),
        nn.LeakyReLU(),
        *(Residual(o) for _ in range(blocks)),
      )
      for i, o in itertools.pairwise([channels, *widths])
    )
    self.conv = nn.Conv2d(width, case.image_shape[2], 1)

  def forward(self, z, y):
    """Maps [M, d] to [M, C, H, W] in [0, 1]."""
    if self.fc is not None:
      z = nn.functional.leaky_relu(self.fc(z))
    x = z.view(len(z), -1, self.side, self.side)
    for up in self.ups:
      x = up(x)
    return torch.sigmoid(self.conv(x))


class LTI(nn.Module):
  """Normalised entries, their sums by a hash, and three linear layers."""

  def __init__(self, case, entries, hashed, width, batch_size=1):
    super().__init__()
    self.image_shape, self.hashed = case.image_shape, hashed
    self.norm = nn.BatchNorm1d(entries, eps=1e-20, affine=False)
    outputs = batch_size * math.prod(case.image_shape)
    self.fc = nn.ModuleList(
      [
        nn.Linear(hashed or entries, width),
        nn.Linear(width, width),
        nn.Linear(width, outputs),
      ]
    )

  def forward(self, z, y):
    """Maps [M, entries] to [M * B, C, H, W] in [0, 1]."""
    x = self.norm(z)
    if self.hashed:
      random = np.random.RandomState(0)
      count = x.shape[1]
      sums = np.zeros((count, self.hashed))
      order = random.permutation(count)
      signs = random.choice([-1.0, 1.0], count)
      for place, (entry, sign) in enumerate(zip(order, signs)):
        sums[entry, place % self.hashed] = sign
      x = x @ torch.from_numpy(sums) * math.sqrt(self.hashed / count)
    first, second, last = self.fc
    x = torch.sigmoid(last(torch.relu(second(torch.relu(first(x))))))
    h, w, c = self.image_shape
    return x.view(-1, c, h, w)


NETS = {
  'autoencoder_decoder': Decoder,
  'ci_net': CINet,
  'conditional_dcgan': ConditionalDCGAN,
  'dcgan': DCGAN,
  'fgla': FGLA,
  'grnn': GRNN,
  'lti': LTI,
}


def sizes(case):
  """Returns the first side of the images, and how often it is doubled."""
  side = case.image_shape[0]
  doublings = math.floor(math.log2(side / 4))
  return side // 2**doublings, doublings


def build(case, data):
  """Returns the generator with drawn weights, or those of a file."""
  net = NETS[case.row](case, **case.options).double()
  counters = 'num_batches_tracked'
  if case.weights:
    start = f'{case.prefix}.' if case.prefix else ''
    with np.load(data / 'weights' / case.weights) as arrays:
      state = {k.removeprefix(start): arrays[k] for k in arrays.files}
  else:
    state = {
      name: draws.weight(name, tuple(value.shape), 0)
      for name, value in net.state_dict().items()
      if not name.endswith(counters)
    }
  state = {
    name: torch.from_numpy(np.asarray(value)).double()
    for name, value in state.items()
    if not name.endswith(counters)
  }
  missing, surplus = net.load_state_dict(state, strict=False)
  assert not surplus and all(name.endswith(counters) for name in missing)
  return net


def evaluate(case, data, train):
  """Returns all goldens of one mode, by name."""
  net = build(case, data).train(train)
  z = torch.from_numpy(latents.latents(case)).double().requires_grad_()
  y = latents.labels(case)
  images = net(z, None if y is None else torch.from_numpy(y))
  images = images.permute(0, 2, 3, 1)
  value = (images * torch.from_numpy(latents.direction(case))).sum()
  (dz,) = torch.autograd.grad(value, z)
  out = {'images': images, 'dz': dz}
  if case.row == 'grnn':
    out['labels'] = net.fc2(z)
  out = {name: value.detach().numpy() for name, value in out.items()}
  if case.weights:
    return {'summaries': draws.summaries({'images': out['images']})}
  buffers = {
    n: b.numpy()
    for n, b in net.named_buffers()
    if 'running' in n or n.endswith('u0')
  }
  if train and buffers:
    out['state'] = draws.summaries(buffers)
  return out


def main():
  """Writes the goldens of the cases named, or of all."""
  latents.FOLDER.mkdir(exist_ok=True)
  data, *names = sys.argv[1:]
  for name in names or latents.CASES:
    case, arrays = latents.CASES[name], {}
    for mode in draws.MODES:
      results = evaluate(case, pathlib.Path(data), mode == 'train')
      for key, value in results.items():
        arrays[f'{mode}/{key}'] = np.asarray(value, np.float32)
    np.savez_compressed(latents.FOLDER / f'{name}.npz', **arrays)
    print(name, flush=True)


if __name__ == '__main__':
  main()
