"""Any override of a config is taken, or refused in one line."""

import hypothesis
from hypothesis import strategies as st
import pytest
import tiny

from giajax.commands import configs
from giajax.engine import build
from giajax.engine import schema

fuzzed = hypothesis.settings(
  max_examples=150, deadline=None, derandomize=True, database=None
)


def _keys(node, path=()):
  """Yields the path of every key of a nested dict."""
  for key, value in node.items():
    yield (*path, key)
    if isinstance(value, dict):
      yield from _keys(value, (*path, key))


_NAMES = ['', 'x', 'name', 'seed', '0', '[0]', '\x1b[2J', 'num_steps', 'path']
_KEYS = st.sampled_from([*_keys(schema.DEFAULTS)]) | st.lists(
  st.sampled_from(_NAMES), min_size=1, max_size=3
).map(tuple)
_PLAIN = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3)
  ),
  max_leaves=6,
)
_TEXTS = st.text(max_size=20) | _PLAIN.map(repr)


@fuzzed
@hypothesis.given(
  overrides=st.dictionaries(_KEYS.map('.'.join), _TEXTS, min_size=1, max_size=3)
)
def test_any_override(overrides):
  try:
    build.experiment(configs.override(tiny.config(), overrides))
  except ValueError as error:
    text = str(error)
    assert text.startswith('Expected ') and '; got ' in text, text


def test_the_config_itself_is_taken():
  build.experiment(configs.override(tiny.config(), {'seed': '1'}))
  with pytest.raises(ValueError, match=r'^Expected seed of at least 0'):
    build.experiment(configs.override(tiny.config(), {'seed': '-1'}))
