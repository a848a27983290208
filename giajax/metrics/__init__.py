"""How close two images are, and what that says about a leak."""

from giajax.metrics import cw_ssim
from giajax.metrics import exact
from giajax.metrics import fmse
from giajax.metrics import gradient_share
from giajax.metrics import gradient_similarity
from giajax.metrics import iip
from giajax.metrics import lpips
from giajax.metrics import mse
from giajax.metrics import psnr
from giajax.metrics import psnr_in_boxes
from giajax.metrics import rdlv
from giajax.metrics import ssim

# In the order of the tables; a metric comes after those that it needs.
METRICS = {
  'psnr': psnr.PSNR,
  'ssim': ssim.SSIM,
  'cw_ssim': cw_ssim.CW_SSIM,
  'lpips': lpips.LPIPS,
  'mse': mse.MSE,
  'fmse': fmse.FMSE,
  'iip': iip.IIP,
  'iip_chance': iip.CHANCE,
  'exact': exact.EXACT,
  'rdlv': rdlv.RDLV,
  'psnr_in_boxes': psnr_in_boxes.PSNR,
  'gradient_similarity': gradient_similarity.SIMILARITY,
  'gradient_similarity_first': gradient_similarity.FIRST,
  'gradient_share': gradient_share.SHARE,
}
