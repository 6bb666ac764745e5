"""Events: in space and time, and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..names import unknown
from .axes import axes_of, calm, lot, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..events import Events

_VIEWS = ("image", "cloud")


def events(
    events: Events,
    *,
    view: str = "image",
    colours: str = "blue-orange",
    most: int = 20_000,
    ax: Axes | None = None,
) -> Axes:
    """Draw events: as a picture of how many each pixel had, or as a cloud in time and space.

    Arguments:
        events: a recording, or a part of one.
        view: "image", `sl.events.picture` of all events in mode "counts"; or "cloud", a point an event at
            (ms since the first, x, y).
        colours: of ON and OFF, as in `sl.events.picture`.
        most: points of a cloud at most; of more, one of each of so many equal parts is drawn by lot.
        ax: where to draw; for a cloud, axes of three dimensions.

    Raises:
        TypeError: something else than Events.
        ValueError: no events; axes of the wrong kind.
        UnknownName: no such view or colours.
    """
    from ..events import Events, picture
    from ..events.view.palette import colours_of

    if not isinstance(events, Events):
        raise TypeError(
            f"viz.events takes Events, not a {type(events).__name__}; sl.events.read(path) reads a file, "
            "Events.of(t, x, y, p, width=..., height=...) takes arrays"
        )
    if view not in _VIEWS:
        raise unknown("view", view, _VIEWS)
    if not len(events):
        raise ValueError("viz.events was given no events")
    told = colours_of(colours, "light")
    if view == "image":
        ax = axes_of(ax, (4.8, 4.8 * events.height / events.width + 0.6))
        ax.imshow(picture(events, mode="counts", colours=colours, theme="light"), interpolation="nearest")
        ax.set_xlabel("x (pixel)")
        ax.set_ylabel("y (pixel)")
        calm(ax)
        return ax
    cloud: Any = axes_of(ax, (6.0, 5.0), solid=True)
    chosen = lot(len(events), most)
    drawn = events if chosen is None else events[chosen]
    start = int(events.t.min())
    for polarity, name, colour in ((1, "ON", told.on), (0, "OFF", told.off)):
        part = drawn[drawn.p == polarity]
        where = ((part.t - start) / 1e3, part.x.astype(np.float64), part.y.astype(np.float64))
        cloud.scatter(*where, s=1.5, color=[c / 255 for c in colour], label=name, depthshade=False)
    cloud.set_xlabel("ms")
    cloud.set_ylabel("x (pixel)")
    cloud.set_zlabel("y (pixel)")
    cloud.set_ylim(0, events.width)
    cloud.set_zlim(events.height, 0)
    cloud.legend(frameon=False, markerscale=4, fontsize="small")
    say(cloud, f"{len(drawn):,} of {len(events):,} events, by lot" if chosen is not None else "")
    made: Axes = cloud
    return made
