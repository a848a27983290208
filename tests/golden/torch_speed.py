"""Times one matching step in eager PyTorch, for `launch.benchmark`.

The peer of --suite=zoo and --suite=detection.

A step is the gradient to the images of 1 - cos between the parameters' gradient
and an observed one, in inference mode: two backward passes, nothing else.
Prints one JSON line, with what tells that the network is the same one. Needs
torch and torchvision, nothing of giajax.
"""

import argparse
import contextlib
import functools
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
with contextlib.suppress(ImportError):  # what a torch without GPU lacks
  import torchvision_cpu  # noqa: F401

from golden import case as cases
from golden import torch_detection
from golden import torch_detr
from golden import torch_nets
from golden import torch_set_matching
from golden import torch_task_aligned
import numpy as np
import torch

from launch import timing

CLASSES = 16  # of the photographs
SHAPES, SLOTS = 2, 4  # the classes of the shapes, and how many an image holds
_LEAST_SECONDS = 1.0  # for which steps are timed
_DETR = {
  'detr_small': {
    'depth': 18,
    'stages': 3,
    'backbone_width': 1,
    'batch_norm': 'trained',
    'encoder_layers': 1,
    'decoder_layers': 1,
    'width': 128,
    'heads': 4,
    'hidden': 4,
    'queries': 100,
    'dropout': 0.0,
  }
}


def detects(network):
  """Returns whether a network finds objects, of which shapes have two kinds."""
  return network in {*torch_detection.NETS, *_DETR}


def build(network, size):
  """Returns a network in inference mode."""
  classes = SHAPES if detects(network) else CLASSES
  case = cases.Case(network, (size, size, 3), classes)
  if network not in _DETR:
    return torch_nets.NETS[network](case).eval()
  # Its positions are as constant as parameters.
  place = torch_detr.positions
  torch_detr.positions = functools.cache(lambda *shape: place(*shape).float())
  return torch_detr.Detr(case, **_DETR[network]).eval()


def objective(network, batch, size):
  """Returns the loss of an output, of classes or of drawn objects."""
  if not detects(network):
    y = torch.arange(batch) % CLASSES
    return lambda out: torch.nn.functional.cross_entropy(out, y)
  rng = np.random.default_rng(0)
  corner = rng.uniform(0, 0.5, (batch, SLOTS, 2))
  sides = rng.uniform(0.2, 0.5, (batch, SLOTS, 2))
  boxes = np.concatenate([corner, corner + sides], -1).astype(np.float32)
  kinds = torch.from_numpy(rng.integers(0, SHAPES, (batch, SLOTS)))
  objects = torch.from_numpy(boxes), kinds, torch.ones_like(kinds).bool()
  if network in _DETR:
    return lambda out: torch_set_matching.loss(out, objects)
  return lambda out: torch_task_aligned.loss(out, objects, size, size)


def main():
  """Runs the workload that the flags name."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--network', required=True)
  for name in ('batch', 'size', 'steps'):
    parser.add_argument(f'--{name}', type=int, required=True)
  args = parser.parse_args()
  torch.manual_seed(0)
  net = build(args.network, args.size)
  params = list(net.parameters())
  loss = objective(args.network, args.batch, args.size)

  convolutions = []

  def count(module, _, out):
    convolutions.append(2 * out.numel() * module.weight[0].numel())

  hooks = [
    module.register_forward_hook(count)
    for module in net.modules()
    if isinstance(module, torch.nn.Conv2d)
  ]
  with torch.no_grad():
    net(torch.zeros(args.batch, 3, args.size, args.size))
  for hook in hooks:
    hook.remove()

  def gradient(x, **kwargs):
    return torch.autograd.grad(loss(net(x)), params, **kwargs)

  def image():
    return torch.randn(args.batch, 3, args.size, args.size)

  observed = gradient(image())
  norm = sum((t * t).sum() for t in observed).sqrt()
  x = image().requires_grad_()

  def step():
    found = gradient(x, create_graph=True)
    dot = sum((g * t).sum() for g, t in zip(found, observed))
    length = sum((g * g).sum() for g in found).sqrt()
    return torch.autograd.grad(1 - dot / length / norm, x)

  # The other kernels of attention have no second derivative.
  with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
    step()
    began, steps = timing.now(), 0
    end = time.perf_counter() + _LEAST_SECONDS
    while steps < args.steps or time.perf_counter() < end:
      step()
      steps += 1
    took = timing.since(began)
  result = {
    'network': args.network,
    'batch': args.batch,
    'size': args.size,
    'parameters': sum(p.numel() for p in params),
    'convolution_flops': sum(convolutions),
    'ms_per_step': 1e3 * took.wall / steps,
    'cpu_ms_per_step': 1e3 * took.cpu / steps,
    'other_load': took.other,
  }
  print(json.dumps(result))


if __name__ == '__main__':
  main()
