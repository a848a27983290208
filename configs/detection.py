"""Object detection: what the update of a detector says of a photograph.

  giajax --config=detection --workdir=/tmp/detection --config.dataset.path=DIR
    [--config.weights.path=yolov8n_state.npz]
  giajax --config=detection:runlocal --workdir=/tmp/detection

DIR holds images and labels, as detectors are trained on. One image stands
behind an update of YOLOv8-n in inference mode, and the server knows the boxes
and the classes of its objects. `--config.client.train_mode=True` trains as a
client does, with BatchNorm statistics of the batch.
`--config.attack.joint="('boxes',)"` has the attack find the boxes as well.

`image_share` says how much of the update depends on the image: nearly all of it
in training mode and with trained weights, and a billionth or less with fresh
weights in inference mode. A small share does not mean that nothing is found.
`runlocal` has drawn shapes at 64 pixels, a quarter of the width and a few
steps.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` needs no files."""
  config = build.default_config()
  config.dataset = dict(name='coco_folder', path='', size=256)
  config.model = dict(name='yolov8n')
  config.task = dict(name='detection')
  config.client = dict(name='fedsgd', train_mode=False)
  config.cases.count = 4
  config.attack = dict(name='inverting_gradients', num_steps=8_000)
  config.threat.grants = ('labels', 'boxes')
  config.image_share = True
  config.regions.update(content=True, boxes=True)
  if arg == 'runlocal':
    config.dataset = dict(name='shapes', size=64, count=8)
    config.model = dict(name='yolov8n', width=0.0625)
    config.cases.count = 1
    config.attack.num_steps = 20
  return config
