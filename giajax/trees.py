"""Pytree algebra in float32, and trees whose leaves have dotted names."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from giajax import types


def named_leaves(tree: types.Tree) -> dict[str, Any]:
  """Returns `{'layer1.0.conv1.weight': leaf}` in the order of the tree.

  Raises:
    ValueError: two leaves have one name, as in {'a': {'b': 0}, 'a.b': 1}.
  """
  paths = jax.tree_util.tree_leaves_with_path(tree)
  leaves = {
    jax.tree_util.keystr(path, simple=True, separator='.'): leaf
    for path, leaf in paths
  }
  if len(leaves) != len(paths):
    raise ValueError(
      f'Expected leaves of different dotted names; got {len(paths)} leaves '
      f'and {len(leaves)} names; take the dots out of the keys'
    )
  return leaves


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the nested dict of dotted names.

  This is the inverse of `named_leaves` for nested dicts of string keys without
  dots; lists become dicts of '0', '1', ...
  """
  tree: dict[str, Any] = {}
  for name, leaf in leaves.items():
    *path, last = name.split('.')
    node = tree
    for part in path:
      node = node.setdefault(part, {})
    node[last] = leaf
  return tree


def prefixed(name: str, tree: types.Tree) -> dict[str, Any]:
  """Returns the leaves of a tree under a name: 'y', or 'y.boxes' and so on.

  A tree that is a single array has the name itself.
  """
  leaves = named_leaves(tree)
  return {f'{name}.{n}' if n else name: leaf for n, leaf in leaves.items()}


def under(name: str, leaves: Mapping[str, Any]) -> types.Tree:
  """Returns the tree of what `prefixed` named; {} where there is nothing."""
  if name in leaves:
    return leaves[name]
  start = f'{name}.'
  own = {n: leaf for n, leaf in leaves.items() if n.startswith(start)}
  return nested({n.removeprefix(start): leaf for n, leaf in own.items()})


def single(tree: types.Tree) -> types.Tree:
  """Returns a tree whose leaves have a first axis of size one."""
  return jax.tree.map(lambda leaf: leaf[None], tree)


def like(tree: types.Tree, leaves: Mapping[str, Any]) -> types.Tree:
  """Returns a tree of the structure of `tree` with leaves given by name."""
  treedef = jax.tree.structure(tree)
  return jax.tree.unflatten(treedef, [leaves[n] for n in named_leaves(tree)])


def replaced(tree: types.Tree, leaves: Mapping[str, Any]) -> types.Tree:
  """Returns the tree with some leaves replaced, which are given by name."""
  return like(tree, {**named_leaves(tree), **leaves})


def dot(a: types.Tree, b: types.Tree) -> types.Array:
  """Returns the inner product of two trees of one structure, [] float32."""
  parts = jax.tree.map(_leaf_dot, a, b)
  return sum(jax.tree.leaves(parts), jnp.zeros((), jnp.float32))


def squared_norm(tree: types.Tree) -> types.Array:
  """Returns the squared Euclidean norm of all leaves together, [] float32."""
  return dot(tree, tree)


def safe_sqrt(x: types.Array, eps: float = 1e-20) -> types.Array:
  """Returns sqrt(max(x, eps)), whose derivative is finite at 0."""
  return jnp.sqrt(jnp.maximum(x, eps))


def safe_abs(x: types.Array) -> types.Array:
  """Returns |x|, whose derivative is 0 at 0; JAX's own is 1 there."""
  return x * jnp.sign(x)


def where(condition: types.Array, a: types.Tree, b: types.Tree) -> types.Tree:
  """Returns `a` where the scalar `condition` holds, else `b`, leaf by leaf."""
  return jax.tree.map(lambda u, v: jnp.where(condition, u, v), a, b)


def strong(tree: types.Tree) -> types.Tree:
  """Returns the tree without the weak types that Python numbers leave."""
  return jax.tree.map(
    lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype),
    tree,
  )


def widened(tree: types.Tree) -> types.Tree:
  """Returns the tree with floating leaves in float64 if JAX is set to it.

  With `JAX_ENABLE_X64`, a run is a reference in float64 from end to end;
  without it, nothing changes.
  """
  wide = jnp.result_type(float)
  return jax.tree.map(
    lambda leaf: (
      leaf.astype(wide) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
    ),
    tree,
  )


def all_finite(tree: types.Tree) -> types.Array:
  """Returns [] bool, whether no floating leaf holds a NaN or an infinity."""
  checks = [
    jnp.all(jnp.isfinite(leaf))
    for leaf in jax.tree.leaves(tree)
    if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.inexact)
  ]
  return jnp.all(jnp.stack(checks)) if checks else jnp.bool_(True)


def _leaf_dot(a: types.Array, b: types.Array) -> types.Array:
  dtype = jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32)
  return jnp.vdot(
    a.astype(dtype), b.astype(dtype), precision=jax.lax.Precision.HIGHEST
  )
