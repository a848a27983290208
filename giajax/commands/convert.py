"""Converts foreign weights into the file that an experiment reads.

  giajax convert SOURCE --model=NAME --out=FILE.npz
    [--model_options='num_classes=1000, image_shape=(224, 224, 3), stem=cifar']
    [--prefix=state.model] [--rename=linear=fc,module=]

SOURCE is a state dict with torchvision's names: an npz file, a .safetensors
file or, with the extra `torch` installed, a .pth file. Nothing but tensors is
unpickled. The state dict is checked against the architecture and written as an
npz file that --config.weights.path reads. Use --rename to turn other names,
such as timm's, into torchvision's.
"""

from typing import Any

from giajax import printable
from giajax.commands import flags
from giajax.commands import literals
from giajax.engine import systems
from giajax.models import convert

USAGE = 'giajax convert SOURCE --model=NAME --out=FILE.npz'
FLAGS = (
  flags.Flag('model', 'The architecture: a model that giajax --list names.'),
  flags.Flag('model_options', 'Its arguments, as key=value, key=value.'),
  flags.Flag('prefix', 'Reads only the names below this prefix.'),
  flags.Flag(
    'rename',
    'Pairs OLD=NEW of prefixes of names, separated by commas. If several pairs '
    'match a name, the one with the longest prefix is applied.',
  ),
  flags.OUT,
)


def run(arguments: flags.Arguments) -> int:
  """Converts a state dict and prints what was written."""
  values = arguments.values
  options = _options(values.model_options)
  written = convert.convert_file(
    arguments.words[0],
    values.out,
    systems.model({'name': values.model, **options}),
    prefix=values.prefix,
    rename=literals.pairs(values.rename, 'rename'),
  )
  print(printable.line(written))
  return 0


def _options(text: str) -> dict[str, Any]:
  options = literals.keyword_arguments(text, 'model_options')
  shape = options.get('image_shape', ())
  if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
    raise ValueError(
      f'Expected image_shape=(H, W, C); got image_shape={shape}; correct it'
    )
  return options
