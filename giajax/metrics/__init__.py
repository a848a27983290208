"""How close two images are, and what that says about a leak."""

from giajax.metrics import cw_ssim
from giajax.metrics import exact
from giajax.metrics import fmse
from giajax.metrics import gradient_share
from giajax.metrics import gradient_similarity
from giajax.metrics import iip
from giajax.metrics import image_share
from giajax.metrics import lpips
from giajax.metrics import mse
from giajax.metrics import psnr
from giajax.metrics import rdlv
from giajax.metrics import regions
from giajax.metrics import ssim
from giajax.metrics import ssim_range6

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
  'psnr_in_content': regions.PSNR_CONTENT,
  'ssim_in_content': regions.SSIM_CONTENT,
  'lpips_in_content': regions.LPIPS_CONTENT,
  'psnr_in_boxes': regions.PSNR_BOXES,
  'ssim_in_boxes': regions.SSIM_BOXES,
  'ssim_range6': ssim_range6.SSIM,
  'ssim_range6_grey': ssim_range6.GREY,
  'gradient_similarity': gradient_similarity.SIMILARITY,
  'gradient_similarity_first': gradient_similarity.FIRST,
  'gradient_share': gradient_share.SHARE,
  'image_share': image_share.SHARE,
}
