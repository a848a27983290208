"""Where images come from, and which of them form a client's batch.

A row loads a `base.Dataset`: `DATASETS[name](**kwargs)`.
"""

from giajax.data import arrays
from giajax.data import folder
from giajax.data import photographs
from giajax.data import tfds_source
from giajax.data import unknown

DATASETS = {
  'photographs': photographs.load,
  'tfds': tfds_source.load,
  'folder': folder.load,
  'arrays': arrays.load,
  'unknown': unknown.load,
}
