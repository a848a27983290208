"""Audits an update that your server received from a client.

  giajax audit --model=NAME --workdir=DIR --sent=FILE --received=FILE
    --client=NAME --input=H,W,C --classes=K [--form=weights] [--truth=FILE]
    [--examples=N] [--minutes=10] [--only=NAME,NAME] [--fail_on=partial]
  giajax audit --model=NAME --workdir=DIR --capture=FILE ...

The model is a file of your own and what it calls your network, or a row of
`giajax --list`; arguments follow behind commas, as in
--model=net.py:OurNet,normalisation=imagenet. The file is run, and may hold a
module of torch or flax, or any function that returns a Net. The client is a row
with the arguments that describe yours, such as
--client=fedavg,epochs=1,batch_size=4,learning_rate=0.1,train_mode=True.

SENT holds the weights that the client started from, RECEIVED what came back:
npz, .safetensors, .pt (tensors only), or the folder of an Orbax checkpoint,
with the names of the state dict or as a list in its order. --form says what
came back: weights, delta (new minus old), or gradient; weights are recognised.
A file that `giajax.capture` wrote holds all of this, and stands for the flags
that it answers.

Every attack of the battery that fits is tried, and the worst result counts.
With --truth, an npz of images x [B, H, W, C] in [0, 1] and labels y [B], they
are scored; otherwise, the page shows what came back. Rows of a table are x
[B, F]. Values of another range than [0, 1] have --low and --high, of each
channel or of all. The task is classification, another row of `giajax --list`,
or a loss of your own: --task=net.py:loss. The results are in DIR: report.html,
summary.json, results.jsonl, recon.npz.

The exit code is 1 if the verdict is --fail_on or worse.
"""

import functools

from giajax import printable
from giajax.battery import audit
from giajax.commands import flags
from giajax.commands import literals
from giajax.engine import hooks
from giajax.report import report
from giajax.report import summary
from giajax.results import rows as result_rows

USAGE = 'giajax audit --model=NAME --workdir=DIR'
FLAGS = (
  flags.Flag('model', 'The network: NAME, or NAME,KEY=VALUE.'),
  flags.Flag('capture', 'A file of giajax.capture, for what follows.'),
  flags.Flag('sent', 'The weights that the client started from.'),
  flags.Flag('received', 'What came back.'),
  flags.Flag('form', 'What that is: weights, delta or gradient.'),
  flags.Flag('client', 'What the client does: NAME, or NAME,KEY=VALUE.'),
  flags.Flag('input', 'The shape of an image: H,W,C; F for rows.', [], list),
  flags.Flag('low', 'The values that become 0, per channel or one.', [], list),
  flags.Flag('high', 'The values that become 1.', [], list),
  flags.Flag('classes', 'The number of classes, or outputs.', 0, int, 0),
  flags.Flag('task', 'What it learns: NAME, or NAME,KEY=VALUE.'),
  flags.Flag('truth', 'The images behind the update, if you have them.'),
  flags.Flag('examples', 'The number of images.', None, int, 1),
  flags.Flag('freeze', 'Parameters that the client does not train.', [], list),
  flags.Flag('trained', 'Whether the sent weights are trained.', None, bool),
  flags.Flag('minutes', 'The time for all of it, about.', 10.0, float),
  flags.Flag('only', 'The attacks to try; all that fit if empty.', [], list),
  flags.Flag('seed', 'The seed of all draws.', 0, int, 0),
  flags.FAIL_ON,
  flags.REDACT,
  flags.Flag('workdir', 'The folder that the results are written to.'),
)


def run(arguments: flags.Arguments) -> int:
  """Audits a received update and prints what each attack found."""
  values = arguments.values
  named = ('capture', 'sent', 'received', 'form', 'truth', 'examples', 'seed')
  config = audit.config_of(
    model=literals.row(values.model, 'model'),
    client=literals.row(values.client, 'client') if values.client else None,
    input_shape=literals.shape(values.input, 'input') if values.input else (),
    num_classes=values.classes,
    task=literals.row(values.task, 'task') if values.task else None,
    low=literals.numbers(values.low, 'low'),
    high=literals.numbers(values.high, 'high'),
    trained=values.trained,
    freeze=values.freeze,
    **{name: getattr(values, name) for name in named},
  )
  summary.check_threshold(values.fail_on, config)
  rows = audit.audit(
    config,
    values.workdir,
    minutes=values.minutes,
    only=values.only,
    hooks=[hooks.progress()],
    command=arguments.command,
    finish=functools.partial(report.write, redact=values.redact or None),
  )
  for line in result_rows.summary(rows):
    print(line)
  print(printable.line(f'report: {values.workdir}/report.html'))
  return summary.exit_code(rows, values.fail_on)
