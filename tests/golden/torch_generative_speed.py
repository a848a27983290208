"""Times generative steps in eager PyTorch, for `launch.benchmark`.

  PYTHON tests/golden/torch_generative_speed.py --case=FILE

FILE is what `launch.generative_workload --case=FILE` wrote: the weights and the
inputs of a first step. Prints one JSON line: times, and the losses of the first
steps, by which it can be told whether both sides do the same. Needs torch and
torchvision, nothing of giajax.

- ci_net: restarts one after the other; the gradient of the cosine distance to
  the generator's weights, its signs, and Adam.
- lti: the gradients of all updates, their hash, and a step of Adam. They are
  computed one by one, as the authors do, and again by `torch.func.vmap`.
- ggl: images of a population, the gradient of each and its distance, one
  candidate after the other and again by `torch.func.vmap`. The search itself is
  left out.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
with contextlib.suppress(ImportError):  # what a torch without GPU lacks
  import torchvision_cpu  # noqa: F401

from golden import draws
from golden import make_generators
from golden import torch_nets
import numpy as np
import torch
from torch import func
from torch.nn import functional

from launch import timing

_LEAST_SECONDS, _LEAST_STEPS = 1.0, 3  # that are timed
_LIKE = 2  # steps whose losses are compared
_BOUND = 10.0  # of the normalised entries of a gradient
_MOMENTS = 0.1  # the weight of the penalty of latents


class Case:
  """What a file holds: a network, generators, and what they read."""

  def __init__(self, path):
    with np.load(path) as arrays:
      self.arrays = {name: arrays[name] for name in arrays.files}
    kind, network = (str(self.arrays[name]) for name in ('kind', 'network'))
    self.kind, self.y = kind, self.tensor('y').long()
    shape = tuple(map(int, self.arrays['image_shape']))
    classes = int(self.arrays['num_classes'])
    self.images = draws.Case(network, shape, classes)
    net = torch_nets.NETS[network](self.images)
    train = bool(self.arrays['train_mode'])
    self.victim = self.loaded(net, 'victim').train(train)
    named = dict(self.victim.named_parameters())
    self.params = {name: named[name] for name in sorted(named)}
    self.mean, self.std = (
      self.tensor(name).reshape(-1, 1, 1) for name in ('mean', 'std')
    )
    self.normalises = bool(self.mean.any() or (self.std != 1).any())

  def tensor(self, name):
    """Returns an array of the file."""
    return torch.from_numpy(self.arrays[name])

  def under(self, prefix):
    """Returns the arrays under a prefix, by the rest of their names."""
    start = f'{prefix}.'
    return {
      name.removeprefix(start): torch.from_numpy(array)
      for name, array in self.arrays.items()
      if name.startswith(start)
    }

  def loaded(self, net, prefix):
    """Returns a network with the weights under a prefix: all of both."""
    missing, surplus = net.load_state_dict(self.under(prefix), strict=False)
    assert not surplus, surplus
    assert all(name.endswith('num_batches_tracked') for name in missing)
    return net

  def observed(self):
    """Returns the observed gradient, in the order of the parameters."""
    tensors = self.under('observed')
    return [tensors[name] for name in self.params]

  def normal(self, x):
    """Returns images as the network reads them."""
    return (x - self.mean) / self.std if self.normalises else x

  def gradient(self, x, y, **kwargs):
    """Returns the gradient of the loss of a batch."""
    loss = functional.cross_entropy(self.victim(self.normal(x)), y)
    return torch.autograd.grad(loss, [*self.params.values()], **kwargs)

  def gradients(self, x, y):
    """Returns the gradient of each of some images, [M, ...], under vmap."""

    def loss(params, x, y):
      out = func.functional_call(self.victim, params, (self.normal(x)[None],))
      return functional.cross_entropy(out, y[None])

    params = {name: p.detach() for name, p in self.params.items()}
    found = func.vmap(func.grad(loss), (None, 0, 0))(params, x, y)
    return [found[name] for name in self.params]


class Hashed(make_generators.LTI):
  """The perceptron, which picks the entries of each sum."""

  def __init__(self, case):
    width, hashed = case.arrays['generator.fc.0.weight'].shape
    count = len(case.arrays['generator.norm.running_mean'])
    super().__init__(case.images, count, hashed, width)
    self.entries = case.tensor('entries').long()
    self.factors = case.tensor('factors')

  def forward(self, z, y):
    """Maps [M, entries] to [M, C, H, W] in [0, 1]."""
    u = self.norm(z).clamp(-_BOUND, _BOUND)
    x = (u[:, self.entries] * self.factors).sum(1)
    first, second, last = self.fc
    x = torch.sigmoid(last(torch.relu(second(torch.relu(first(x))))))
    h, w, c = self.image_shape
    return x.view(-1, c, h, w)


def ci_net(case):
  """Returns a step of all restarts, and the size of their generator."""
  observed, restarts = case.observed(), []
  norm = sum((t * t).sum() for t in observed).sqrt()
  for i, z in enumerate(case.tensor('z')):
    width = len(case.arrays[f'generator.{i}.input_layer.0.bias'])
    net = make_generators.CINet(case.images, z.shape[1], width)
    net = case.loaded(net, f'generator.{i}').train()
    restarts.append((net, z, torch.optim.Adam(net.parameters(), lr=1e-3)))

  def step():
    losses = []
    for net, z, optimizer in restarts:
      found = case.gradient(net(z, None), case.y, create_graph=True)
      dot = sum((g * t).sum() for g, t in zip(found, observed))
      length = sum((g * g).sum() for g in found).sqrt()
      loss = 1 - dot / length / norm
      params = [*net.parameters()]
      for p, slope in zip(params, torch.autograd.grad(loss, params)):
        p.grad = slope.sign()
      optimizer.step()
      losses.append(loss.item())
    return losses

  return {'': step}, len(restarts), size(restarts[0][0])


def lti(case):
  """Returns a step by either way to gradients, and the perceptron's size."""
  x = case.tensor('x').permute(0, 3, 1, 2).contiguous()

  def one_by_one():
    every = [case.gradient(x[i, None], case.y[i, None]) for i in range(len(x))]
    return torch.stack([torch.cat([g.flatten() for g in one]) for one in every])

  def together():
    return torch.cat([g.flatten(1) for g in case.gradients(x, case.y)], 1)

  def stepper(gradients):
    net = case.loaded(Hashed(case), 'generator').train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step():
      loss = functional.mse_loss(net(gradients(), None), x)
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()
      return [loss.item()]

    return step

  steps = {'': stepper(one_by_one), 'vmap_': stepper(together)}
  return steps, len(x), size(Hashed(case))


