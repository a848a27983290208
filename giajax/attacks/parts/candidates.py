"""Candidates for images, and which of them the server claims."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import types

# A candidate with a smaller share of the gradient is nothing but rounding.
_EMPTY = 1e-6
_SLACK = 0.05  # how far an image that came back may leave [0, 1]
# Root mean square below which two candidates are one image, and the number of
# projections from which it is estimated.
_SAME = 0.01
_PROJECTIONS = 16


class Candidates(NamedTuple):
  """Any number C of candidates for images."""

  x: types.Array  # [C, H, W, c] in units of [0, 1], not clipped
  mass: types.Array  # [C] how much of the gradient each stands for


def reconstruction(
  candidates: Candidates, count: int, batch_size: int
) -> types.Reconstruction:
  """Picks different images among candidates, by what the server can see.

  Candidates that came back more than once come first, because no two mixtures
  of images are alike, then those within [0, 1], then others; empty and repeated
  ones come last. No labels are claimed. The score is the share of the batch for
  which nothing like an image came back.

  Args:
    candidates: the candidates, in descending order of mass.
    count: the number M of images to claim, at most C.
    batch_size: the batch size B.
  """
  flat = candidates.x.reshape(len(candidates.x), -1)
  holds = candidates.mass > _EMPTY * candidates.mass.max()
  image = holds & (flat.min(1) > -_SLACK) & (flat.max(1) < 1 + _SLACK)
  same = _alike(flat) & holds
  first = holds & ~jnp.tril(same, -1).any(1)
  rank, best = jax.lax.top_k(first * (1.0 + image * same.sum(1)), count)
  valid = rank > 0
  missed = 1 - (image[best] & valid).sum() / batch_size
  return types.Reconstruction(
    types.Batch(
      jnp.clip(candidates.x[best], 0, 1), jnp.full(count, -1, jnp.int32)
    ),
    valid,
    missed.astype(jnp.float32),
  )


def _alike(flat: types.Array) -> types.Array:
  """Returns which candidates [C, d] nearly agree, [C, C], by projections."""
  signs = jax.random.rademacher(
    jax.random.key(0), (flat.shape[1], _PROJECTIONS), jnp.float32
  )
  projected = jnp.dot(flat, signs, precision='highest')
  apart = jnp.square(projected[:, None] - projected[None]).mean(-1)
  return apart / flat.shape[1] < _SAME**2
