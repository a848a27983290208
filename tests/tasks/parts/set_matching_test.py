"""Tests of giajax.tasks.parts.set_matching against loops and scipy."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy import special

from giajax.tasks.parts import set_matching

K = 4
MATCH = jax.jit(set_matching.match)
TERMS = jax.jit(set_matching.terms)
LOSS = jax.jit(set_matching.loss)
SLOPE = jax.jit(jax.value_and_grad(set_matching.loss))


class Objects(NamedTuple):
  """As a data set gives them."""

  boxes: Any
  classes: Any
  valid: Any


def drawn(seed, counts=(3, 1), places=3, layers=2, queries=6):
  """Returns an output and objects, of which `counts` are valid."""
  rng = np.random.default_rng(seed)
  batch = len(counts)
  out = {
    'boxes': special.expit(rng.normal(size=(batch, layers, queries, 4))),
    'scores': 2 * rng.normal(size=(batch, layers, queries, K + 1)),
  }
  low = rng.uniform(0, 0.6, (batch, places, 2))
  corners = np.concatenate([low, low + rng.uniform(0.1, 0.4, low.shape)], -1)
  valid = np.arange(places) < np.array(counts)[:, None]
  objects = Objects(
    jnp.asarray(np.where(valid[..., None], corners, 0), jnp.float32),
    jnp.asarray(rng.integers(0, K, (batch, places)), jnp.int32),
    jnp.asarray(valid),
  )
  return {k: jnp.asarray(v, jnp.float32) for k, v in out.items()}, objects


def giou(a, b):
  """Returns the generalized IoU of two corners, by its definition."""

  def area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)

  inner = area((*np.maximum(a, b)[:2], *np.minimum(a, b)[2:]))
  union = area(a) + area(b) - inner
  hull = area((*np.minimum(a, b)[:2], *np.maximum(a, b)[2:]))
  return inner / union - (hull - union) / hull


def distances(predicted, corners):
  """Returns L1 distance and GIoU of a centre form and corners."""
  x, y, w, h = predicted
  own = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
  a, b, c, d = corners
  target = np.array([(a + c) / 2, (b + d) / 2, c - a, d - b])
  return np.abs(predicted - target).sum(), giou(own, corners)


def reference(out, objects):
  """Returns loss terms [L], and assignments by (image, layer), by loops."""
  boxes, scores = (np.asarray(out[k], np.float64) for k in ('boxes', 'scores'))
  log_p = special.log_softmax(scores, -1)
  count = max(int(objects.valid.sum()), 1)
  classes = np.asarray(objects.classes)
  y = classes if classes.ndim == 3 else np.eye(K)[classes]
  layers, found = [], {}
  for layer in range(boxes.shape[1]):
    nats = weights = l1 = overlap = 0.0
    for image in range(len(boxes)):
      own = [
        (np.asarray(objects.boxes[image, g], np.float64), y[image, g])
        for g in range(len(y[image]))
        if objects.valid[image, g]
      ]
      pairs = [
        [distances(b, corners) for corners, _ in own]
        for b in boxes[image, layer]
      ]
      cost = np.array(
        [
          [
            5 * pairs[q][g][0]
            - 2 * pairs[q][g][1]
            - hot @ np.exp(log_p[image, layer, q, :K])
            for g, (_, hot) in enumerate(own)
          ]
          for q in range(boxes.shape[2])
        ]
      ).reshape(boxes.shape[2], len(own))
      rows, columns = optimize.linear_sum_assignment(cost)
      of = dict(zip(columns.tolist(), rows.tolist()))
      found[image, layer] = [of[g] for g in range(len(own))]
      label = {q: own[g][1] for g, q in of.items()}
      for q, nothing in enumerate(log_p[image, layer, :, K]):
        if q in label:
          nats, weights = (
            nats - label[q] @ log_p[image, layer, q, :K],
            weights + 1,
          )
        else:
          nats, weights = nats - 0.1 * nothing, weights + 0.1
      l1 += sum(pairs[q][g][0] for g, q in of.items())
      overlap += sum(1 - pairs[q][g][1] for g, q in of.items())
    layers.append((nats / weights, l1 / count, overlap / count))
  return dict(zip(('class', 'l1', 'giou'), np.array(layers).T)), found


def softened(objects, seed):
  """Returns the objects with drawn probabilities of the classes."""
  rng = np.random.default_rng(seed)
  p = rng.dirichlet(np.ones(K), objects.classes.shape).astype(np.float32)
  return objects._replace(classes=jnp.asarray(p))


def hardened(objects):
  """Returns the objects with probabilities of 0 and 1."""
  return objects._replace(classes=jax.nn.one_hot(objects.classes, K))


@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('counts', [(3, 1), (0, 2), (3, 3), (0, 0)])
@pytest.mark.parametrize('queries', [3, 6])
def test_terms_and_matching_equal_loops_and_scipy(counts, queries, soft):
  for seed in range(5):
    out, objects = drawn(seed, counts, queries=queries)
    objects = softened(objects, seed) if soft else objects
    expected, assignments = reference(out, objects)
    matching = MATCH(out, objects)
    assert matching.shape == (2, 2, 3)
    assert matching.dtype == jnp.int32
    for (image, layer), own in assignments.items():
      row = np.asarray(matching[image, layer])
      assert row[: len(own)].tolist() == own
      assert len({*row.tolist()}) == 3
    found = TERMS(out, objects, matching)
    assert found.keys() == expected.keys()
    for name, value in found.items():
      np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
    whole = expected['class'] + 5 * expected['l1'] + 2 * expected['giou']
    loss = LOSS(out, objects)
    np.testing.assert_allclose(loss, whole.sum(), rtol=1e-5)
    assert loss.shape == ()


def test_probabilities_of_0_and_1_are_classes():
  for seed in range(5):
    out, objects = drawn(seed, (3, 2))
    hot = hardened(objects)
    np.testing.assert_array_equal(MATCH(out, hot), MATCH(out, objects))
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
      SLOPE(out, hot),
      SLOPE(out, objects),
    )


def test_probabilities_have_the_slope_of_the_matched_predictions():
  """In (2), that of y_gk is -log p_q(k) / sum_q w_q for the q of g."""
  out, objects = drawn(8, (2, 1), layers=1)
  objects = softened(objects, 8)
  matching = np.asarray(MATCH(out, objects))[:, 0]

  @jax.jit
  @jax.grad
  def slope(p):
    return set_matching.loss(out, objects._replace(classes=p))

  log_p = special.log_softmax(np.asarray(out['scores'], np.float64), -1)
  expected = np.zeros(objects.classes.shape)
  for i, g in zip(*np.nonzero(np.asarray(objects.valid))):
    expected[i, g] = -log_p[i, 0, matching[i, g], :K] / (3 + 0.1 * (2 * 6 - 3))
  np.testing.assert_allclose(slope(objects.classes), expected, rtol=1e-5)


def test_many_assignments_equal_those_of_scipy():
  rng = np.random.default_rng(0)
  assign = jax.jit(set_matching._assign)
  for count, places in ((7, 5), (5, 5), (30, 9), (4, 1)):
    for _ in range(10):
      cost = rng.normal(size=(count, places)).astype(np.float32)
      rows, columns = optimize.linear_sum_assignment(cost)
      np.testing.assert_array_equal(assign(cost), rows[np.argsort(columns)])


def test_loss_of_one_pair_by_hand():
  """Two predictions of log 3 more for class 1; the first is the object's."""
  scores = jnp.zeros((1, 1, 2, 3)).at[..., 1].set(np.log(3))
  boxes = jnp.array([[[[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]]])
  objects = Objects(
    jnp.array([[[0.25, 0.25, 0.75, 0.5]]]),
    jnp.array([[1]]),
    jnp.array([[True]]),
  )
  out = {'boxes': boxes, 'scores': scores}
  assert MATCH(out, objects).tolist() == [[[0]]]
  class_term = (np.log(5 / 3) + 0.1 * np.log(5)) / 1.1
  found = TERMS(out, objects, jnp.array([[[0]]]))
  np.testing.assert_allclose(found['class'], [class_term], rtol=1e-6)
  np.testing.assert_allclose(found['l1'], [0.125 + 0.25], rtol=1e-6)
  np.testing.assert_allclose(found['giou'], [0.5], rtol=1e-6)
  # The other prediction, by a hand that gives the matching.
  expected = class_term + 5 * (0.125 + 0.5 + 0.75) + 2 * (1 - 1 / 8)
  other = LOSS(out, objects, matching=jnp.array([[[1]]]))
  np.testing.assert_allclose(other, expected, rtol=1e-6)


def test_without_objects_all_predictions_are_nothing():
  out, objects = drawn(0, (0, 0))
  expected = -jax.nn.log_softmax(out['scores'])[..., -1].mean((0, 2)).sum()
  found, slope = SLOPE(out, objects)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert not slope['boxes'].any()
  none = Objects(*(leaf[:, :0] for leaf in objects))
  np.testing.assert_allclose(LOSS(out, none), found, rtol=1e-6)


def test_padding_changes_nothing():
  out, objects = drawn(1, (2, 1))
  padded = Objects(
    jnp.where(objects.valid[..., None], objects.boxes, 0.3),
    jnp.where(objects.valid, objects.classes, -1),
    objects.valid,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
    SLOPE(out, objects),
    SLOPE(out, padded),
  )
  # Not even by what is handed in for it.
  matching = MATCH(out, padded)
  odd = jnp.where(padded.valid[:, None], matching, -1)
  a, b = (LOSS(out, padded, matching=m) for m in (matching, odd))
  assert a == b


def test_boxes_without_an_area_make_no_nan():
  out, objects = drawn(2)
  out['boxes'] = out['boxes'].at[:, :, 0].set(jnp.array([0.5, 0.5, 0, 0]))
  flat = objects._replace(boxes=jnp.full_like(objects.boxes, 0.5))

  @jax.jit
  @jax.grad
  def second(out):
    slope = jax.grad(set_matching.loss)(out, flat)
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slope))

  for leaf in jax.tree.leaves((SLOPE(out, flat), second(out))):
    assert np.isfinite(leaf).all()


