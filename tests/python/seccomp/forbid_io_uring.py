"""Runs a program under a seccomp filter that forbids the three io_uring system calls.

    python forbid_io_uring.py eperm|enosys|kill PROGRAM [ARGUMENT...]

No privilege is needed: no_new_privs allows a process to filter itself. `kill` is what some container
profiles do; the program then dies by SIGSYS at its first io_uring call, so whoever opts out of io_uring
must not even probe.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# linux/prctl.h, linux/seccomp.h, linux/audit.h
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# io_uring_setup, io_uring_enter, io_uring_register have the same numbers on every architecture.
IO_URING_CALLS = (425, 426, 427)
ACTIONS = {"eperm": RET_ERRNO | errno.EPERM, "enosys": RET_ERRNO | errno.ENOSYS, "kill": RET_KILL_PROCESS}

# linux/bpf_common.h: load a word of seccomp_data, jump if equal, return a constant.
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
OFFSET_NR, OFFSET_ARCH = 0, 4


def program(action):
    """The filter as the kernel reads it.

    Sock_filter structures of code, jump if true, jump if false, operand.
    """
    calls = len(IO_URING_CALLS)
    steps = [
        (LOAD, 0, 0, OFFSET_ARCH),
        (JUMP_EQUAL, 0, calls + 1, AUDIT_ARCH[platform.machine()]),
        (LOAD, 0, 0, OFFSET_NR),
        *((JUMP_EQUAL, calls - n, 0, number) for n, number in enumerate(IO_URING_CALLS)),
        (RETURN, 0, 0, RET_ALLOW),
        (RETURN, 0, 0, action),
    ]
    return len(steps), b"".join(struct.pack("=HBBI", *step) for step in steps)


class SockFprog(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def forbid(action):
    """Filters this process and all it will start."""
    libc = ctypes.CDLL(None, use_errno=True)
    length, steps = program(ACTIONS[action])
    fprog = SockFprog(length, steps)
    for call in (
        lambda: libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        lambda: libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0),
    ):
        if call():
            code = ctypes.get_errno()
            raise OSError(code, f"prctl: {os.strerror(code)}; is seccomp compiled into this kernel?")


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ACTIONS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(ACTIONS)} PROGRAM [ARGUMENT...]")
    forbid(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
