"""Packets that are compressed, and may lie about how large they are when they are not."""

from __future__ import annotations

from typing import Any

from ..error import EventsError

COMPRESSIONS = {0: "none", 1: "LZ4", 2: "LZ4, high", 3: "Zstandard", 4: "Zstandard, high"}

PACKET = 1 << 26  # bytes that a packet may become: 4 million events
FREE, FACTOR = 1 << 26, 1024  # a file of N bytes may become FREE + FACTOR N
PIECE = 1 << 20


class Unpacker:
    """Unpacks the packets of one file, and counts what they become: a bomb is refused before it is whole.

    Arguments:
        compression: one of `COMPRESSIONS`.
        taken: bytes of the file before its packets.
    """

    def __init__(self, compression: int, taken: int) -> None:
        self._taken, self._made = taken, 0
        self._unpack: Any = {1: self._lz4, 2: self._lz4, 3: self._zstd, 4: self._zstd}.get(compression)
        try:
            if self._unpack == self._lz4:
                import lz4.frame

                self._library: Any = lz4.frame
            elif self._unpack == self._zstd:
                import zstandard

                self._library = zstandard
        except ImportError as error:
            raise EventsError(
                f"AEDAT 4 with {COMPRESSIONS[compression]} needs a library: pip install 'spikeloom[events]'"
            ) from error

    def __call__(self, data: memoryview, where: str) -> bytes:
        """Return a packet unpacked, in memory of its own.

        Raises:
            EventsError: it is damaged, or becomes larger than it may.
        """
        if self._unpack is None:
            return bytes(data)
        self._taken += len(data)
        limit = min(PACKET, FREE + FACTOR * self._taken - self._made)
        unpacked: bytes = self._unpack(data, limit, where)
        self._made += len(unpacked)
        return unpacked

    def _lz4(self, data: memoryview, limit: int, where: str) -> bytes:
        try:
            says = len(data) > 4 and data[4] & 8  # the flag of a frame that says how large it was
            if says and self._library.get_frame_info(data)["content_size"] > limit:
                raise _large(where, limit)
            unpacked: bytes = self._library.decompress(data)  # at most 255 times as many
        except RuntimeError as error:
            raise EventsError(f"{where}: it is no LZ4 frame: {error}") from error
        if len(unpacked) > limit:
            raise _large(where, limit)
        return unpacked

    def _zstd(self, data: memoryview, limit: int, where: str) -> bytes:
        pieces: list[bytes] = []
        left = limit
        try:
            with self._library.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
                while piece := reader.read(min(PIECE, left + 1)):
                    left -= len(piece)
                    if left < 0:
                        raise _large(where, limit)
                    pieces.append(piece)
        except self._library.ZstdError as error:
            raise EventsError(f"{where}: it is no Zstandard frame: {error}") from error
        return b"".join(pieces)


def _large(where: str, limit: int) -> EventsError:
    return EventsError(
        f"{where}: it unpacks to more than {limit} bytes; a packet may have {PACKET}, and a file of N bytes "
        f"{FREE} + {FACTOR} N in all, which no recording reaches"
    )
