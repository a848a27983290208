"""Tests of what a client knows, and of its probe."""

import handmade
import jax
import jax.numpy as jnp
import pytest

from giajax.tasks import classification
from giajax.tasks import segmentation
from giajax.verify import base


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda b: jax.tree.map(lambda a: a[:1], b), 'at least 8 images'),
    (lambda b: b._replace(x=b.x[..., :1]), 'at least 8 images'),
    (lambda b: b._replace(x=b.x * 255), r'in \[0, 1\]'),
    (lambda b: b._replace(x=b.x.at[0, 0, 0, 0].set(jnp.nan)), 'NaN'),
    (lambda b: b._replace(y=b.y + handmade.K), r'labels in'),
  ],
)
def test_probes_that_cannot_be_used(change, words):
  with pytest.raises(ValueError, match=words):
    view = handmade.view()
    base.check_probe(change(handmade.probe()), view.net, view.task)


def test_thresholds_are_for_tasks_that_were_measured():
  task = segmentation.segmentation(handmade.K, handmade.SHAPE)
  with pytest.raises(ValueError, match='no threshold was measured'):
    base.view(handmade.view().net, task)


def test_a_rate_is_positive():
  with pytest.raises(
    ValueError, match='learning_rate > 0; got learning_rate=0'
  ):
    base.view(
      handmade.view().net,
      classification.classification(handmade.K),
      learning_rate=0.0,
    )
