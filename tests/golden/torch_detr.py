"""DETR, its matching and its loss in torch, by the paper and for goldens.

The network returns `{'boxes': [B, L, Q, 4], 'scores': [B, L, Q, K + 1]}`.
Nothing of giajax is imported, and nothing is vectorised: attention is torch's,
the matching scipy's, the overlap torchvision's, and the loss goes over objects
one at a time.
"""

import math

from golden import torch_residual
from scipy import optimize
import torch
from torch import nn
from torchvision import ops

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
STYLE = {
  'shortcut': 'B',
  'groups': 1,
  'group_width': 64,
  'skip': True,
  'norm': 'batch',
  'placement': 'after',
  'activation': 'relu',
}
# Looked up at each call: the generator watches it.
F = nn.functional


class Body(nn.Module):
  """The stages of a ResNet with torchvision's names."""

  def __init__(self, depth, stages, width):
    super().__init__()
    style = {**STYLE, 'bottleneck': depth >= 50}
    self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    inputs = width
    for i, count in enumerate(BLOCKS[depth][:stages]):
      stage = nn.Sequential()
      for j in range(count):
        stride = 2 if i and not j else 1
        block = torch_residual.Block(inputs, width << i, stride, style)
        inputs = block.outputs
        stage.append(block)
      self.add_module(f'layer{i + 1}', stage)
    self.stages, self.outputs = stages, inputs

  def forward(self, x):
    """Maps [B, 3, H, W] to [B, outputs, H', W']."""
    x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
    for i in range(self.stages):
      x = getattr(self, f'layer{i + 1}')(x)
    return x


class Layer(nn.Module):
  """A layer of the encoder or the decoder, with the norms at the end."""

  def __init__(self, dim, heads, hidden, decodes):
    super().__init__()
    self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
    if decodes:
      self.multihead_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
      self.norm3 = nn.LayerNorm(dim)
    self.linear1 = nn.Linear(dim, hidden)
    self.linear2 = nn.Linear(hidden, dim)
    self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

  def forward(self, x, place, memory=None, memory_place=None):
    """Maps tokens [B, T, D] to the same shape."""
    q = x + place
    x = self.norm1(x + self.self_attn(q, q, x, need_weights=False)[0])
    last = self.norm2
    if memory is not None:
      read, _ = self.multihead_attn(
        x + place, memory + memory_place, memory, need_weights=False
      )
      x, last = self.norm2(x + read), self.norm3
    return last(x + self.linear2(F.relu(self.linear1(x))))


class Detr(nn.Module):
  """The whole network, under the names of the authors' weights."""

  def __init__(self, case, **options):
    super().__init__()
    o, dim = options, options['width']
    self.frozen = o.get('batch_norm') != 'trained'
    hidden = int(o['hidden'] * dim)
    body = Body(o['depth'], o['stages'], round(64 * o['backbone_width']))
    self.backbone = nn.ModuleList([nn.ModuleDict({'body': body})])
    self.input_proj = nn.Conv2d(body.outputs, dim, 1)
    self.transformer = nn.Module()
    self.transformer.encoder = nn.Module()
    self.transformer.encoder.layers = nn.ModuleList(
      Layer(dim, o['heads'], hidden, False) for _ in range(o['encoder_layers'])
    )
    self.decodes = o['decoder_layers'] > 0
    if self.decodes:
      decoder = self.transformer.decoder = nn.Module()
      decoder.layers = nn.ModuleList(
        Layer(dim, o['heads'], hidden, True) for _ in range(o['decoder_layers'])
      )
      decoder.norm = nn.LayerNorm(dim)
      self.query_embed = nn.Embedding(o['queries'], dim)
    self.bbox_embed = nn.Module()
    self.bbox_embed.layers = nn.ModuleList(
      nn.Linear(dim, n) for n in (dim, dim, 4)
    )
    self.class_embed = nn.Linear(dim, case.num_classes + 1)
    if self.frozen:
      for norm in self.norms():
        norm.requires_grad_(False)

  def norms(self):
    """Returns those of the backbone."""
    return [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]

  def train(self, mode=True):
    """Sets the mode, but not that of norms that are not trained."""
    super().train(mode)
    if self.frozen:
      for norm in self.norms():
        norm.eval()
    return self

  def forward(self, x):
    """Maps [B, 3, H, W] to boxes and scores."""
    x = self.input_proj(self.backbone[0]['body'](x))
    place = positions(*x.shape[2:], x.shape[1])
    x = x.flatten(2).transpose(1, 2)
    for layer in self.transformer.encoder.layers:
      x = layer(x, place)
    read = [x]
    if self.decodes:
      queries, y, read = self.query_embed.weight, 0, []
      y = torch.zeros(len(x), *queries.shape, dtype=x.dtype)
      for layer in self.transformer.decoder.layers:
        y = layer(y, queries, x, place)
        read.append(self.transformer.decoder.norm(y))
    return {
      'boxes': torch.stack([self.boxes(y) for y in read], 1),
      'scores': torch.stack([self.class_embed(y) for y in read], 1),
    }

  def boxes(self, y):
    """Maps [B, Q, D] to centres in [0, 1]."""
    first, second, third = self.bbox_embed.layers
    return torch.sigmoid(third(F.relu(second(F.relu(first(y))))))


