"""Tests of giajax.engine.own_tasks."""

import inspect

import jax.numpy as jnp
import pytest

from giajax.engine import own_tasks
from giajax.tasks import regression


def squared(predicted, wanted):
  return (predicted - wanted) ** 2


def scaled(predicted, wanted, factor=2.0):
  return factor * (predicted - wanted) ** 2


def made(num_classes, image_shape):
  del image_shape
  return regression.regression(num_classes)


def with_an_option(num_classes, *, weight):
  del weight
  return regression.regression(num_classes)


@pytest.mark.parametrize(('loss', 'expected'), [(squared, 4), (scaled, 8)])
def test_a_function_of_two_arguments_is_a_loss(loss, expected):
  factory = own_tasks.factory_of(loss, 'name')
  assert not inspect.signature(factory).parameters
  assert factory.__wrapped__ is loss
  assert factory().loss(jnp.array([1.0]), jnp.array([3.0])) == expected


@pytest.mark.parametrize('found', [made, regression.regression, 5])
def test_anything_else_is_left_as_it_is(found):
  assert own_tasks.factory_of(found, 'name') is found


def test_a_factory_with_one_option_is_one():
  """Two arguments without defaults, one of which a row of TASKS takes."""
  assert own_tasks.factory_of(with_an_option, 'name') is with_an_option
