"""Where an optimisation attack starts: noise, a pattern, an image, the truth.

A start is written 'name' or 'name:argument': 'normal', 'tiled:4', 'colour:red',
'image:/data/cat.png'. Tiled patterns and flat colours are those that Wei et
al. compare, A Framework for Evaluating Gradient Leakage Attacks in Federated
Learning, ESORICS 2020, arXiv 2004.10397.
"""

from collections.abc import Callable, Mapping
import functools
import types as builtins
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import registry
from giajax import types
from giajax.data import decode

# Red, green and blue in [0, 1]; images of one channel take their mean.
COLOURS: dict[str, tuple[float, float, float]] = {
  'black': (0.0, 0.0, 0.0),
  'grey': (0.5, 0.5, 0.5),
  'white': (1.0, 1.0, 1.0),
  'red': (1.0, 0.0, 0.0),
  'green': (0.0, 1.0, 0.0),
  'blue': (0.0, 0.0, 1.0),
}


class Start(NamedTuple):
  """Where an optimisation starts.

  Attributes:
    draw: `(key, (B, H, W, C), to_space, obs, hp) -> [B, H, W, C]` in the space
      of optimisation, to which `to_space` brings images in [0, 1]; the key is
      consumed.
    needs: the grants (`threat.GRANTS`) that it uses.
    hparams: the default values of the traced knobs that it reads.
  """

  draw: Callable[
    [
      types.Array,
      tuple[int, ...],
      Callable[[types.Array], types.Array],
      types.Observation,
      types.HParams,
    ],
    types.Array,
  ]
  needs: frozenset[str] = frozenset()
  hparams: Mapping[str, float] = builtins.MappingProxyType({})


def parse(text: str, image_shape: tuple[int, int, int]) -> Start:
  """Returns the start that 'name' or 'name:argument' describes.

  Args:
    text: a name in `STARTS` and, after a colon, the argument of that row's
      factory.
    image_shape: (H, W, C) of the images.

  Raises:
    ValueError: an unknown name, or an argument that its row does not take.
  """
  name, _, argument = str(text).partition(':')
  return registry.lookup(STARTS, name, 'start')(argument, image_shape)


def normal(argument: str, image_shape: tuple[int, int, int]) -> Start:
  """Standard normal noise."""
  del image_shape
  _check_none('normal', argument)
  return _noise(keys.normal)


def uniform(argument: str, image_shape: tuple[int, int, int]) -> Start:
  """Noise from [-1, 1)."""
  del image_shape
  _check_none('uniform', argument)
  return _noise(functools.partial(keys.uniform, bound=1.0))


def zeros(argument: str, image_shape: tuple[int, int, int]) -> Start:
  """Zero: the mean colour in the normalised space."""
  del image_shape
  _check_none('zeros', argument)
  return _noise(lambda key, shape: jnp.zeros(shape))


def tiled(argument: str, image_shape: tuple[int, int, int]) -> Start:
  """A patch of normal noise, repeated: 'tiled:4' for a side of 4 pixels."""
  side = _side('tiled', argument)
  h, w, _ = image_shape

  def draw(key, shape):
    patch = keys.normal(key, (shape[0], side, side, shape[3]))
    return patch[:, np.arange(h) % side][:, :, np.arange(w) % side]

  return _noise(draw)


def coarse(argument: str, image_shape: tuple[int, int, int]) -> Start:
  """Normal noise, enlarged: 'coarse:4' for flat blocks of 4 x 4 pixels."""
  side = _side('coarse', argument)
  h, w, _ = image_shape

  def draw(key, shape):
    small = (shape[0], -(-h // side), -(-w // side), shape[3])
    noise = keys.normal(key, small)
    return noise[:, np.arange(h) // side][:, :, np.arange(w) // side]

  return _noise(draw)


def colour(argument: str, image_shape: tuple[int, int, int]) -> Start:
  """One colour for all pixels: 'colour:red'."""
  rgb = np.asarray(registry.lookup(COLOURS, argument, 'colour'), np.float32)
  value = rgb if image_shape[-1] == 3 else rgb.mean(keepdims=True)
  return _image(np.broadcast_to(value, image_shape))


def image(argument: str, image_shape: tuple[int, int, int]) -> Start:
  """The image of a file, for the whole batch: 'image:/data/cat.png'."""
  h, w, channels = image_shape
  if h != w:
    raise ValueError(
      f'Expected square images for a start from a file; got {h} x {w}; use '
      'another start'
    )
  picture = decode.open_image(argument, argument)
  return _image(decode.to_pixels(picture, size=h, channels=channels))


def target(argument: str, image_shape: tuple[int, int, int]) -> Start:
  """The truth, with noise for a fraction of its pixels; diagnostic.

  It separates what an update reveals from what the start already revealed. The
  knob `noised_fraction` in [0, 1] is the fraction of the pixels that normal
  noise replaces, all channels of a pixel together; pixels that are replaced at
  a lower fraction are replaced at a higher one, too. Initialisation study of
  Valadi et al., Practical Feasibility of Gradient Inversion Attacks in
  Federated Learning, 2025, arXiv 2508.19819.
  """
  del image_shape
  _check_none('target', argument)

  def draw(key, shape, to_space, obs, hp):
    noise = keys.normal(keys.named(key, 'noise'), shape)
    level = jax.random.uniform(keys.named(key, 'mask'), (*shape[:3], 1))
    is_noise = level < hp['noised_fraction']
    return jnp.where(is_noise, noise, to_space(obs.side['target']))

  return Start(draw, frozenset({'target'}), {'noised_fraction': 0.5})


STARTS: dict[str, Callable[[str, tuple[int, int, int]], Start]] = {
  'coarse': coarse,
  'colour': colour,
  'image': image,
  'normal': normal,
  'target': target,
  'tiled': tiled,
  'uniform': uniform,
  'zeros': zeros,
}


def _noise(
  draw: Callable[[types.Array, tuple[int, ...]], types.Array],
) -> Start:
  return Start(lambda key, shape, to_space, obs, hp: draw(key, shape))


def _image(pixels: np.ndarray) -> Start:
  def draw(key, shape, to_space, obs, hp):
    del key, obs, hp
    return jnp.broadcast_to(to_space(jnp.asarray(pixels)), shape)

  return Start(draw)


def _check_none(name: str, argument: str) -> None:
  if argument:
    raise ValueError(
      f'Expected start={name!r} without an argument; got '
      f"start='{name}:{argument}'; leave it out"
    )


def _side(name: str, argument: str) -> int:
  if not argument.isdecimal() or int(argument) < 1:
    raise ValueError(
      f"Expected a side in pixels, as in start='{name}:4'; got "
      f"start='{name}:{argument}'; give a whole number >= 1"
    )
  return int(argument)
