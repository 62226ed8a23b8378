"""Files that are whole or not there, and hold plain arrays: what batches, policies and checkpoints go through."""

from __future__ import annotations

import glob
import io
import math
import os
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from reps_opt.tolerances import STALE_FILE

MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError, EOFError, RuntimeError)
"""What comes of reading a file that is not what it says: damaged, hostile, or simply another file."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write, which takes the place of ``path`` when the block ends without an error.

    The bytes go to a temporary file in the same folder, are synced to the disk, and the file is renamed over the old
    one: a process killed at any moment leaves the old file or the new one, never half of one. After an error the old
    file stands and the temporary one is removed, as are those that processes killed earlier have left. The folder is
    synced too where the system allows it, so that the new name survives a power cut.

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
    _remove_stale(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(8)}.part")
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


def _remove_stale(target: Path) -> None:
    """Remove what processes that were killed while they wrote this file have left: theirs, or an hour old."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        writer = part.name.removeprefix(f".{target.name}.").split(".")[0]
        with suppress(OSError):
            old = time.time() - part.stat().st_mtime > STALE_FILE
            if old or (writer.isdigit() and not _is_alive(int(writer))):
                part.unlink()


def _is_alive(process: int) -> bool:
    """Whether a process runs; said of all where asking is not harmless."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the renaming durable; on Windows a folder cannot be opened, and need not be."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file from anybody: nothing in it is executed, and none is larger than the file says.

    Raises
    ------
    ValueError
        If it is no such file, if an array holds Python objects, or if one's shape does not fit the bytes it has.
    """
    try:
        return arrays_in(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is {error}") from None


def arrays_in(content: bytes) -> dict[str, NDArray[Any]]:
    """The same of a file's content."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                _check_size(archive, member)
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # what damage makes zip, zlib, NumPy and the parser of headers raise has no end
        raise ValueError(f"not a file of plain arrays (it is read with allow_pickle=False): {error}") from None


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Compare an array's shape with its bytes before any memory is asked for."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"{member.filename} has format {version}")
        shape, _, dtype = readers[version](stream)
        wanted, held = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
    if not dtype.hasobject and wanted != held:
        raise ValueError(f"{member.filename} has shape {shape}, {wanted} bytes, and holds {held}")
