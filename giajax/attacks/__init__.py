"""Gradient inversion attacks."""

import functools

from giajax.attacks import bn_matching
from giajax.attacks import dimitrov
from giajax.attacks import dlg
from giajax.attacks import idlg
from giajax.attacks import inverting_gradients
from giajax.attacks import linear_layer

ATTACKS = {
  'dimitrov': dimitrov.dimitrov,
  'dlg': dlg.dlg,
  'estimate': functools.partial(bn_matching.bn_matching, source='estimate'),
  'huang': functools.partial(bn_matching.bn_matching, source='after'),
  'idlg': idlg.idlg,
  'inverting_gradients': inverting_gradients.inverting_gradients,
  'linear_layer': linear_layer.linear_layer,
  'running': functools.partial(bn_matching.bn_matching, source='running'),
}