def positions(height, width, dim):
  """Returns the positions of a map, one number at a time, [H * W, D]."""
  half, rows = dim // 2, []
  for y in range(1, height + 1):
    for x in range(1, width + 1):
      row = []
      for at, end in ((y, height), (x, width)):
        angle = 2 * math.pi * at / (end + 1e-6)
        for i in range(half):
          function = math.cos if i % 2 else math.sin
          row.append(function(angle / 10000 ** (2 * (i // 2) / half)))
      rows.append(row)
  return torch.tensor(rows, dtype=torch.float64)


def corners(centres):
  """Maps centres [..., 4] to corners."""
  x, y, w, h = centres.unbind(-1)
  return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)


def centres(corners):
  """Maps corners [..., 4] to centres."""
  a, b, c, d = corners.unbind(-1)
  return torch.stack([(a + c) / 2, (b + d) / 2, c - a, d - b], -1)


def costs(boxes, scores, own, classes):
  """Returns the cost [Q, G] of one image and layer."""
  l1 = torch.cdist(boxes, centres(own), p=1)
  overlap = ops.generalized_box_iou(corners(boxes), own)
  return 5 * l1 - 2 * overlap - scores.softmax(-1)[:, classes]


def loss(boxes, scores, objects):
  """Returns the loss, its terms [L] by name, and assignments, loops over all.

  Args:
    boxes: [B, L, Q, 4] centres.
    scores: [B, L, Q, K + 1] logits.
    objects: as in `detr_cases`.
  """
  batch, count, queries, _ = boxes.shape
  total = max(int(objects.valid.sum()), 1)
  own = [torch.from_numpy(b[v]).double() for b, v in zip(*objects[::2])]
  classes = [torch.from_numpy(c[v]).long() for c, v in zip(*objects[1:])]
  weight = torch.ones(scores.shape[-1], dtype=boxes.dtype)
  weight[-1] = 0.1
  terms, matching = {'class': [], 'l1': [], 'giou': []}, {}
  for layer in range(count):
    l1 = overlap = 0
    target = torch.full((batch, queries), scores.shape[-1] - 1)
    for i in range(batch):
      cost = costs(boxes[i, layer], scores[i, layer], own[i], classes[i])
      cost = cost.detach().numpy()
      rows, columns = optimize.linear_sum_assignment(cost)
      matching[i, layer] = (cost, rows, columns)
      for q, g in zip(rows, columns):
        target[i, q] = classes[i][g]
        mine = boxes[i, layer, q]
        l1 = l1 + (mine - centres(own[i][g])).abs().sum()
        giou = ops.generalized_box_iou(corners(mine)[None], own[i][g][None])
        overlap = overlap + 1 - giou[0, 0]
    logits = scores[:, layer].flatten(0, 1)
    nats = F.cross_entropy(logits, target.flatten(), weight)
    for name, value in zip(terms, (nats, l1 / total, overlap / total)):
      terms[name].append(value)
  terms = {name: torch.stack(values) for name, values in terms.items()}
  whole = terms['class'] + 5 * terms['l1'] + 2 * terms['giou']
  return whole.sum(), terms, matching


NETS = {'detr_resnet50': Detr}
