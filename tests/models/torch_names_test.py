"""Tests of where the tensors of a torch state dict go."""

import jax.numpy as jnp
import pytest

from giajax import types
from giajax.models import torch_names


def test_the_rules_and_their_opposites():
  variables = types.Variables(
    {
      'conv': {'kernel': jnp.zeros((3, 2, 4, 5))},
      'attention': {'in_proj': {'kernel': jnp.zeros((4, 12))}},
      'token': {'value': jnp.zeros((1, 2, 3))},
    },
    {'bn': {'mean': jnp.zeros(5)}},
  )
  entries = torch_names.of_variables(variables)
  assert {name: entry.shape for name, entry in entries.items()} == {
    'conv.weight': (5, 4, 3, 2),
    'attention.in_proj_weight': (12, 4),
    'token': (1, 2, 3),
    'bn.running_mean': (5,),
  }
  for name in ('conv.weight', 'bn.running_mean', 'token'):
    assert torch_names.guess(name, entries[name].shape) == entries[name]


def test_a_leaf_that_no_rule_covers_is_named():
  variables = types.Variables({'odd': {'kernel': jnp.zeros(3)}}, {})
  with pytest.raises(
    ValueError, match=r'^Expected leaves .* odd.kernel of sha'
  ):
    torch_names.of_variables(variables)


def test_constants_belong_to_layers():
  assert torch_names.is_constant('bn.num_batches_tracked')
  assert torch_names.is_constant('bn.num_batches_tracked', ['bn'])
  assert not torch_names.is_constant('bn.num_batches_tracked', ['other'])
  assert not torch_names.is_constant('bn.weight')


def test_the_longest_prefix_is_renamed():
  names = torch_names.renamed({'a.b.c': 1, 'a.d': 2}, {'a.b': 'x', 'a': ''})
  assert names == {'x.c': 1, 'd': 2}
