"""Detectors among the cases of the goldens.

Those of DETR with a decoder, and with its loss, are in `detr_cases`.
"""

from golden import case

# Of a transformer and of a backbone that is trained.
SMALL = {
  'backbone_width': 1 / 16,
  'width': 16,
  'heads': 2,
  'hidden': 2,
  'queries': 8,
  'dropout': 0.0,
}
TRAINED = {
  **SMALL,
  'depth': 18,
  'stages': 2,
  'encoder_layers': 1,
  'decoder_layers': 1,
  'batch_norm': 'trained',
}
CASES = {
  # In training mode rounding to float32 turns into errors of 1e-4 of their
  # derivatives, in torch as here.
  'yolov8n': case.Case(
    'yolov8n', (64, 32, 3), 5, {'width': 1 / 16}, ('train',), double=True
  ),
  'yolov8n_deep': case.Case(
    'yolov8n',
    (64, 32, 3),
    7,
    {'width': 1 / 16, 'depth': 2 / 3, 'norm': 'layer', 'activation': 'gelu'},
  ),
  'yolov8n_basicblock': case.Case(
    'yolov8n_basicblock',
    (32, 96, 3),
    5,
    {'width': 1 / 16},
    ('eval',),
    double=True,
  ),
  'yolov8n_before': case.Case(
    'yolov8n_basicblock',
    (32, 64, 3),
    5,
    {
      'width': 1 / 16,
      'blocks': (1, 1, 1, 1),
      'placement': 'before',
      'stem': 'yolov8',
    },
  ),
  'yolov8n_c2f': case.Case(
    'yolov8n_basicblock',
    (32, 64, 3),
    5,
    {
      'width': 1 / 16,
      'blocks': (1, 2, 1, 1),
      'neck_blocks': 2,
      'block': 'c2f',
      'activation': 'silu',
    },
    double=True,
  ),
  # Images that are not square tell rows from columns. With a larger gain,
  # float32 loses digits of the attention's gradients in inference mode.
  'detr_encoder': case.Case(
    'detr_resnet50',
    (32, 40, 3),
    5,
    {**TRAINED, 'decoder_layers': 0},
    ('train',),
    gain=0.7,
  ),
  'detr_convolutions': case.Case(
    'detr_resnet50',
    (32, 40, 3),
    5,
    {**TRAINED, 'encoder_layers': 0, 'decoder_layers': 0},
    ('eval',),
    gain=0.7,
  ),
}
