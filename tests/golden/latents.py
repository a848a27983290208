"""What the torch generators and their parity test must agree on, numpy only.

As in `draws`, weights and latents are drawn by name from a seed.
"""

from collections.abc import Mapping
import pathlib
from typing import Any, NamedTuple

from golden import draws
import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent / 'generators'
COUNT = 2  # images


class Case(NamedTuple):
  """A row of GENERATORS at a size that is quick to evaluate."""

  row: str
  latent_shape: tuple[int, ...]
  image_shape: tuple[int, int, int]
  options: Mapping[str, Any] = {}
  weights: str = ''  # in the shared data; drawn if there are none
  prefix: str = ''


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
  'grnn': Case(
    'grnn', (6,), (16, 16, 3), dict(num_classes=5, latent=6, width=4)
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
  draw = draws.uniform('latents', (COUNT, *case.latent_shape), 0)
  return (draw * np.sqrt(3)).astype(np.float32)


def direction(case: Case) -> np.ndarray:
  """Returns [M, H, W, C] float32: the images' weights in the scalar `value`."""
  draw = draws.uniform('direction', (COUNT, *case.image_shape), 0)
  return draw.astype(np.float32)


def labels(case: Case) -> np.ndarray | None:
  """Returns the labels [M] of a conditional generator, None for others."""
  return np.arange(1, 1 + COUNT) if case.row.startswith('conditional') else None
