"""The battery: the attacks that an audit of a received update tries.

A row is what an audit changes for one of them: `attack`, and `labels` where the
attack finds the labels by itself. Those in `TIMED` share the time that there
is; the others take as many steps as they need, or none. The rows stand in the
order of what they find for their time. `FALLBACK` is tried where none of those
fits.
"""

from collections.abc import Mapping
from typing import Any

BATTERY: dict[str, Mapping[str, Any]] = {
  'linear layer': {'attack': {'name': 'linear_layer'}, 'labels': 'granted'},
  'R-GAP': {'attack': {'name': 'r_gap'}, 'labels': 'granted'},
  'APRIL': {'attack': {'name': 'april'}, 'labels': 'granted'},
  'SPEAR': {'attack': {'name': 'spear'}, 'labels': 'granted'},
  'cocktail party': {
    'attack': {'name': 'cocktail_party'},
    'labels': 'granted',
  },
  'inverting gradients': {
    'attack': {'name': 'inverting_gradients', 'total_variation': 0.02},
  },
  'inverting gradients (weak prior)': {
    'attack': {'name': 'inverting_gradients', 'total_variation': 0.002},
  },
  'BatchNorm buffers (weak prior)': {
    'attack': {'name': 'running', 'total_variation': 0.002},
  },
  'BatchNorm buffers': {
    'attack': {'name': 'running', 'total_variation': 0.02},
  },
}
# Where no rule finds the labels: they are optimised together with the images.
FALLBACK: dict[str, Mapping[str, Any]] = {
  'inverting gradients (labels optimised)': {
    'attack': {
      'name': 'inverting_gradients',
      'total_variation': 0.002,
      'joint': True,
    },
    'labels': 'granted',
  },
  'deep leakage': {'attack': {'name': 'dlg'}, 'labels': 'granted'},
}
TIMED = (
  *('inverting gradients', 'inverting gradients (weak prior)'),
  *('BatchNorm buffers (weak prior)', 'BatchNorm buffers'),
  *FALLBACK,
)
