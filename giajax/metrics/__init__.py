"""How close two images are, and what that says about a leak.

A row is `(a [..., H, W, C], b [..., H, W, C]) -> [...]` in [0, 1]; `lpips`
needs its `weights` as well, which `lpips.load` binds.
"""

from giajax.metrics import cw_ssim
from giajax.metrics import lpips
from giajax.metrics import pixel

METRICS = {
  'mse': pixel.mse,
  'psnr': pixel.psnr,
  'ssim': pixel.ssim,
  'cw_ssim': cw_ssim.cw_ssim,
  'lpips': lpips.distance,
}
