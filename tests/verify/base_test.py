"""Tests of what a client knows, and of its probe."""

import handmade
import jax
import jax.numpy as jnp
import pytest

from giajax.tasks import classification
from giajax.verify import base


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda b: jax.tree.map(lambda a: a[:1], b), 'at least 8 images'),
    (lambda b: b._replace(x=b.x[..., :1]), 'at least 8 images'),
    (lambda b: b._replace(x=b.x * 255), r'in \[0, 1\]'),
    (lambda b: b._replace(x=b.x.at[0, 0, 0, 0].set(jnp.nan)), 'NaN'),
    (lambda b: b._replace(y=b.y + handmade.K), 'every label'),
  ],
)
def test_probes_that_cannot_be_used(change, words):
  with pytest.raises(ValueError, match=words):
    base.check_probe(change(handmade.probe()), handmade.view().net)


def test_a_rate_is_positive():
  with pytest.raises(
    ValueError, match='learning_rate > 0; got learning_rate=0'
  ):
    base.view(
      handmade.view().net,
      classification.classification(handmade.K),
      learning_rate=0.0,
    )
