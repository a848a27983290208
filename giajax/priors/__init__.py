"""What an attacker believes about images, as terms of its objective."""

from giajax.priors import bn_statistics
from giajax.priors import epoch_order
from giajax.priors import l2
from giajax.priors import total_variation

PRIORS = {
  'bn_statistics': bn_statistics.bn_statistics,
  'epoch_order': epoch_order.epoch_order,
  'total_variation': total_variation.total_variation,
  'l2': l2.l2,
}
