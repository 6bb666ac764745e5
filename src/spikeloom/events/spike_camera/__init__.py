"""Spike cameras: from bit planes to images."""

from .quality import psnr, ssim

__all__ = ["psnr", "ssim"]
