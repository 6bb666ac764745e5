"""Spike cameras: bit planes in, images out."""

from .around import around
from .planes import load, pack, planes, unpack
from .quality import psnr, ssim
from .texture import FSR, SSR, TFI, TFW, Texture

__all__ = [
    "FSR",
    "SSR",
    "TFI",
    "TFW",
    "Texture",
    "around",
    "load",
    "pack",
    "planes",
    "psnr",
    "ssim",
    "unpack",
]
