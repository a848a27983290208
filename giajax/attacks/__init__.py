"""Gradient inversion attacks."""

from giajax.attacks import dlg
from giajax.attacks import idlg
from giajax.attacks import inverting_gradients
from giajax.attacks import linear_layer

ATTACKS = {
  'dlg': dlg.dlg,
  'idlg': idlg.idlg,
  'inverting_gradients': inverting_gradients.inverting_gradients,
  'linear_layer': linear_layer.linear_layer,
}
