"""Generators of a config: what their labels mean."""

import numpy as np
import pytest

from giajax.data import base as data
from giajax.engine import generators
from giajax.generative import GENERATORS


def _dataset(*names):
  return data.dataset(
    name='made',
    image_shape=(8, 8, 3),
    class_names=names,
    labels=np.arange(len(names)),
    note='by hand',
    read=lambda index: np.full((8, 8, 3), index / 9, np.float32),
  )


@pytest.mark.parametrize(
  ('names', 'words'),
  [
    (('dog', 'cat'), "'dog' in the place of 'cat' as class 0"),
    (('cat', 'frog'), "'frog' in the place of 'dog' as class 1"),
    (('cat',), "None in the place of 'dog' as class 1"),
  ],
)
def test_labels_mean_the_same_to_a_generator_that_takes_them(names, words):
  own, other = _dataset('cat', 'dog'), _dataset(*names)
  conditional = GENERATORS['conditional_dcgan']((8, 8, 3), 2, width=2)
  with pytest.raises(ValueError, match=f'^Expected the classes .*{words}'):
    generators.check_classes(conditional, other, own)
  generators.check_classes(conditional, own, own)
  numbers = _dataset('0', '1')  # they have no names
  generators.check_classes(conditional, numbers, own)
  generators.check_classes(conditional, own, numbers)
  without = GENERATORS['dcgan']((8, 8, 3), width=2)
  generators.check_classes(without, other, own)
