"""What networks are trained to do.

A row is a factory of a `base.Task`: `TASKS[name](num_classes, ...)`.
"""

from giajax.tasks import classification
from giajax.tasks import detection
from giajax.tasks import multilabel
from giajax.tasks import regression
from giajax.tasks import segmentation

TASKS = {
  'classification': classification.classification,
  'multilabel': multilabel.multilabel,
  'regression': regression.regression,
  'segmentation': segmentation.segmentation,
  'detection': detection.detection,
}
