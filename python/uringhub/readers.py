"""The stream objects of ``asyncio.start_server`` and ``open_connection``, with what costs done natively.

``asyncio`` makes a ``StreamReader`` and a ``StreamReaderProtocol`` before it asks the loop for a transport. When they
get one of ours they become instances of these subclasses. Everything that is not replaced here is theirs.
"""

from asyncio import streams

from uringhub import (
    _native,
    operations,  # noqa: F401  what ``read`` returns
)


class StreamReader(streams.StreamReader):
    """``read`` takes what is there, and waits, without Python frames."""


class StreamReaderProtocol(streams.StreamReaderProtocol):
    """``drain`` finds out without a coroutine that there is nothing to wait for."""


_KNOWN = _native.set_reader_classes(StreamReaderProtocol, StreamReader)


def adopt(protocol):
    """Make a stock protocol and its stock reader ours; leave everything else as it is, and all in debug mode."""
    if type(protocol) is streams.StreamReaderProtocol and _KNOWN and not protocol._loop.get_debug():
        reader = protocol._stream_reader
        if type(reader) is streams.StreamReader:
            reader.__class__ = StreamReader
            protocol.__class__ = StreamReaderProtocol
            _native.adopted(protocol, reader)
