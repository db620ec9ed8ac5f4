"""The cluster key: 32 random bytes that make a process a member of the cluster.

Whoever can read the key can run code on every node, so the file is made readable by its owner only, and
a file or folder that others could read or replace is refused instead of repaired: a key that was open for
a while may be known to others, and only a person can decide what to do about that.

Public: programs on top of supervisors may import it.
"""

import os
import stat
from pathlib import Path

__all__ = [
    "KEY_FILE",
    "KEY_SIZE",
    "KeyFileError",
    "import_key",
    "inherit_key",
    "load_key",
    "load_or_create_key",
    "own_key",
    "save_key",
]

KEY_FILE = "cluster.key"
KEY_SIZE = 32

# Twice the size of a good file: enough to notice a wrong one without reading all of it.
_READ_LIMIT = KEY_SIZE * 4
_inherited = b""


class KeyFileError(Exception):
    """The key file or its folder cannot be trusted or read; the text says what is wrong and how to fix it."""


def load_or_create_key(data_dir: Path) -> bytes:
    """Return the cluster key of `data_dir`, and make it first if there is none.

    1. The folder is created with mode 0700 if it is missing, and refused if others can enter it.
    2. The key file is read if it exists, and refused if others can read it or somebody else owns it.
    3. Otherwise a new key is written to a private file and linked to its name. Of several processes that
       start at once one wins, and all of them return its key.

    Args:
        data_dir: the node's data folder.

    Returns:
        The key, 32 bytes.

    Raises:
        KeyFileError: the folder or the file is open to others, belongs to somebody else, or has no key in it.
    """
    data_dir = Path(data_dir)
    try:
        # makedirs gives the mode to the last folder only; that one is ours, the ones above may be shared.
        os.makedirs(data_dir, mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise KeyFileError(f"{data_dir} is not a folder: give another data folder") from error
    except OSError as error:
        raise KeyFileError(f"cannot create the data folder {data_dir}: {error.strerror}") from error
    key = load_key(data_dir)
    if key is None:
        save_key(data_dir, os.urandom(KEY_SIZE))
        key = load_key(data_dir)
    if key is None:
        raise KeyFileError(f"{data_dir / KEY_FILE} disappeared while it was being read: start again")
    return key


def inherit_key(key: bytes) -> None:
    """Keep the key of this process's node for it and all that are forked of it: the file may go, and this stays."""
    global _inherited  # noqa: PLW0603 - of the process, as its address is
    _inherited = key


def own_key(data_dir: Path) -> bytes:
    """Return the key of this process's node. It is never made here, for a new one would shut out everybody else.

    Raises:
        KeyFileError: it was not inherited, and `data_dir` has none that can be used.
    """
    key = _inherited or load_key(data_dir)
    if key is None:
        raise KeyFileError(f"{data_dir} has no {KEY_FILE}: copy the key of the node that runs there")
    return key


def load_key(data_dir: Path) -> bytes | None:
    """Return the cluster key of `data_dir`; None: there is none, and none is made.

    Raises:
        KeyFileError, FileNotFoundError: as for `load_or_create_key`; there is no such folder.
    """
    _refuse_if_open(os.stat(data_dir), data_dir, "700")
    return _read(data_dir / KEY_FILE)


def _read(path: Path) -> bytes | None:
    try:
        # O_NOFOLLOW: a symbolic link could lead to a file somebody else controls.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(
            f"cannot open {path}: {error.strerror}; expected a plain file: mv {path} {path}.old"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        # The opened file is checked, not the name: the name could be changed between the two.
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path} is not a plain file: mv {path} {path}.old, start again")
        _refuse_if_open(status, path, "600")
        text = file.read(_READ_LIMIT)
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        raise KeyFileError(
            f"{path} has no key in it (expected {2 * KEY_SIZE} hex digits): copy the file of another node, "
            f"or rm {path} for a new cluster"
        )
    return key


def import_key(data_dir: Path, text: str, source: str) -> bool:
    """Take the key of another node for a data folder, which is made; return whether it had none.

    Args:
        data_dir: the data folder.
        text: the key as its file has it: 64 hex digits.
        source: where it comes from, for a message.

    Raises:
        KeyFileError: it is no key, the folder has another one, or cannot be used.
    """
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        raise KeyFileError(f"{source} has no key in it: expected {2 * KEY_SIZE} hex digits, as cluster.key has them")
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyFileError(f"cannot create the data folder {data_dir}: {error.strerror}") from None
    before = load_key(data_dir)
    if before is None:
        save_key(data_dir, key)
        before = load_key(data_dir)
        if before == key:
            return True
    if before != key:
        raise KeyFileError(
            f"{data_dir / KEY_FILE} is another key: stop the node there, remove that file, and import again"
        )
    return False


def save_key(data_dir: Path, key: bytes) -> None:
    """Write the key of a data folder that has none; one that is there stays.

    Raises:
        KeyFileError: it cannot be written.
    """
    path = data_dir / KEY_FILE
    draft = path.with_name(f".{KEY_FILE}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(key.hex().encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            # link fails if the name is taken: nobody ever sees half a key, and nobody's key is replaced.
            os.link(draft, path)
        finally:
            os.unlink(draft)
    except FileExistsError:
        return
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from error
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refuse_if_open(status: os.stat_result, path: Path, wanted: str) -> None:
    if status.st_uid != os.geteuid():
        raise KeyFileError(
            f"{path} belongs to user {status.st_uid}, expected {os.geteuid()}: "
            f"chown {os.geteuid()} {path}, or start as its owner"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFileError(f"{path} is open to others (mode {mode:04o}): chmod {wanted} {path}")
