"""What a client does to protect its update."""

from giajax.defenses import base
from giajax.defenses import gaussian_noise

DEFENSES = {
  'none': base.none,
  'gaussian_noise': gaussian_noise.gaussian_noise,
}
