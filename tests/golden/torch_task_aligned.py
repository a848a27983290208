"""The loss of task-aligned detectors in torch, for all objects at once.

As detectors are trained with it: what the benchmark times beside giajax.
"""

import math

import torch
from torch.nn import functional

_STRIDES = (8, 16, 32)
_MOST, _TINY, _EPS = 10, 1e-9, 1e-7
_WEIGHTS = 7.5, 0.5, 1.5  # of boxes, classes and distances


def points(height, width, dtype):
  """Returns the points [A, 2] and strides [A, 1] of all levels, in pixels."""
  places, strides = [], []
  for stride in _STRIDES:
    rows, columns = (
      stride * (torch.arange(side // stride, dtype=dtype) + 0.5)
      for side in (height, width)
    )
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    places.append(torch.stack([x, y], -1).reshape(-1, 2))
    strides.append(torch.full((len(places[-1]), 1), stride, dtype=dtype))
  return torch.cat(places), torch.cat(strides)


def overlaps(a, b):
  """Returns the complete IoU of boxes [..., 4] (left, top, right, bottom)."""
  wa, ha = a[..., 2] - a[..., 0], a[..., 3] - a[..., 1] + _EPS
  wb, hb = b[..., 2] - b[..., 0], b[..., 3] - b[..., 1] + _EPS
  low = torch.maximum(a[..., :2], b[..., :2])
  high = torch.minimum(a[..., 2:], b[..., 2:])
  shared = (high - low).clamp(min=0).prod(-1)
  iou = shared / (wa * ha + wb * hb - shared + _EPS)
  hull = torch.maximum(a[..., 2:], b[..., 2:])
  hull = hull - torch.minimum(a[..., :2], b[..., :2])
  apart = (b[..., :2] + b[..., 2:] - a[..., :2] - a[..., 2:]).square().sum(-1)
  angle = (torch.atan(wb / hb) - torch.atan(wa / ha)).square()
  v = 4 / math.pi**2 * angle
  with torch.no_grad():
    alpha = v / (v - iou + 1 + _EPS)
  return iou - apart / 4 / (hull.square().sum(-1) + _EPS) - alpha * v


@torch.no_grad()
def assign(scores, boxes, truth, kinds, valid, place):
  """Returns targets [B, A, K], whether a point is taken, and by which object.

  Args:
    scores: [B, A, K] probabilities.
    boxes: [B, A, 4] in pixels.
    truth: [B, G, 4] in pixels.
    kinds: [B, G] classes.
    valid: [B, G].
    place: [A, 2] points in pixels.
  """
  low, high = truth[:, :, None, :2], truth[:, :, None, 2:]
  near = torch.cat([place - low, high - place], -1).amin(-1)
  inside = (near > _TINY) & valid[:, :, None]
  overlap = overlaps(truth[:, :, None], boxes[:, None]).clamp(min=0) * inside
  own = scores.mT.gather(1, kinds[..., None].expand(-1, -1, len(place)))
  aligned = own.sqrt() * overlap**6 * inside
  best = aligned.topk(_MOST, -1).indices
  taken = torch.zeros_like(inside).scatter_(-1, best, value=True) & inside
  crowded = taken.sum(1, keepdim=True) > 1
  winner = functional.one_hot(overlap.argmax(1), truth.shape[1]).mT.bool()
  taken = torch.where(crowded, winner, taken)
  aligned, overlap = aligned * taken, overlap * taken
  scale = overlap.amax(-1, keepdim=True)
  scale = scale / (aligned.amax(-1, keepdim=True) + _TINY)
  owner = taken.int().argmax(1)
  strength = (aligned * scale).amax(1)
  hot = functional.one_hot(kinds.gather(1, owner), scores.shape[-1])
  return hot * strength[..., None], taken.any(1), owner


def loss(out, objects, height, width):
  """Returns the loss of a batch.

  Args:
    out: {'boxes': [B, A, 4, R], 'scores': [B, A, K]} logits.
    objects: (boxes [B, G, 4] in [0, 1], classes [B, G], valid [B, G]).
    height: of the images, in pixels.
    width: of the images, in pixels.
  """
  logits, scores = out['boxes'], out['scores']
  place, stride = points(height, width, logits.dtype)
  reach = logits.softmax(-1) @ torch.arange(
    logits.shape[-1], dtype=logits.dtype
  )
  centre = place / stride
  found = torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], -1)
  truth, kinds, valid = objects
  truth = truth * torch.tensor([width, height] * 2, dtype=logits.dtype)
  targets, positive, owner = assign(
    scores.sigmoid().detach(),
    (found * stride).detach(),
    truth,
    kinds,
    valid,
    place,
  )
  total = targets.sum().clamp(min=1)
  mine = truth.gather(1, owner[..., None].expand(-1, -1, 4)) / stride
  weight = targets.sum(-1)[positive]
  box = ((1 - overlaps(found, mine)[positive]) * weight).sum()
  away = torch.cat([centre - mine[..., :2], mine[..., 2:] - centre], -1)
  away = away.clamp(0, logits.shape[-1] - 1.01)[positive]
  least = away.floor()
  log = logits[positive].log_softmax(-1)
  lower, upper = (
    log.gather(-1, (least.long() + i)[..., None])[..., 0] for i in (0, 1)
  )
  apart = -((least + 1 - away) * lower + (away - least) * upper).mean(-1)
  kind = functional.binary_cross_entropy_with_logits(
    scores, targets, reduction='sum'
  )
  terms = box, kind, (apart * weight).sum()
  return sum(w * t for w, t in zip(_WEIGHTS, terms)) / total
