"""The command that makes foreign weights ours.

  giajax convert SOURCE --model=NAME --out=FILE.npz
    [--model_options='num_classes=1000, image_shape=(224, 224, 3), stem=cifar']
    [--prefix=state.model] [--rename=linear=fc,module=]

checks a state dict with torchvision's names against an architecture and writes
it as an npz that `--config.weights.path` reads. SOURCE is an npz, .safetensors
or, with the extra `convert` installed, a .pth, of which nothing but tensors is
unpickled. Other names, such as timm's, become torchvision's by --rename: pairs
of leading parts, of which the longest that matches is applied.
"""

from collections.abc import Sequence

from absl import flags as absl_flags

from giajax.commands import flags
from giajax.engine import build
from giajax.models import convert

_TEXTS = {
  'model': 'A name of giajax --list.',
  'model_options': 'Arguments of that row, as key=value, key=value.',
  'prefix': 'Read only the names under it.',
  'rename': 'Pairs old=new of leading parts of names, by commas.',
  'out': 'The npz to write.',
}


def run(argv: Sequence[str]) -> int:
  """Converts a state dict as the arguments behind `giajax convert` say."""
  values = flags.bare()
  for name, text in _TEXTS.items():
    absl_flags.DEFINE_string(name, '', text, flag_values=values)
  rest = flags.plain(values, argv, 'giajax convert')
  if values.help:
    print(f'{__doc__}\n{values.main_module_help()}')
    return 0
  if len(rest) != 1 or not values.model or not values.out:
    raise ValueError(
      'Expected giajax convert SOURCE --model=NAME --out=FILE.npz; got '
      f'{" ".join(argv) or "nothing"}; see giajax convert --help'
    )
  options = flags.keyword_arguments(values.model_options)
  net = build.model({'name': values.model, **options})
  renamed = flags.pairs(values.rename)
  print(
    convert.convert_file(
      rest[0], values.out, net, prefix=values.prefix, rename=renamed
    )
  )
  return 0
