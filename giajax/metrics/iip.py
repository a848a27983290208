"""Image identifiability precision: does a reconstruction point to its image?

  IIP = fraction of reconstructions whose nearest image, of all candidates of
        the true image's class, is the true one

Yin, Mallya, Vahdat, Alvarez, Kautz and Molchanov, "See through gradients: Image
batch recovery via GradInversion", CVPR 2021, arXiv:2104.07586, in a feature
space of a network. The distance is one minus the cosine, as `breaching` has it.
Deviation: a tie counts as a miss, so that a network that maps all images to one
point identifies none. With n rivals, chance is 1 / (n + 1): values with another
number of rivals are not comparable.
"""

import numpy as np
import numpy.typing as npt


def identified(
  found: npt.ArrayLike, true: npt.ArrayLike, rivals: npt.ArrayLike
) -> float:
  """Returns 1 where the true image is nearer than every rival, else 0.

  Args:
    found: [...] features of a reconstruction; NaN is a miss.
    true: as `found`, of the true image.
    rivals: [n, ...] features of n >= 1 other images of its class.

  Raises:
    ValueError: there is no rival, or the shapes do not belong together.
  """
  found, true, rivals = (
    np.asarray(v, np.float64) for v in (found, true, rivals)
  )
  if not len(rivals) or not found.shape == true.shape == rivals.shape[1:]:
    raise ValueError(
      'Expected features [...] of one shape and at least one rival [n, ...]; '
      f'got found.shape={found.shape}, true.shape={true.shape}, '
      f'rivals.shape={rivals.shape}; leave out images alone in their class'
    )
  own, *others = (_distance(found, x) for x in (true, *rivals))
  return float(own < min(others))


def _distance(f: np.ndarray, g: np.ndarray) -> float:
  """Returns one minus the cosine; NaN, which loses, where there is none."""
  length = np.linalg.norm(f) * np.linalg.norm(g)
  return float(1 - np.vdot(f, g) / length) if length > 0 else np.nan
