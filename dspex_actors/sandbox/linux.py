"""What of Linux Python has no function for, by libc. Each raises OSError as the functions of `os` do."""

from __future__ import annotations

import ctypes
import os
import struct

_NEW_USER, _NEW_MOUNTS, _NEW_IPC, _NEW_UTS, _NEW_NET = 0x10000000, 0x20000, 0x08000000, 0x04000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MS_NOSUID, _MS_NODEV = 0x2, 0x4
_MNT_DETACH = 0x2
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 0x1, 0x2, 0x4
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_PDEATHSIG, _DUMPABLE, _SECCOMP, _NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_FILTER = 2
#: Numbers that are the same on all of Linux.
_MOUNT_SETATTR, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 442, 444, 445, 446
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "arm64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(number: int, what: str, *args: object) -> int:
    found: int = _libc.syscall(ctypes.c_long(number), *args)
    return _checked(found, what)


def unshare() -> None:
    """Leave the namespaces of users, mounts, networks, host names and IPC for new ones."""
    _checked(_libc.unshare(_NEW_USER | _NEW_MOUNTS | _NEW_NET | _NEW_IPC | _NEW_UTS), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount."""
    told = [None if each is None else each.encode() for each in (source, target, kind)]
    _checked(_libc.mount(*told, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def keep_mounts_apart() -> None:
    """Have nothing that is mounted from now on be seen elsewhere."""
    mount("none", "/", None, _MS_REC | _MS_PRIVATE)


def bind(source: str, target: str) -> None:
    """Show a file or folder, and what is mounted in it, at another place."""
    mount(source, target, None, _MS_BIND | _MS_REC)


def tmpfs(target: str, size: int, files: int) -> None:
    """Mount an empty file system in memory."""
    mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={size},nr_inodes={files},mode=0700")


def only_readable(target: str, recursive: bool, devices: bool = False) -> None:
    """Make a mount one that nobody can write to."""
    attributes = _ATTR_RDONLY | _ATTR_NOSUID | (0 if devices else _ATTR_NODEV)
    told = struct.pack("=QQQQ", attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    _syscall(
        _MOUNT_SETATTR, f"mount_setattr {target}", ctypes.c_int(_AT_FDCWD), target.encode(), ctypes.c_uint(flags),
        told, ctypes.c_size_t(len(told)),
    )  # fmt: skip


def change_root(folder: str) -> None:
    """Make a mounted folder the root, and let go of the old one.

    Raises:
        OSError: the kernel refuses, or nobody has listed this machine.
    """
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"no number of pivot_root is known for {os.uname().machine}")
    os.chdir(folder)
    _syscall(number, "pivot_root", b".", b".")
    _checked(_libc.umount2(b".", _MNT_DETACH), "umount the old root")
    os.chdir("/")


def landlock_version() -> int:
    """Return Landlock's version; 0: this kernel has none, or has it switched off."""
    return max(0, int(_libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def landlock(handled: bytes, rules: list[tuple[int, str]]) -> None:
    """Refuse what is handled everywhere but where a rule allows it.

    Args:
        handled: struct landlock_ruleset_attr.
        rules: what is allowed, and the path beneath which.
    """
    ruleset = _syscall(
        _LANDLOCK_CREATE, "landlock_create_ruleset", handled, ctypes.c_size_t(len(handled)), ctypes.c_uint(0)
    )
    try:
        for allowed, path in rules:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", allowed, place)
                _syscall(
                    _LANDLOCK_ADD, f"landlock_add_rule {path}", ctypes.c_int(ruleset), ctypes.c_int(1), rule,
                    ctypes.c_uint(0),
                )  # fmt: skip
            finally:
                os.close(place)
        _syscall(_LANDLOCK_RESTRICT, "landlock_restrict_self", ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def _prctl(option: int, value: object, what: str) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), value, zero, zero, zero), f"prctl {what}")


def no_new_privileges() -> None:
    """Have no program that is started from here gain rights."""
    _prctl(_NO_NEW_PRIVS, ctypes.c_ulong(1), "no_new_privs")


def not_dumpable() -> None:
    """Let no other process of the user look into this one."""
    _prctl(_DUMPABLE, ctypes.c_ulong(0), "dumpable")


def die_with_parent(signal: int) -> None:
    """Get a signal when the thread that has started this process ends, however it ends."""
    _prctl(_PDEATHSIG, ctypes.c_ulong(signal), "pdeathsig")


def drop_capabilities() -> None:
    """Give up what a root has beyond others."""
    header, nothing = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _checked(_libc.capset(header, nothing), "capset")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("rows", ctypes.c_char_p))


def seccomp(program: bytes) -> None:
    """Put a filter of system calls in force, for good."""
    told = _Program(len(program) // 8, program)
    zero = ctypes.c_ulong(0)
    _checked(
        _libc.prctl(ctypes.c_int(_SECCOMP), ctypes.c_ulong(_SECCOMP_FILTER), ctypes.byref(told), zero, zero), "seccomp"
    )
