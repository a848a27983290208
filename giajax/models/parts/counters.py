"""Random streams for the initial weights of a module."""

from flax import nnx
import jax

from giajax import types


class _Stream(nnx.RngStream):
  """A stream of flax with the same keys, traced in linear time.

  Where a count is set in place, flax asks the traced one before it for its
  sharding, and JAX lists the whole program so far to say that there is none.
  """

  def __call__(self) -> types.Array:
    """Returns the next key."""
    count = self.count[...]
    self.count.set_value(count + 1)
    return jax.random.fold_in(self.key[...], count)


def rngs(**seeds: types.Array | int) -> nnx.Rngs:
  """Returns random streams that give the keys of `nnx.Rngs(**seeds)`.

  Args:
    **seeds: of each stream, by its name: a key, which is consumed, or a number.
  """
  streams = nnx.Rngs(**seeds)
  for name, stream in streams.items():
    setattr(streams, name, _Stream(stream.key[...], tag=name))
  return streams
