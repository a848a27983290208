"""What the torch generators and their parity test must agree on, numpy only.

As in `draws`, weights and latents are drawn by name from a seed.
"""

from collections.abc import Mapping
import pathlib
from typing import Any, NamedTuple

from golden import draws
import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent / 'generators'


class Case(NamedTuple):
  """A row of GENERATORS at a size that is quick to evaluate."""

  row: str
  latent_shape: tuple[int, ...]
  image_shape: tuple[int, int, int]
  options: Mapping[str, Any] = {}
  weights: str = ''  # in the shared data; drawn if there are none
  prefix: str = ''
  images: int = 1  # of each latent
  count: int = 2  # latents; the statistics of two make them all +-1


CASES = {
  'autoencoder_decoder': Case(
    'autoencoder_decoder', (2, 3, 3), (16, 24, 3), dict(latent=3, width=4)
  ),
  'ci_net': Case('ci_net', (6,), (16, 16, 3), dict(latent=6, width=4)),
  'conditional_dcgan': Case(
    'conditional_dcgan',
    (5,),
    (16, 16, 3),
    dict(num_classes=4, latent=5, embedding=3, width=4),
  ),
  'dcgan': Case('dcgan', (6,), (16, 16, 3), dict(latent=6, width=4)),
  'dcgan_grey': Case('dcgan', (5,), (12, 12, 1), dict(latent=5, width=2)),
  'fgla': Case(
    'fgla', (12,), (16, 16, 3), dict(features=12, grid=2, width=2, blocks=2)
  ),
  'fgla_pooled': Case('fgla', (5,), (10, 10, 1), dict(features=5, width=3)),
  'grnn': Case(
    'grnn', (6,), (16, 16, 3), dict(num_classes=5, latent=6, width=4)
  ),
  'lti': Case(
    'lti',
    (30,),
    (3, 4, 3),
    dict(entries=30, batch_size=2, hashed=8, width=5),
    images=2,
    count=3,
  ),
  'lti_whole': Case(
    'lti', (30,), (3, 4, 3), dict(entries=30, hashed=0, width=5), count=3
  ),
  'digiface': Case(
    'dcgan',
    (100,),
    (64, 64, 3),
    weights='generators/digiface_dcgan64.npz',
    prefix='netG_state_dict',
  ),
  'taef2': Case(
    'autoencoder_decoder',
    (4, 4, 32),
    (32, 32, 3),
    weights='generators/taef2_decoder.npz',
  ),
}


def latents(case: Case) -> np.ndarray:
  """Returns [M, *latent_shape] float32 of deviation 1, at most 1.7."""
  draw = draws.uniform('latents', (case.count, *case.latent_shape), 0)
  return (draw * np.sqrt(3)).astype(np.float32)


def direction(case: Case) -> np.ndarray:
  """Returns float32 like the images, their weights in the scalar `value`."""
  shape = (case.count * case.images, *case.image_shape)
  draw = draws.uniform('direction', shape, 0)
  return draw.astype(np.float32)


def labels(case: Case) -> np.ndarray | None:
  """Returns the labels [M] of a conditional generator, None for others."""
  classes = case.row.startswith('conditional')
  return np.arange(1, 1 + case.count) if classes else None
