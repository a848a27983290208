"""What an attacker believes about images, as terms of its objective."""

from giajax.priors import bn_statistics
from giajax.priors import epoch_order
from giajax.priors import features
from giajax.priors import group_consistency
from giajax.priors import l2
from giajax.priors import patch
from giajax.priors import task_loss
from giajax.priors import total_variation

PRIORS = {
  'bn_statistics': bn_statistics.bn_statistics,
  'epoch_order': epoch_order.epoch_order,
  'features': features.features,
  'group_consistency': group_consistency.group_consistency,
  'l2': l2.l2,
  'patch': patch.patch,
  'task_loss': task_loss.task_loss,
  'total_variation': total_variation.total_variation,
}
