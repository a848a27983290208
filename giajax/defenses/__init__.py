"""What a client does to protect its update."""

from giajax.defenses import base
from giajax.defenses import gaussian_noise
from giajax.defenses import laplace_noise
from giajax.defenses import per_example_clipping
from giajax.defenses import pruning
from giajax.defenses import quantization

DEFENSES = {
  'none': base.none,
  'gaussian_noise': gaussian_noise.gaussian_noise,
  'laplace_noise': laplace_noise.laplace_noise,
  'per_example_clipping': per_example_clipping.per_example_clipping,
  'pruning': pruning.pruning,
  'quantization': quantization.quantization,
}
