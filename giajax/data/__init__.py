"""Where images come from, and which of them form a client's batch.

A row loads a `base.Dataset`: `DATASETS[name](**kwargs)`.
"""

from giajax.data import arrays
from giajax.data import coco_folder
from giajax.data import folder
from giajax.data import photographs
from giajax.data import shapes
from giajax.data import tfds_objects
from giajax.data import tfds_source
from giajax.data import unknown

DATASETS = {
  'photographs': photographs.load,
  'tfds': tfds_source.load,
  'tfds_objects': tfds_objects.load,
  'folder': folder.load,
  'arrays': arrays.load,
  'shapes': shapes.load,
  'coco_folder': coco_folder.load,
  'unknown': unknown.load,
}
