"""Gradient inversion attacks."""

import functools

from giajax.attacks.closed_form import april
from giajax.attacks.closed_form import cocktail_party
from giajax.attacks.closed_form import linear_layer
from giajax.attacks.closed_form import r_gap
from giajax.attacks.closed_form import spear
from giajax.attacks.generative import ci_net
from giajax.attacks.generative import fgla
from giajax.attacks.generative import ggl
from giajax.attacks.generative import gias
from giajax.attacks.generative import gifd
from giajax.attacks.generative import grnn
from giajax.attacks.generative import lora_generator
from giajax.attacks.generative import lti
from giajax.attacks.malicious import fishing
from giajax.attacks.malicious import loki
from giajax.attacks.malicious import mkor
from giajax.attacks.malicious import robbing_the_fed
from giajax.attacks.malicious import trap_weights
from giajax.attacks.optimisation import april_optimisation
from giajax.attacks.optimisation import beyond_inferring
from giajax.attacks.optimisation import bn_statistics_matching
from giajax.attacks.optimisation import dimitrov
from giajax.attacks.optimisation import dlg
from giajax.attacks.optimisation import grad_inversion
from giajax.attacks.optimisation import idlg
from giajax.attacks.optimisation import inverting_gradients
from giajax.attacks.optimisation import modern
from giajax.attacks.optimisation import multiscale
from giajax.attacks.optimisation import partial_matching
from giajax.attacks.optimisation import sapag
from giajax.attacks.optimisation import wei

ATTACKS = {
  # Optimisation: candidates change until their update matches.
  'april_optimisation': april_optimisation.april_optimisation,
  'beyond_inferring': beyond_inferring.beyond_inferring,
  'dimitrov': dimitrov.dimitrov,
  'dlg': dlg.dlg,
  'estimate': functools.partial(
    bn_statistics_matching.bn_statistics_matching, source='estimate'
  ),
  'grad_inversion': grad_inversion.grad_inversion,
  'huang': functools.partial(
    bn_statistics_matching.bn_statistics_matching, source='after'
  ),
  'idlg': idlg.idlg,
  'inverting_gradients': inverting_gradients.inverting_gradients,
  'modern': modern.modern,
  'multiscale': multiscale.multiscale,
  'partial_matching': partial_matching.partial_matching,
  'running': functools.partial(
    bn_statistics_matching.bn_statistics_matching, source='running'
  ),
  'sapag': sapag.sapag,
  'wei': wei.wei,
  # Generative: what changes is a generator of candidates.
  'ci_net': ci_net.ci_net,
  'fgla': fgla.fgla,
  'ggl': ggl.ggl,
  'ggl_adam': ggl.ggl_adam,
  'gias': gias.gias,
  'gifd': gifd.gifd,
  'grnn': grnn.grnn,
  'lora_generator': lora_generator.lora_generator,
  'lti': lti.lti,
  # Closed form: the images are solved for.
  'april': april.april,
  'cocktail_party': cocktail_party.cocktail_party,
  'linear_layer': linear_layer.linear_layer,
  'r_gap': r_gap.r_gap,
  'spear': spear.spear,
  # Malicious: the server alters what it sends.
  'fishing': fishing.fishing,
  'loki': loki.loki,
  'mkor': mkor.mkor,
  'robbing_the_fed': robbing_the_fed.robbing_the_fed,
  'trap_weights': trap_weights.trap_weights,
}
