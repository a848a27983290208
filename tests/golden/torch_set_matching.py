"""The loss of DETR's last layer in torch, for all pairs of an image at once.

As detectors are trained with it: what the benchmark times beside giajax.
"""

from golden import torch_detr
from scipy import optimize
import torch
from torch.nn import functional
from torchvision import ops

_NOTHING = 0.1  # the weight of the class nothing
_WEIGHTS = 1, 5, 2  # of classes, distances and overlaps


def loss(out, objects):
  """Returns the loss of a batch.

  Args:
    out: {'boxes': [B, 1, Q, 4] centres, 'scores': [B, 1, Q, K + 1] logits}.
    objects: (boxes [B, G, 4] corners in [0, 1], classes [B, G], valid [B, G]).
  """
  boxes, scores = (out[name][:, -1] for name in ('boxes', 'scores'))
  nothing = scores.shape[-1] - 1
  target = torch.full(scores.shape[:2], nothing)
  apart, overlap = [], []
  for i, (own, kinds, valid) in enumerate(zip(*objects)):
    own, kinds = own[valid], kinds[valid]
    with torch.no_grad():
      cost = torch_detr.costs(boxes[i], scores[i], own, kinds)
    rows, columns = map(
      torch.from_numpy, optimize.linear_sum_assignment(cost.numpy())
    )
    target[i, rows] = kinds[columns]
    mine, theirs = boxes[i, rows], own[columns]
    apart.append((mine - torch_detr.centres(theirs)).abs().sum())
    pairs = ops.generalized_box_iou(torch_detr.corners(mine), theirs)
    overlap.append((1 - pairs.diagonal()).sum())
  weight = torch.ones(scores.shape[-1], dtype=scores.dtype)
  weight[nothing] = _NOTHING
  nats = functional.cross_entropy(scores.mT, target, weight)
  count = objects[2].sum().clamp(min=1)
  terms = nats, sum(apart) / count, sum(overlap) / count
  return sum(w * term for w, term in zip(_WEIGHTS, terms))
