"""What a recording is like, in words."""

from __future__ import annotations

from ..events import Events
from ..files import FORMATS
from ..files.recording import Recording
from . import words
from .summary import Summary


def facts(recording: Events | Recording, found: Summary) -> list[tuple[str, str]]:
    """Return what is known of a recording, as names and texts."""
    rows = [("Format", FORMATS[recording.format].title)] if isinstance(recording, Recording) else []
    rows += [
        ("Sensor", f"{found.width} x {found.height}"),
        ("Events", f"{found.events:,}"),
        ("ON", words.share(found.on, found.events)),
        ("OFF", words.share(found.off, found.events)),
    ]
    if found.start is not None and found.stop is not None:
        rows += [
            ("Duration", words.time(found.duration)),
            ("First", f"{found.start:,} us"),
            ("Last", f"{found.stop:,} us"),
            ("Order", "by time" if found.is_ordered else f"backwards {found.backwards:,} times"),
        ]
    if found.rate is not None:
        rows.append(("Mean rate", words.rate(found.rate)))
    if found.peak_rate is not None and found.peak_at is not None and found.start is not None:
        at = words.time(max(0, found.peak_at - found.start))
        rows.append(("Peak rate", f"{words.rate(found.peak_rate)} in {words.time(found.peak_bin)}, at {at}"))
    rows.append(("Active pixels", words.share(found.active_pixels, found.width * found.height)))
    if found.busiest is not None:
        busy = found.busiest
        rows.append(("Busiest pixel", f"{busy.x}, {busy.y}: {busy.events:,}"))
    rows.append(("Hot pixels", f"{found.hot_count:,}"))
    if found.hot_count:
        rows.append(("Their events", words.share(found.hot_events, found.events)))
    channels = ", ".join(map(str, found.trigger_channels))
    rows.append(("Triggers", f"{found.triggers:,}" + (f" (channel {channels})" if channels else "")))
    rows.append(("Motion", f"{found.motion:,} measurements" if found.motion else "none"))
    return rows
