"""Tests of the task-aligned loss: against loops in numpy, and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.tasks.parts import objects
from giajax.tasks.parts import task_aligned

SHAPE, K, R, G = (64, 96, 3), 5, 16, 4
PLACE, STRIDE = task_aligned.points(SHAPE)
A = len(PLACE)


def _drawn(seed, slots=G):
  """Returns outputs and objects: overlapping, tiny, absent ones among them."""
  rng = np.random.default_rng(seed)
  out = {
    'boxes': rng.normal(size=(2, A, 4, R)) - 0.4 * np.arange(R),
    'scores': rng.normal(size=(2, A, K)) * 2 - 1,
  }
  corner = rng.random((2, slots, 2)) * 0.4
  size = 0.1 + 0.5 * rng.random((2, slots, 2))
  boxes = np.concatenate([corner, corner + size], -1)
  boxes[0, 1] = boxes[0, 0]  # two of one place
  boxes[1, 0, 2:] = boxes[1, 0, :2] + 0.01  # no point is inside
  valid = np.ones((2, slots), bool)
  valid[:, -1] = False
  y = objects.Objects(boxes, rng.integers(0, K, (2, slots)), valid)
  return out, y


def _ciou(a, b):
  """Complete IoU of two boxes, by the formula."""
  w1, h1 = a[2] - a[0], a[3] - a[1] + 1e-7
  w2, h2 = b[2] - b[0], b[3] - b[1] + 1e-7
  wide = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
  high = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
  iou = wide * high / (w1 * h1 + w2 * h2 - wide * high + 1e-7)
  hull = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
  centres = [(b[i] + b[i + 2] - a[i] - a[i + 2]) / 2 for i in (0, 1)]
  v = 4 / np.pi**2 * (np.arctan(w2 / h2) - np.arctan(w1 / h1)) ** 2
  alpha = v / (v - iou + 1 + 1e-7)
  apart = sum(c**2 for c in centres) / (sum(s**2 for s in hull) + 1e-7)
  return iou - apart - alpha * v


def _predicted(out):
  """Returns the boxes in strides, one after the other."""
  found = np.zeros((2, A, 4))
  for b in range(2):
    for a in range(A):
      for side in range(4):
        p = np.exp(out['boxes'][b, a, side])
        away = (p / p.sum()) @ np.arange(R)
        centre = PLACE[a, side % 2] / STRIDE[a]
        found[b, a, side] = centre + (away if side > 1 else -away)
  return found


def _by_loops(out, y):
  """Returns targets and owners, one object and one point at a time."""
  targets = np.zeros((2, A, K))
  owners = np.full((2, A), -1)
  predicted = _predicted(out) * STRIDE[:, None]
  scale = np.array([SHAPE[1], SHAPE[0]] * 2)
  for b in range(2):
    overlap, aligned = np.zeros((G, A)), np.zeros((G, A))
    inside = np.zeros((G, A), bool)
    for g in range(G):
      box = y.boxes[b, g] * scale
      for a in range(A):
        (px, py) = PLACE[a]
        near = min(px - box[0], py - box[1], box[2] - px, box[3] - py)
        inside[g, a] = y.valid[b, g] and near > 1e-9
        if inside[g, a]:
          overlap[g, a] = max(_ciou(box, predicted[b, a]), 0)
          score = 1 / (1 + np.exp(-out['scores'][b, a, y.classes[b, g]]))
          aligned[g, a] = score**0.5 * overlap[g, a] ** 6
    taken = np.zeros((G, A), bool)
    for g in range(G):
      best = np.argsort(-aligned[g], kind='stable')[:10]
      taken[g, best] = inside[g, best]
    for a in range(A):
      if taken[:, a].sum() > 1:
        taken[:, a] = np.arange(G) == overlap[:, a].argmax()
    for g in range(G):
      mine = np.flatnonzero(taken[g])
      for a in mine:
        scaled = aligned[g, a] / (aligned[g, mine].max() + 1e-9)
        targets[b, a, y.classes[b, g]] = scaled * overlap[g, mine].max()
        owners[b, a] = g
  return targets, owners


@pytest.fixture(scope='module', params=range(4))
def drawn(request):
  return _drawn(request.param)


def _assigned(out, y):
  scale = np.array([SHAPE[1], SHAPE[0]] * 2)
  boxes = _predicted(out) * STRIDE[:, None]
  y = y._replace(boxes=y.boxes * scale)
  with jax.enable_x64(True):
    return task_aligned.assign(
      jnp.asarray(out['scores']),
      jnp.asarray(boxes),
      jax.tree.map(jnp.asarray, y),
      PLACE.astype(np.float64),
    )


def test_assignment_is_that_of_loops(drawn):
  out, y = drawn
  targets, owners = _by_loops(out, y)
  found = _assigned(out, y)
  np.testing.assert_allclose(found.strength, targets.sum(-1), atol=1e-9)
  weight = targets.sum(-1) > 0  # points of weight 0 play no part
  assert weight.sum() > 5
  np.testing.assert_array_equal(np.asarray(found.positive)[weight], True)
  np.testing.assert_array_equal(np.asarray(found.owner)[weight], owners[weight])


def test_loss_and_gradients_are_those_of_torch(drawn):
  torch = pytest.importorskip('torch', reason='compares with torch')
  out, y = drawn
  targets, owners = _by_loops(out, y)
  logits = torch.tensor(out['boxes'], requires_grad=True)
  scores = torch.tensor(out['scores'], requires_grad=True)
  place = torch.tensor(PLACE / STRIDE[:, None], dtype=torch.float64)
  away = torch.softmax(logits, -1) @ torch.arange(R, dtype=torch.float64)
  boxes = torch.cat([place - away[..., :2], place + away[..., 2:]], -1)
  target = torch.tensor(targets)
  total = target.sum().clamp(min=1)
  bce = torch.nn.BCEWithLogitsLoss(reduction='sum')(scores, target)
  box = dfl = torch.zeros((), dtype=torch.float64)
  scale = np.array([SHAPE[1], SHAPE[0]] * 2)
  for b, a in zip(*np.nonzero(targets.sum(-1))):
    true = torch.tensor(y.boxes[b, owners[b, a]] * scale / STRIDE[a])
    weight = target[b, a].sum()
    box = box + weight * (1 - _torch_ciou(torch, boxes[b, a], true))
    sides = torch.cat([place[a] - true[:2], true[2:] - place[a]])
    sides = sides.clamp(0, R - 1 - 0.01)
    low = sides.floor().long()
    cross = torch.nn.functional.cross_entropy
    each = (low + 1 - sides) * cross(logits[b, a], low, reduction='none')
    each = each + (sides - low) * cross(logits[b, a], low + 1, reduction='none')
    dfl = dfl + weight * each.mean()
  expected = (7.5 * box + 0.5 * bce + 1.5 * dfl) / total
  expected.backward()
  with jax.enable_x64(True):
    given = jax.tree.map(jnp.asarray, (out, y))
    loss, slopes = jax.value_and_grad(task_aligned.loss)(*given, SHAPE)
    found = task_aligned.terms(*given, SHAPE)
  np.testing.assert_allclose(loss, expected.item(), rtol=1e-9)
  np.testing.assert_allclose(found.box, (box / total).item(), rtol=1e-9)
  np.testing.assert_allclose(found.distance, (dfl / total).item(), rtol=1e-9)
  np.testing.assert_allclose(slopes['boxes'], logits.grad, atol=1e-9)
  np.testing.assert_allclose(slopes['scores'], scores.grad, atol=1e-9)


def test_the_peer_of_the_benchmark_has_the_same_loss(drawn):
  torch = pytest.importorskip('torch', reason='compares with torch')
  from golden import torch_task_aligned

  out, y = drawn
  given = {k: torch.tensor(v, requires_grad=True) for k, v in out.items()}
  expected = torch_task_aligned.loss(given, [*map(torch.tensor, y)], *SHAPE[:2])
  expected.backward()
  with jax.enable_x64(True):
    own = jax.tree.map(jnp.asarray, (out, y))
    loss, slopes = jax.value_and_grad(task_aligned.loss)(*own, SHAPE)
  np.testing.assert_allclose(loss, expected.item(), rtol=1e-9)
  for name, slope in slopes.items():
    np.testing.assert_allclose(slope, given[name].grad, atol=1e-9)


def _torch_ciou(torch, a, b):
  w1, h1 = a[2] - a[0], a[3] - a[1] + 1e-7
  w2, h2 = b[2] - b[0], b[3] - b[1] + 1e-7
  side = torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])
  overlap = side.clamp(min=0).prod()
  iou = overlap / (w1 * h1 + w2 * h2 - overlap + 1e-7)
  hull = torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])
  apart = (((b[:2] + b[2:]) - (a[:2] + a[2:])) ** 2).sum() / 4
  v = 4 / np.pi**2 * (torch.atan(w2 / h2) - torch.atan(w1 / h1)) ** 2
  with torch.no_grad():
    alpha = v / (v - iou + 1 + 1e-7)
  return iou - apart / ((hull**2).sum() + 1e-7) - alpha * v


def test_nothing_to_find():
  out, y = _drawn(0)
  out = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), out)
  nothing = jax.tree.map(jnp.zeros_like, jax.tree.map(jnp.asarray, y))
  loss, slopes = jax.value_and_grad(task_aligned.loss)(out, nothing, SHAPE)
  expected = 0.5 * np.log1p(np.exp(out['scores'])).sum()
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_array_equal(slopes['boxes'], 0)
  assert np.isfinite(slopes['scores']).all()


def test_boxes_of_objects_have_a_slope():
  """An attack may optimise them, although the assignment is constant."""
  out, y = jax.tree.map(lambda v: jnp.asarray(v), _drawn(1))
  out = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), out)

  def of(boxes):
    return task_aligned.loss(out, y._replace(boxes=boxes), SHAPE)

  slope = jax.grad(of)(y.boxes.astype(jnp.float32))
  assert np.isfinite(slope).all() and (slope != 0).any()
  np.testing.assert_array_equal(slope[:, -1], 0)  # it holds no object


def test_soft_classes_of_one_are_hard_ones():
  out, y = jax.tree.map(lambda v: jnp.asarray(v), _drawn(2))
  hot = y._replace(classes=jax.nn.one_hot(y.classes, K))
  hard, soft = (task_aligned.loss(out, own, SHAPE) for own in (y, hot))
  np.testing.assert_allclose(hard, soft, rtol=1e-6)


def test_points():
  assert A == (8 * 12) + (4 * 6) + (2 * 3)
  np.testing.assert_array_equal(PLACE[:2], [[4, 4], [12, 4]])
  np.testing.assert_array_equal(PLACE[12], [4, 12])
  np.testing.assert_array_equal(STRIDE[[0, 96, 120]], [8, 16, 32])
  with pytest.raises(ValueError, match='a detector of 126 anchor points'):
    task_aligned.loss(
      {'boxes': jnp.zeros((1, 5, 4, R)), 'scores': jnp.zeros((1, 5, K))},
      jax.tree.map(lambda leaf: leaf[:1], _drawn(0)[1]),
      SHAPE,
    )