def ggl(case):
  """Returns an evaluation of a population by either way to gradients."""
  observed, z = case.observed(), case.tensor('z')
  tables = case.under('generator')
  classes, embedding = tables['embed.weight'].shape
  width = tables['conv.weight'].shape[1]
  net = make_generators.ConditionalDCGAN(
    case.images, classes, z.shape[1], embedding, width
  )
  net = case.loaded(net, 'generator').eval()
  y = case.y.expand(len(z))

  def losses_of(z, found):
    pairs = zip(found, observed)
    matching = sum((g - t).square().flatten(1).sum(1) for g, t in pairs)
    mean, variance = z.mean(1), z.var(1, unbiased=False)
    moments = (mean**2 + variance - 1 - variance.log()) / 2
    return matching / len(observed) + _MOMENTS * moments

  def images(z, y):
    with torch.no_grad():
      return net(z, y)

  def one_by_one():
    losses = []
    for i in range(len(z)):
      own, label = z[i, None], y[i, None]
      found = case.gradient(images(own, label), label)
      losses.append(losses_of(own, [g[None] for g in found]))
    return torch.cat(losses)[:1].tolist()

  def together():
    losses = losses_of(z, case.gradients(images(z, y), y))
    return losses[:1].tolist()  # the file says what the first one is

  return {'': one_by_one, 'vmap_': together}, len(z), size(net)


def size(net):
  """Returns the number of parameters."""
  return sum(p.numel() for p in net.parameters())


def timed(step, units):
  """Returns the losses of the first steps, and the times of later ones."""
  losses = [step() for _ in range(_LIKE)]
  began, done = timing.now(), 0
  end = time.perf_counter() + _LEAST_SECONDS
  while done < _LEAST_STEPS or time.perf_counter() < end:
    step()
    done += 1
  took = timing.since(began)
  return {
    'losses': losses,
    'ms_per_unit': 1e3 * took.wall / done / units,
    'cpu_ms_per_unit': 1e3 * took.cpu / done / units,
  }, took.other


_KINDS = {'ci_net': ci_net, 'ggl': ggl, 'lti': lti}


def main():
  """Runs the step of the file that the flags name."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--case', required=True)
  args = parser.parse_args()
  case = Case(args.case)
  forms, units, parameters = _KINDS[case.kind](case)
  result = {
    'parameters': size(case.victim),
    'generator_parameters': parameters,
  }
  loads = []
  for prefix, step in forms.items():
    figures, load = timed(step, units)
    result |= {f'{prefix}{name}': value for name, value in figures.items()}
    loads.append(load)
  print(json.dumps({**result, 'other_load': timing.most(loads)}))


if __name__ == '__main__':
  main()
