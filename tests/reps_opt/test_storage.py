"""A file is the old one or the new one, whatever happens while it is written."""

import os
import signal
import subprocess
import sys
import time

import pytest

from reps_opt.storage import atomic_write
from reps_opt.tolerances import STALE_FILE


def write(path, data):
    with atomic_write(path) as file:
        file.write(data)


def test_the_last_write_is_what_is_read_and_nothing_else_is_left(tmp_path):
    for data in (b"first", b"second"):
        write(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_leaves_the_old_file_alone(tmp_path):
    write(tmp_path / "file", b"old")
    with pytest.raises(TypeError):
        write(tmp_path / "file", "no bytes")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "missing" / "file", b"")


@pytest.mark.skipif(os.name != "posix", reason="signals, links and modes as POSIX has them")
def test_a_killed_process_leaves_the_old_file(tmp_path):
    write(tmp_path / "file", b"old")
    script = (
        "import os, signal, sys\n"
        "from reps_opt.storage import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half' * 100000)\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"old"
    write(tmp_path / "file", b"new")  # what the dead one left is not in the way
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="signals, links and modes as POSIX has them")
def test_permissions_are_a_plain_files_and_links_are_followed(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write(tmp_path / "file", b"1")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link", b"2")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"2"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_what_another_machine_left_goes_after_an_hour(tmp_path):
    """Whether its process still runs cannot be asked here: its age has to tell."""
    for name, age in (("recent", 0.7 * STALE_FILE), ("old", 1.5 * STALE_FILE)):
        part = tmp_path / f".file.{name}.part"
        part.write_bytes(b"")
        os.utime(part, times=(time.time() - age,) * 2)
    write(tmp_path / "file", b"new")
    assert sorted(os.listdir(tmp_path)) == [".file.recent.part", "file"]
