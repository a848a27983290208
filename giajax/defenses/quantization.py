"""Quantisation: every entry of the update's delta is sent in few bits.

One bit is the sign times the leaf's mean magnitude (Bernstein et al., signSGD,
ICML 2018, arXiv 1802.04434; with the scale of Karimireddy et al., Error
Feedback Fixes SignSGD, ICML 2019, arXiv 1901.09847). With k > 1 bits a leaf is
rounded to 2^k - 1 levels at equal distances, symmetric about 0, up to its
largest magnitude; `stochastic` rounds up or down at random so that the mean is
kept (Alistarh et al., QSGD, NeurIPS 2017, arXiv 1610.02132, with the largest
magnitude in place of the norm).
"""

import jax
import jax.numpy as jnp

from giajax.defenses import base

_TINY = 1e-30  # in place of the scale of a leaf of zeros


def quantization(*, bits: int, stochastic: bool = False) -> base.Defense:
  """Sends each entry in `bits` bits, with one scale per leaf.

  A server that knows the defence quantises the candidate's delta in the same
  way, without randomness and with the slope of a line through the levels.

  Args:
    bits: the number of bits per entry, at least 1.
    stochastic: whether rounding is unbiased; not for one bit.

  Raises:
    ValueError: fewer bits than 1, or one bit and `stochastic`.
  """
  if bits < 1 or (stochastic and bits == 1):
    raise ValueError(
      'Expected at least 1 bit, or 2 with stochastic=True; got '
      f'bits={bits}, stochastic={stochastic}; use more bits'
    )

  def quantized(leaf, half):
    if bits == 1:
      return jnp.sign(leaf) * jnp.abs(leaf).mean()
    levels = 2 ** (bits - 1) - 1  # on either side of 0
    scale = jnp.maximum(jnp.abs(leaf).max() / levels, _TINY)
    return jnp.floor(leaf / scale + half) * scale

  def change(key, leaf):
    if not stochastic:
      return quantized(leaf, 0.5)
    draws = jax.random.uniform(key, (leaf.size,)).reshape(leaf.shape)
    return quantized(leaf, draws)

  def believed(key, leaf):
    del key
    return leaf + jax.lax.stop_gradient(quantized(leaf, 0.5) - leaf)

  return base.Defense(
    on_client=base.on_leaves(change, 'quantization'),
    on_belief=base.on_leaves(believed, 'quantization'),
  )
