"""Images as tokens: `[T, B, C, H, W]` as `[T, B, H*W, C]`, and back."""

from __future__ import annotations

from torch import Tensor, nn


def to_tokens(x: Tensor) -> Tensor:
    """Return `[T, B, C, H, W]` as `[T, B, H*W, C]`: a view, and contiguous where x is channels-last."""
    return x.flatten(3).transpose(2, 3)


def to_map(x: Tensor, height: int, width: int) -> Tensor:
    """Return `[T, B, H*W, C]` as `[T, B, C, H, W]`, channels-last: a view."""
    return x.unflatten(2, (height, width)).movedim(-1, 2)


class OnTokens(nn.Sequential):
    """Modules over tokens `[T, B, N, C]`, run one after the other on images `[T, B, C, H, W]`."""

    sees_time = True

    def forward(self, x: Tensor) -> Tensor:
        """Return `[T, B, C', H, W]` for x, `[T, B, C, H, W]`."""
        height, width = x.shape[-2:]
        return to_map(super().forward(to_tokens(x)), height, width)
