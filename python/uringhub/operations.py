"""What ``loop.sock_recv``, ``sock_recv_into``, ``sock_sendall`` and a stream's ``read`` return: a coroutine without a frame."""

from uringhub import _native


class Operation:
    """Behaves as the coroutine of an ``async def`` does: awaited once, made a task of, cancelled, closed.

    Its slots say what it is about. They are for debuggers; ``subject`` is gone once it has ended.
    """

    __slots__ = (
        "__weakref__",
        # The method that made it, as text.
        "name",
        # The socket, or the reader.
        "subject",
        # What the method was called with.
        "argument",
        "loop",
        # What it waits for, once it has begun.
        "waiting",
    )

    @property
    def __name__(self):
        return self.name

    def __repr__(self):
        state = "waiting" if hasattr(self, "waiting") else "created" if hasattr(self, "subject") else "closed"
        return f"<{state} operation {self.name}() at {id(self):#x}>"


_native.set_operation_class(Operation)
