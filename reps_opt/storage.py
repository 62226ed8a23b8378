"""Files that are whole or not there: what batches, policies and checkpoints are written through."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write, which takes the place of ``path`` when the block ends without an error.

    The bytes go to a temporary file in the same folder, are synced to the disk, and the file is renamed over the old
    one: a process killed at any moment leaves the old file or the new one, never half of one. After an error the old
    file stands and the temporary one is removed. The folder is synced too where the system allows it, so that the
    new name survives a power cut.

    Parameters
    ----------
    path
        Destination, written as named; its folder must exist. A link is followed, an old file's permissions are kept.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder) / "note.txt") as file:
    ...         _ = file.write(b"kept")
    ...     print((Path(folder) / "note.txt").read_bytes(), os.listdir(folder))
    b'kept' ['note.txt']
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renaming durable; on Windows a folder cannot be opened, and need not be."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
