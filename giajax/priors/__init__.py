"""What an attacker believes about images, as terms of its objective."""

from giajax.priors import l2
from giajax.priors import total_variation

PRIORS = {
  'total_variation': total_variation.total_variation,
  'l2': l2.l2,
}
