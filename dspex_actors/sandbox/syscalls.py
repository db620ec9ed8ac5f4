"""What code may ask of Linux, as a seccomp filter: whatever is not listed is refused.

Left out, and so refused: sockets; new processes and threads (`fork`, `clone`, `execve`); signals to others, `ptrace`,
`process_vm_readv`, `pidfd_*`; other rights, owners and times of files; mounts, namespaces, `bpf`, `io_uring`, keys,
shared memory. What is new in a kernel is refused until somebody lists it.

The filter is a program of classic BPF that the kernel runs at each call: pure data, made here.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable

#: name, its number on x86_64, and on aarch64 (-: it has none there). Read from the kernel's unistd.h.
_TABLE = """
read 0 63, write 1 64, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, preadv 295 69, pwritev 296 70,
preadv2 327 286, pwritev2 328 287, close 3 57, close_range 436 436, fstat 5 80, stat 4 -, lstat 6 -,
newfstatat 262 79, statx 332 291, open 2 -, openat 257 56, access 21 -, faccessat 269 48, faccessat2 439 439,
readlink 89 -, readlinkat 267 78, lseek 8 62, mmap 9 222, mprotect 10 226, munmap 11 215, mremap 25 216,
brk 12 214, madvise 28 233, msync 26 227, mincore 27 232, rt_sigaction 13 134, rt_sigprocmask 14 135,
rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137, rt_sigsuspend 130 133, sigaltstack 131 132,
pause 34 -, ioctl 16 29, pipe 22 -, pipe2 293 59, select 23 -, pselect6 270 72, poll 7 -, ppoll 271 73,
epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22,
eventfd2 290 19, timerfd_create 283 85, timerfd_settime 286 86, timerfd_gettime 287 87, dup 32 23, dup2 33 -,
dup3 292 24, nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114,
gettimeofday 96 169, time 201 -, times 100 153, getitimer 36 102, setitimer 38 103, alarm 37 -, getpid 39 172,
getppid 110 173, gettid 186 178, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177,
getgroups 115 158, getresuid 118 148, getresgid 120 150, getpgrp 111 -, getpgid 121 155, getsid 124 156,
uname 63 160, sysinfo 99 179, getcpu 309 168, getrusage 98 165, getrlimit 97 163, prlimit64 302 261,
getpriority 140 141, getrandom 318 278, sched_yield 24 124, sched_getaffinity 204 123, sched_getparam 143 121,
sched_getscheduler 145 120, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
get_mempolicy 239 236, futex 202 98, futex_waitv 449 449, set_robust_list 273 99, get_robust_list 274 100,
rseq 334 293, set_tid_address 218 96, membarrier 324 283, exit 60 93, exit_group 231 94, restart_syscall 219 128,
arch_prctl 158 -, fcntl 72 25, flock 73 32, fsync 74 82, fdatasync 75 83, ftruncate 77 46, fallocate 285 47,
fadvise64 221 223, readahead 187 213, getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50,
umask 95 166, mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38,
renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, copy_file_range 326 285,
sendfile 40 71, statfs 137 43, fstatfs 138 44
"""

#: machine → its name in seccomp's data (AUDIT_ARCH_...), and its column of the table.
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1), "arm64": (0xC00000B7, 1)}

_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
#: Where they stand in seccomp's data: the call's number, the architecture, an argument's low and high half.
_NUMBER, _ARCHITECTURE = 0, 4

_O_TRUNC, _O_ACCMODE = 0o1000, 0o3
#: Commands of fcntl that have the kernel send signals: F_SETOWN, F_SETSIG, F_SETOWN_EX, F_NOTIFY. A process that named
#: its parent there could have it killed by a pipe.
_FCNTL_REFUSED = (8, 10, 15, 1026)
#: Commands of ioctl that are needed: is it a terminal, how large, how much is there to read, close on exec.
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)

_Row = tuple[int, int, int, int]


def numbers(machine: str) -> dict[str, int]:
    """Return the calls that are allowed, with their numbers.

    Raises:
        KeyError: nobody has listed this machine.
    """
    column = ARCHITECTURES[machine][1]
    found = {}
    for entry in _TABLE.replace("\n", " ").split(","):
        name, *each = entry.split()
        if each[column] != "-":
            found[name] = int(each[column])
    return found


def program(machine: str) -> bytes:
    """Return the filter for a machine, as the kernel takes it.

    Raises:
        KeyError: nobody has listed this machine.
    """
    known = numbers(machine)
    rows: list[_Row] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, ARCHITECTURES[machine][0]),
        _refuse(),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for name, checks in (
        ("fcntl", _none_of(1, _FCNTL_REFUSED)),
        ("ioctl", _one_of(1, _IOCTL_ALLOWED)),
        ("prlimit64", _is_null(2)),
        ("open", _no_truncating(1)),
        ("openat", _no_truncating(2)),
    ):
        if name in known:
            rows += [(_EQUAL, 0, len(checks), known.pop(name)), *checks]
    for number in sorted(known.values()):
        rows += [(_EQUAL, 0, 1, number), _allow()]
    rows.append(_refuse())
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def _allow() -> _Row:
    return (_RETURN, 0, 0, _ALLOW)


def _refuse() -> _Row:
    return (_RETURN, 0, 0, _ERRNO | errno.EPERM)


def _argument(place: int, high: bool = False) -> _Row:
    return (_LOAD, 0, 0, 16 + 8 * place + (4 if high else 0))  # both architectures are little-endian


def _none_of(place: int, values: Iterable[int]) -> list[_Row]:
    rows = [_argument(place)]
    for value in values:
        rows += [(_EQUAL, 0, 1, value), _refuse()]
    return [*rows, _allow()]


def _one_of(place: int, values: Iterable[int]) -> list[_Row]:
    rows = [_argument(place)]
    for value in values:
        rows += [(_EQUAL, 0, 1, value), _allow()]
    return [*rows, _refuse()]


def _is_null(place: int) -> list[_Row]:
    return [
        _argument(place),
        (_EQUAL, 1, 0, 0),
        _refuse(),
        _argument(place, high=True),
        (_EQUAL, 1, 0, 0),
        _refuse(),
        _allow(),
    ]


def _no_truncating(place: int) -> list[_Row]:
    """Refuse O_TRUNC without writing: old versions of Landlock let it empty files that may only be read."""
    return [_argument(place), (_AND, 0, 0, _O_TRUNC | _O_ACCMODE), (_EQUAL, 0, 1, _O_TRUNC), _refuse(), _allow()]
