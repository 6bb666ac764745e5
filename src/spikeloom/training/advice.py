"""What is wrong with a network's firing and gradients, and what to do: said once of each layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

SILENT, SATURATED = 0.9, 0.5
"""The shares of a layer's neurons from which on it is called so."""
VANISHED, EXPLODED = 1e-6, 1e3
"""The norm of a layer's gradient below which it does not learn, as a share of the greatest layer's; and the
norm above which a step is no longer a small one."""

_NORM = "put a norm before the neuron (sl.NormNeuron(nn.BatchNorm2d(C), sl.LIF()))"


class Advice:
    """Warnings with remedies. Layers of one kind share a message, since they share the remedy.

    Attributes:
        told: the (kind, layer) pairs that were warned of: no second time.
    """

    def __init__(self) -> None:
        self.told: set[tuple[str, str]] = set()

    def on_firing(
        self,
        layers: Mapping[str, Mapping[str, float]],
        graded: Iterable[str],
        unseen: Iterable[str],
        batches: int,
    ) -> Iterator[str]:
        """Look at layers' figures, as `Health.report` has them.

        Arguments:
            layers: by name, firing_rate, silent and saturated.
            graded: those whose output is no spikes, as a membrane's: always on, and rightly so.
            unseen: those that were not called.
            batches: how many batches were watched.
        """
        many = _watched(batches)
        yield from self._once(
            "silent layers",
            {
                name: f"{of['silent']:.0%} of its neurons never fired, rate {of['firing_rate']:.2g}"
                for name, of in layers.items()
                if of["firing_rate"] == 0 or of["silent"] > SILENT
            },
            f"lower v_threshold, {_NORM}, or start from larger weights",
            many,
        )
        yield from self._once(
            "saturated layers",
            {
                name: f"{of['saturated']:.0%} of its neurons fired at every step"
                for name, of in layers.items()
                if of["saturated"] > SATURATED and name not in graded
            },
            f"raise v_threshold, {_NORM}, or start from smaller weights",
            many,
        )
        yield from self._once(
            "layers not seen",
            dict.fromkeys(unseen, "not called"),
            "take them out if they are of no use; code that was compiled before hides its layers",
            many,
        )

    def on_gradients(
        self, norms: Mapping[str, float], broken: Mapping[str, int], batches: int
    ) -> Iterator[str]:
        """Look at gradients.

        Arguments:
            norms: by layer that learns, where they were finite.
            broken: by layer, in how many batches they were not finite. Few are no trouble: half precision
                finds its scale so.
            batches: of how many.
        """
        many = _watched(batches)
        greatest = max(norms.values(), default=0.0)
        yield from self._once(
            "gradients vanish",
            {name: f"norm {norm:.2g}" for name, norm in norms.items() if norm <= VANISHED * greatest},
            "use a wider surrogate, as sl.surrogate.ATan(alpha=1.0), or a norm before the next neurons; look "
            "for a detach() on the way; or freeze what is not to learn: layer.requires_grad_(False)",
            many,
        )
        yield from self._once(
            "gradients explode",
            {name: f"norm {norm:.2g}" for name, norm in norms.items() if norm > EXPLODED},
            "use a smaller lr with warm-up, clip_norm = 1, or detach_reset=True in the neurons",
            many,
        )
        yield from self._once(
            "gradients are not finite",
            {
                name: f"{count} of {batches}"
                for name, count in broken.items()
                if count and 2 * count >= batches
            },
            "use a smaller lr, or full precision; look for a division by 0, or the logarithm or root of 0",
            many,
        )

    def _once(self, kind: str, found: Mapping[str, str], remedy: str, where: str) -> Iterator[str]:
        new = {name: figure for name, figure in found.items() if (kind, name) not in self.told}
        self.told.update((kind, name) for name in new)
        if new:
            some = [f"{name} ({figure})" for name, figure in list(new.items())[:4]]
            more = f" and {len(new) - 4} more" if len(new) > 4 else ""
            yield f"{kind} {where}: {', '.join(some)}{more}; {remedy}"


def _watched(batches: int) -> str:
    return f"in {batches} watched batches" if batches > 1 else "in the watched batch"
