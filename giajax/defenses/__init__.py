"""What a client does to protect its update."""

from giajax.defenses import augmentation
from giajax.defenses import base
from giajax.defenses import mixup
from giajax.defenses import noise
from giajax.defenses import per_example_clipping
from giajax.defenses import precode
from giajax.defenses import pruning
from giajax.defenses import quantization
from giajax.defenses import soteria

DEFENSES = {
  'none': base.none,
  'augmentation': augmentation.augmentation,
  'gaussian_noise': noise.gaussian_noise,
  'laplace_noise': noise.laplace_noise,
  'mixup': mixup.mixup,
  'per_example_clipping': per_example_clipping.per_example_clipping,
  'precode': precode.precode,
  'pruning': pruning.pruning,
  'quantization': quantization.quantization,
  'soteria': soteria.soteria,
}
