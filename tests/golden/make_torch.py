"""Writes golden/models/*.npz by torch, in float64, for models/parity_test.py.

  cd tests && python -m golden.make_torch [case ...]

needs torch and torchvision; nothing of giajax is imported. Of all seeds tried,
the one is kept whose inputs of ReLUs come least close to zero, and those of
other activations to their kinks, as rounding to float32 must not switch any.
"""

import sys

from golden import draws
from golden import torch_nets
import numpy as np
import torch
from torch import nn
from torch.nn import attention

# Buffers that follow from the architecture, or count.
CONSTANT = (
  'num_batches_tracked',
  'relative_coords_table',
  'relative_position_index',
)
# Of the images; ImageNet's where a row's name begins with none of these.
MEAN_STD = {
  'lenet': (0.0, 1.0),
  'mlp': (0.0, 1.0),
  'cnn6': (0.0, 1.0),
  'yolov8n': (0.0, 1.0),
  'convnet': ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
# Where an activation's first or second derivative jumps.
KINKS = {
  'relu': (0,),
  'leaky_relu': (0,),
  'hardtanh': (0, 6),  # in the place of ReLU6
  'hardswish': (-3, 3),
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def build(case, seed):
  """Returns the network with the drawn weights, and the image transform."""
  net = torch_nets.NETS[case.row](case, **case.options).double()
  state = {
    name: torch.from_numpy(
      draws.weight(name, tuple(value.shape), seed, case.gain)
    )
    for name, value in net.state_dict().items()
    if name.rpartition('.')[2] not in CONSTANT
  }
  net.load_state_dict(state, strict=False)
  family = next((f for f in MEAN_STD if case.row.startswith(f)), None)
  mean, std = (
    torch.tensor(t, dtype=torch.float64).reshape(-1, 1, 1)
    for t in MEAN_STD.get(family, IMAGENET)
  )
  return net, lambda x: (x.permute(0, 3, 1, 2) - mean) / std


# Its other forms of attention have no second derivative.
@attention.sdpa_kernel(attention.SDPBackend.MATH)
def evaluate(case, seed, train):
  """Returns all goldens of one mode, by name."""
  x, target = (
    torch.from_numpy(draws.images(n, case, seed)).double()
    for n in ('candidate', 'target')
  )
  x.requires_grad_()
  y = torch.from_numpy(draws.labels(case))

  def gradient(images, **kwargs):
    net, transform = build(case, seed)
    net.train(train)
    logits = net(transform(images))
    if isinstance(logits, dict):
      logits = torch.cat([v.flatten(2) for _, v in sorted(logits.items())], 2)
      weights = torch.from_numpy(draws.weights(logits.shape))
      loss = (weights * nn.functional.softplus(logits)).mean()
    else:
      loss = nn.functional.cross_entropy(logits, y)
    params = dict(net.named_parameters())
    grads = torch.autograd.grad(loss, list(params.values()), **kwargs)
    return net, logits, loss, dict(zip(params, grads))

  *_, observed = gradient(target)
  net, logits, loss, grads = gradient(x, create_graph=True)
  dot = sum((grads[n] * observed[n]).sum() for n in grads)
  squared = sum((g * g).sum() for g in grads.values())
  norm = sum((g * g).sum() for g in observed.values())
  matching = 1 - dot / (squared * norm).sqrt()
  (dx,) = torch.autograd.grad(matching, x)
  out = {'logits': logits, 'loss': loss, 'matching': matching, 'dx': dx}
  out = {name: value.detach().numpy() for name, value in out.items()}
  out['gradient'] = draws.summaries(
    {name: g.detach().numpy() for name, g in grads.items()}
  )
  buffers = {n: b.numpy() for n, b in net.named_buffers() if 'running' in n}
  if train and buffers:
    out['state'] = draws.summaries(buffers)
  return out


def margin(case, seed):
  """Returns how close any activation's input comes to a kink, in any mode."""
  least = [1.0]
  functions = {name: getattr(nn.functional, name) for name in KINKS}

  def watched(name):
    def call(x, *args, **kwargs):
      least.extend((x - k).abs().min().item() for k in KINKS[name])
      return functions[name](x, *args, **kwargs)

    return call

  for name in KINKS:
    setattr(nn.functional, name, watched(name))
  try:
    with torch.no_grad():
      for train in (False, True):
        for name in ('candidate', 'target'):
          net, transform = build(case, seed)
          x = torch.from_numpy(draws.images(name, case, seed)).double()
          net.train(train)(transform(x))
  finally:
    for name, function in functions.items():
      setattr(nn.functional, name, function)
  return min(least)


def seeds(name):
  """Returns the seed of a golden that exists, else all that are tried."""
  path = draws.FOLDER / f'{name}.npz'
  if path.exists():
    with np.load(path, allow_pickle=False) as archive:
      return [int(archive['seed'])]
  return range(draws.CASES[name].seeds)


def main():
  """Writes the goldens of the cases named, or of all."""
  draws.FOLDER.mkdir(exist_ok=True)
  for name in sys.argv[1:] or draws.CASES:
    case = draws.CASES[name]
    margins = {}
    for seed in seeds(name):
      margins[seed] = margin(case, seed)
      if margins[seed] >= 1:  # no kinks
        break
    seed = max(margins, key=lambda s: margins[s])
    arrays = {'seed': np.int64(seed)}
    for mode in draws.MODES:
      results = evaluate(case, seed, mode == 'train')
      for key, value in results.items():
        arrays[f'{mode}/{key}'] = np.asarray(value, np.float32)
    np.savez_compressed(draws.FOLDER / f'{name}.npz', **arrays)
    print(name, 'seed', seed, 'margin', margins[seed], flush=True)


if __name__ == '__main__':
  main()
