"""Detectors: network, BatchNorm mode, weights, and what is known of objects.

  giajax --config=studies/detection --workdir=W --config.dataset.path=DIR
  giajax --config=studies/detection:PART --workdir=W --config.dataset.path=DIR
  giajax --config=studies/detection:PART,runlocal --workdir=W

After Valadi et al., 2025, arXiv 2508.19819, and LeakPro's experiment of it: one
photograph of 256 pixels behind an update of a detector. PART is one of

  network     YOLOv8-n and the study's network of basic blocks x BatchNorm mode,
              the boxes and classes of the objects known
  knowledge   YOLOv8-n x BatchNorm mode x what is known: boxes and classes, or
              classes, or nothing
  simplified  the same for the study's network
  detr        small DETRs, each simpler than the one before: with four stages
              of the backbone, with three, without a decoder, without a
              transformer

Weights are fresh unless `--config.weights.path=FILE` names some. Those after a
round are made by `giajax train --config=studies/detection:PART --point=0
--out=FILE --config.dataset.path=DIR`. `--config.attack.name=running` uses the
buffers that a client in training mode sends.

`image_share` says how much of the update depends on the photograph at all.
`ssim_range6` is SSIM as LeakPro computes it, with a range of 6 for images in
[0, 1], beside that of a grey image: a grey image has .5. DIR holds images and
labels, as detectors are trained on.

`runlocal` has two drawn scenes of 64 pixels, networks of a quarter of the width
(of DETR as it is), and 500 steps.
"""

from giajax.engine import build

_SOURCE = 'Valadi et al., 2025, arXiv 2508.19819, and LeakPro'
_KNOWN = ((), ('boxes',), ('labels', 'boxes'))
_CLAIM = (
  'A detector gives its image away only in inference mode, with simplified '
  'blocks, a shallow neck and fresh weights.'
)
# LeakPro's ladder: the stages of the backbone, the layers of the encoder and of
# the decoder.
_LADDER = ((4, 1, 1), (3, 1, 1), (3, 1, 0), (3, 0, 0))


def get_config(arg=None):
  """Returns a part; with `runlocal` it takes minutes on two cores."""
  words = (arg or 'network').split(',')
  local = 'runlocal' in words
  part = next((word for word in words if word != 'runlocal'), 'network')
  if part not in _PARTS:
    raise ValueError(
      f'Expected a part among {", ".join(_PARTS)}; got {part!r}; name one'
    )
  config = build.default_config()
  config.dataset = dict(name='coco_folder', path='', size=256, fill=0)
  config.cases.count = 4
  config.model = dict(name='yolov8n')
  config.task = dict(name='detection')
  config.client = dict(name='fedsgd', train_mode=False)
  config.threat.grants = ('labels', 'boxes')
  config.attack = dict(name='inverting_gradients', num_steps=8_000)
  config.image_share = True
  config.ssim_range6 = True
  config.regions.update(content=True, boxes=True)
  if local:
    config.dataset = dict(name='shapes', size=64, count=1_000, split='test')
    config.model.width = 0.0625
    config.cases.count = 2
    config.attack.num_steps = 500
  config.study = dict(
    claim=_CLAIM,
    source=_SOURCE,
    metrics=('psnr', 'ssim', 'ssim_range6', 'image_share'),
  )
  _PARTS[part](config)
  return config


def _network(config):
  config.sweep = {
    'model.name': ('yolov8n', 'yolov8n_basicblock'),
    'client.train_mode': (False, True),
  }


def _knowledge(config):
  config.study.claim = 'The server needs the boxes and classes of the objects.'
  config.sweep = {'client.train_mode': (False, True), 'attack.joint': _KNOWN}


def _simplified(config):
  _knowledge(config)
  config.model.name = 'yolov8n_basicblock'


def _detr(config):
  config.study.claim = 'Images come back from DETR without its transformer.'
  config.task.loss = 'detr'
  config.sweep = {'model': tuple(_small(*rung) for rung in _LADDER)}


def _small(stages, encoder_layers, decoder_layers):
  return dict(
    name='detr_resnet50',
    depth=18,
    stages=stages,
    encoder_layers=encoder_layers,
    decoder_layers=decoder_layers,
    width=128,
    heads=4,
    hidden=4,
    batch_norm='trained',
    dropout=0.0,
  )


_PARTS = {
  'detr': _detr,
  'knowledge': _knowledge,
  'network': _network,
  'simplified': _simplified,
}
