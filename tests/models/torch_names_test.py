"""Tests of where the tensors of a torch state dict go."""

import jax.numpy as jnp
import pytest

from giajax import trees
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


@pytest.mark.parametrize(
  ('name', 'shape', 'section', 'found', 'axes'),
  [
    ('conv.weight', (5, 4, 3, 2), 'params', 'conv.kernel', (3, 2, 0, 1)),
    ('weight', (5, 4), 'params', 'kernel', (1, 0)),
    ('bn.weight', (5,), 'params', 'bn.scale', (0,)),
    ('a.in_proj_weight', (6, 2), 'params', 'a.in_proj.kernel', (1, 0)),
    ('in_proj_bias', (6,), 'params', 'in_proj.bias', (0,)),
    # Whose names would be those above.
    ('a.in_proj.weight', (6, 2), 'params', 'a.in_proj.weight.value', (0, 1)),
    ('conv.weight', (5, 4, 3), 'params', 'conv.weight.value', (0, 1, 2)),
    ('a.bias', (5, 1), 'params', 'a.bias.value', (0, 1)),
    ('bn.running_mean', (5,), 'params', 'bn.running_mean.value', (0,)),
    ('bn.running_mean', (5,), 'stats', 'bn.mean', (0,)),
    ('n.weight', (5,), 'stats', 'n.weight.value', (0,)),
    ('value', (), 'stats', 'value.value', ()),
  ],
)
def test_tensors_of_modules_are_found_again(name, shape, section, found, axes):
  entry = torch_names.place(name, shape, section)
  assert entry == (section, found, axes, shape)
  ours = [0] * len(axes)
  for size, axis in zip(shape, axes):
    ours[axis] = size
  leaves = {section: trees.nested({found: jnp.zeros(ours)})}
  variables = types.Variables(**{'params': {}, 'stats': {}, **leaves})
  assert torch_names.of_variables(variables) == {name: entry}


def test_tables_keep_their_rows():
  entry = torch_names.place('e.weight', (9, 4), 'params', rows=True)
  assert entry == ('params', 'e.table', (0, 1), (9, 4))
  entry = torch_names.guess('a.in_proj_weight', (6, 2))
  assert entry.name == 'a.in_proj.kernel'
