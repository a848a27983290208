"""What a client can check about a model before it trains it.

Each row is a factory `foo(view, *, threshold=...) -> Verifier`; see `base`.
"""

from giajax.verify import activation_overlap
from giajax.verify import architecture
from giajax.verify import base
from giajax.verify import class_bias
from giajax.verify import class_scale
from giajax.verify import dominance
from giajax.verify import dsnr
from giajax.verify import feature_concentration
from giajax.verify import gradient_rank
from giajax.verify import identity_kernels
from giajax.verify import isolation
from giajax.verify import monotone_biases
from giajax.verify import proportional_rows
from giajax.verify import running_statistics
from giajax.verify import scale
from giajax.verify import sign_split
from giajax.verify import update_distance
from giajax.verify import update_rank

VERIFIERS: dict[str, base.Factory] = {
  'activation_overlap': activation_overlap.activation_overlap,
  'architecture': architecture.architecture,
  'class_bias': class_bias.class_bias,
  'class_scale': class_scale.class_scale,
  'dominance': dominance.dominance,
  'dsnr': dsnr.dsnr,
  'feature_concentration': feature_concentration.feature_concentration,
  'gradient_rank': gradient_rank.gradient_rank,
  'identity_kernels': identity_kernels.identity_kernels,
  'isolation': isolation.isolation,
  'monotone_biases': monotone_biases.monotone_biases,
  'proportional_rows': proportional_rows.proportional_rows,
  'running_statistics': running_statistics.running_statistics,
  'scale': scale.scale,
  'sign_split': sign_split.sign_split,
  'update_distance': update_distance.update_distance,
  'update_rank': update_rank.update_rank,
}