def test_predictions_that_are_not_finite_end_the_search():
  out, objects = drawn(3)
  out['boxes'] = out['boxes'].at[0].set(np.nan)
  out['scores'] = out['scores'].at[1].set(np.inf)
  matching = MATCH(out, objects)
  assert ((matching >= 0) & (matching < 6)).all()
  assert np.isnan(LOSS(out, objects))


def test_the_matching_is_constant_and_the_targets_are_not():
  out, objects = drawn(4)
  matching = MATCH(out, objects)

  @jax.jit
  @functools.partial(jax.grad, argnums=(0, 1))
  def fixed(out, own):
    moved = objects._replace(boxes=own)
    return set_matching.loss(out, moved, matching=matching)

  @jax.jit
  @functools.partial(jax.grad, argnums=(0, 1))
  def free(out, own):
    return set_matching.loss(out, objects._replace(boxes=own))

  found = free(out, objects.boxes)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7),
    found,
    fixed(out, objects.boxes),
  )
  slope = np.asarray(found[1])
  valid = np.asarray(objects.valid)
  assert (np.abs(slope).sum(-1) > 0).tolist() == valid.tolist()


def test_vmap_equals_a_loop():
  cases = [drawn(seed) for seed in (5, 6)]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)
  found = jax.jit(jax.vmap(jax.value_and_grad(set_matching.loss)))(*stacked)
  for i, case in enumerate(cases):
    jax.tree.map(
      lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-6),
      found,
      SLOPE(*case),
    )


def test_absent_classes_have_a_positive_bias_gradient():
  """Each layer's bias is added to all predictions."""
  out, objects = drawn(7, (2, 1))
  slope = SLOPE(out, objects)[1]['scores'].sum((0, 1, 2))
  present = set(np.asarray(objects.classes)[np.asarray(objects.valid)].tolist())
  absent = sorted({*range(K)} - present)
  assert absent
  assert (slope[np.array(absent)] > 0).all()


def test_wrong_arguments_are_refused():
  out, objects = drawn(0)
  few = jax.tree.map(lambda leaf: leaf[:, :, :2], out)
  with pytest.raises(ValueError, match=r'at most 2 objects.*places for 3'):
    set_matching.loss(few, objects)
  with pytest.raises(ValueError, match=r'\[2, 2, 3\]; got .*\(2, 3\)'):
    set_matching.loss(out, objects, matching=jnp.zeros((2, 3), jnp.int32))
