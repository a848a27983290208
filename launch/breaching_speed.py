"""Times a restart-step of breaching's Inverting Gradients, as one JSON line.

  PYTHON breaching_speed.py --network=resnet18 --batch=1 --size=32 --steps=20

PYTHON has breaching 0.1.2, torch and torchvision, and needs nothing of giajax
but `timing`, which stands beside this script. The update is that of random
images. breaching runs restarts one after the other, so that one of its steps is
one restart-step. On a GPU, torch lets convolutions round their inputs to TF32,
which is its default.
"""

import argparse
import json

import breaching  # pyrefly: ignore
from breaching.cases.models import model_preparation  # pyrefly: ignore
import omegaconf  # pyrefly: ignore
import timing  # pyrefly: ignore
import torch  # pyrefly: ignore
import torchvision  # pyrefly: ignore

_CLASSES = 16  # as many as the photographs have
_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_WARM_UP = 3  # steps


def main():
  """Runs the workload that the flags name."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--network', required=True)
  for name in ('batch', 'size', 'steps'):
    parser.add_argument(f'--{name}', type=int, required=True)
  args = parser.parse_args()
  torch.manual_seed(0)
  torch.backends.cudnn.benchmark = True  # as breaching's own commands do
  setup = {
    'device': torch.device('cuda' if torch.cuda.is_available() else 'cpu'),
    'dtype': torch.float,
  }
  shape = (3, args.size, args.size)
  net = _network(args.network, shape).to(**setup).eval()
  facts = {
    'parameters': sum(p.numel() for p in net.parameters()),
    'convolution_flops': args.batch * _flops(net, shape, setup),
  }
  server, client, attacker = _attack(net, shape, args.batch, setup)

  def run(steps):
    attacker.cfg.optim.max_iterations = steps
    attacker.reconstruct(server, client, {}, dryrun=False)
    if setup['device'].type == 'cuda':
      torch.cuda.synchronize()

  run(_WARM_UP)
  began = timing.now()
  run(args.steps)
  took = timing.since(began)
  figures = {
    'device': _device(setup['device']),
    'ms_per_step': 1e3 * took.wall / args.steps,
    'cpu_ms_per_step': 1e3 * took.cpu / args.steps,
    'other_load': took.other,
  }
  print(json.dumps({**facts, **figures}))


def _network(name, shape):
  """Returns the same network that the workload of this name has."""
  if name == 'lenet':
    return _LeNet()
  if name == 'convnet64':
    return model_preparation.ConvNet(width=64, num_classes=_CLASSES)
  if shape[1] > 32:
    return getattr(torchvision.models, name)(num_classes=_CLASSES)
  if name == 'resnet18':
    net = torchvision.models.resnet18(num_classes=_CLASSES)
    net.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = torch.nn.Identity()
    return net
  data = {'modality': 'vision', 'classes': _CLASSES, 'shape': shape}
  data |= {'task': 'classification', 'name': 'CIFAR10'}
  config = omegaconf.OmegaConf.create(data)
  title = name.replace('resnet', 'ResNet')
  return model_preparation.construct_model(title, config, pretrained=False)[0]


class _LeNet(torch.nn.Module):
  """The network of Deep Leakage from Gradients."""

  def __init__(self):
    super().__init__()
    parts, channels = [], 3
    for stride in (2, 2, 1, 1):
      conv = torch.nn.Conv2d(channels, 12, 5, stride, padding=2)
      parts += [conv, torch.nn.Sigmoid()]
      channels = 12
    self.body = torch.nn.Sequential(*parts)
    self.fc = torch.nn.Linear(12 * 8 * 8, _CLASSES)

  def forward(self, x):
    """Returns the logits of images."""
    return self.fc(torch.flatten(self.body(x), 1))


def _flops(net, shape, setup):
  """Returns the FLOP of all convolutions for one image."""
  sizes = []

  def count(module, _, out):
    sizes.append(2 * out.numel() * module.weight[0].numel())

  hooks = [
    module.register_forward_hook(count)
    for module in net.modules()
    if isinstance(module, torch.nn.Conv2d)
  ]
  with torch.no_grad():
    net(torch.zeros(1, *shape, **setup))
  for hook in hooks:
    hook.remove()
  return sum(sizes)


def _attack(net, shape, batch, setup):
  """Returns what the server sends, what it receives, and the attack."""
  y = torch.arange(batch, device=setup['device']) % _CLASSES
  criterion = torch.nn.CrossEntropyLoss()
  loss = criterion(net(torch.randn(batch, *shape, **setup)), y)
  gradient = torch.autograd.grad(loss, [*net.parameters()])
  config = breaching.get_attack_config('invertinggradients')
  config.optim.callback = 10**9
  attacker = breaching.attacks.prepare_attack(net, criterion, config, setup)
  facts = {
    'modality': 'vision',
    'classes': _CLASSES,
    'shape': shape,
    'size': [1],
    'normalize': True,
    'mean': _MEAN,
    'std': _STD,
  }
  server = [
    {
      'parameters': [*net.parameters()],
      'buffers': [*net.buffers()],
      'metadata': argparse.Namespace(**facts),
    }
  ]
  known = {'num_data_points': batch, 'labels': y, 'local_hyperparams': None}
  client = [{'gradients': gradient, 'buffers': None, 'metadata': known}]
  return server, client, attacker


def _device(device):
  return torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu'


if __name__ == '__main__':
  main()
