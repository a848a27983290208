"""Tests of files of tensors: names, lists, halves, counters, orders."""

import captures
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from giajax import trees
from giajax.engine import tensors
from giajax.models import convert
from giajax.models.classification import mlp


@pytest.fixture(scope='module')
def net():
  """Returns a network with two layers of one shape."""
  return mlp.mlp(captures.SHAPE, 8, widths=(8, 8))


@pytest.fixture(scope='module')
def variables(net):
  """Returns weights whose biases differ."""
  made = net.init(jax.random.key(0))
  return jax.tree.map(lambda v: v + jnp.arange(v.size).reshape(v.shape), made)


def _equal(one, other):
  a, b = (trees.named_leaves(v.params) for v in (one, other))
  return a.keys() == b.keys() and all(np.allclose(a[n], b[n]) for n in a)


def test_names_and_lists_are_alike(net, variables, tmp_path):
  state = convert.to_state_dict(variables)
  named, listed = tmp_path / 'n.npz', tmp_path / 'l.npz'
  np.savez(named, **state)
  np.savez(listed, *state.values())
  order = tensors.order_of(str(named), net)
  one = tensors.read(str(named), net, 'x')
  other = tensors.read(str(listed), net, 'x', order=order)
  assert _equal(one.variables, other.variables)
  assert _equal(one.variables, variables)
  with pytest.raises(ValueError, match='nothing that tells the order'):
    tensors.read(str(listed), net, 'x')
  np.savez(listed, *[*state.values()][:-1])
  with pytest.raises(ValueError, match='send all of them'):
    tensors.read(str(listed), net, 'x', order=order)


def test_safetensors_tell_no_order(net, variables, tmp_path):
  path = tmp_path / 'n.safetensors'
  state = convert.to_state_dict(variables)
  whole = {k: np.ascontiguousarray(v) for k, v in state.items()}
  safetensors.save_file(whole, path)
  assert tensors.order_of(str(path), net) is None
  assert _equal(tensors.read(str(path), net, 'x').variables, variables)


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16])
def test_halves_are_read_and_said(net, variables, tmp_path, dtype):
  state = convert.to_state_dict(variables)
  halves = {k: v.astype(dtype) for k, v in state.items()}
  path = tmp_path / 'h.safetensors'
  safetensors.save_file(halves, path)
  read = tensors.read(str(path), net, 'x')
  for name, leaf in trees.named_leaves(read.variables.params).items():
    assert leaf.dtype == jnp.float32, name
  assert np.dtype(dtype).name in read.notes[0]


def test_counters_are_left_out_and_said(net, variables, tmp_path):
  state = convert.to_state_dict(variables)
  state['bn.num_batches_tracked'] = np.int64(3)
  np.savez(tmp_path / 'c.npz', **state)
  read = tensors.read(str(tmp_path / 'c.npz'), net, 'x')
  assert _equal(read.variables, variables)
  assert '1 of 7 tensors' in read.notes[0]


def test_wrong_order_is_found(net, variables):
  changed = jax.tree.map(lambda v: v * 1.001, variables)
  tensors.check_order(changed, variables, 'x')
  leaves = trees.named_leaves(changed.params)
  # Two biases of eight numbers change places.
  same = [n for n, v in leaves.items() if v.shape == (8,)]
  one, other = same[:2]
  moved = {one: leaves[other] + 50, other: leaves[one]}
  variables = variables._replace(
    params=trees.replaced(
      variables.params,
      {other: trees.named_leaves(variables.params)[other] + 50},
    )
  )
  swapped = changed._replace(params=trees.replaced(changed.params, moved))
  with pytest.raises(ValueError, match='in the order of the state dict') as e:
    tensors.check_order(swapped, variables, 'x')
  assert one in str(e.value) and other in str(e.value)


def test_equal_tensors_have_any_order(net):
  ones = jax.tree.map(jnp.ones_like, net.init(jax.random.key(0)))
  moved = jax.tree.map(lambda v: v + 0.01, ones)
  tensors.check_order(moved, ones, 'x')
