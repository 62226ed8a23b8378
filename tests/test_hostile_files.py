"""Files from a stranger: loading one executes nothing, writes nothing, and says what is wrong with it."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import policies
from policies import LinearGaussianPolicy
from reps_opt import Batch, EpisodicREPSUpdate, ParameterSearch, improve
from reps_opt.storage import read_arrays


def resume(path: Path) -> object:
    """Go on from a checkpoint."""
    task = ParameterSearch(lambda x, contexts, rng: -(x**2).sum(axis=1), 2)
    update = EpisodicREPSUpdate(fit=LinearGaussianPolicy())
    start = LinearGaussianPolicy().fit(np.zeros((5, 1)), np.eye(5, 2))
    return list(improve(task, start, update, 2, n_episodes=20, seed=0, checkpoint=path))


def saved(kind: str, path: Path) -> Path:
    """A good file of a kind."""
    if kind == "batch":
        return Batch([0, 1], [0, 0], [0.0, 1.0], [1, 0]).save(path)
    if kind == "policy":
        LinearGaussianPolicy().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 3.0]).save(path)
    else:
        resume(path)
    return path


LOAD = {"batch": Batch.load, "policy": policies.load, "checkpoint": resume}
HEADERS = {"batch": "header", "policy": "description.json", "checkpoint": "header"}


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def array_bytes(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def pickled(path: Path, kind: str, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(mark)))


def pickled_in_every_array(path: Path, kind: str, mark: Path) -> None:
    evil = array_bytes(np.array([Payload(mark)], dtype=object), allow_pickle=True)
    rewritten(path, dict.fromkeys(members(path), evil))


def pickled_beside_the_arrays(path: Path, kind: str, mark: Path) -> None:
    rewritten(path, {**members(path), "more.pkl": pickle.dumps(Payload(mark))})


def another_shape(path: Path, kind: str, mark: Path) -> None:
    """One array says that it is a thousand times larger than memory."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**14,)})
    content = members(path)
    last = [name for name in content if not name.startswith(HEADERS[kind])][-1]
    rewritten(path, {**content, last: stream.getvalue() + b"\0" * 64})


def long_header(path: Path, kind: str, mark: Path) -> None:
    """An array's header of ten megabytes, to be evaluated as a literal."""
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"1," * 5_000_000 + b"), }\n"
    content = members(path)
    evil = np.lib.format.magic(2, 0) + struct.pack("<I", len(text)) + text
    rewritten(path, dict.fromkeys(content, evil))


def code_in_a_header(path: Path, kind: str, mark: Path) -> None:
    """An array's header that is an expression: it must be read as a literal, not evaluated."""
    text = f"__import__('pathlib').Path({str(mark)!r}).touch()".encode()
    evil = np.lib.format.magic(1, 0) + struct.pack("<H", len(text)) + text
    rewritten(path, dict.fromkeys(members(path), evil))


def no_header(path: Path, kind: str, mark: Path) -> None:
    rewritten(path, {k: v for k, v in members(path).items() if not k.startswith(HEADERS[kind])})


def header_of(tree: object):
    """Replace the JSON header by another."""

    def spoil(path: Path, kind: str, mark: Path) -> None:
        text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
        array = array_bytes(np.frombuffer(text, dtype=np.uint8))
        rewritten(path, {**members(path), f"{HEADERS[kind]}.npy": array})

    return spoil


def truncated(path: Path, kind: str, mark: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path, kind: str, mark: Path) -> None:
    path.write_bytes(b"")


SPOILED = {
    "a pickle": pickled,
    "pickles for arrays": pickled_in_every_array,
    "a pickle beside the arrays": pickled_beside_the_arrays,
    "a huge shape": another_shape,
    "a long header": long_header,
    "code for a header": code_in_a_header,
    "no header": no_header,
    "a list for a header": header_of([1, 2]),
    "a number for a header": header_of(7),
    "a header without a format": header_of({"policy": {}}),
    "a header of other things": header_of({"format": 1, "policy": {"class": "Popen", "state": {"args": "ls"}}}),
    "a header no JSON": header_of(b"\xff{"),
    "a deep header": header_of(b"[" * 200_000),
    "a short file": truncated,
    "nothing": empty,
}


@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("kind", LOAD)
def test_a_hostile_file_is_refused_and_executes_nothing(kind, name, tmp_path):
    path, mark = saved(kind, tmp_path / "file.npz"), tmp_path / "executed"
    SPOILED[name](path, kind, mark)
    with pytest.raises(ValueError, match=r"not a|not one|another run"):
        LOAD[kind](path)
    assert not mark.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["file.npz"]


POLICY_TREES = {
    "off the list": {"class": "Popen", "state": {"args": ["touch", "executed"]}},
    "a dotted name": {"class": "os.system", "state": {}},
    "a path": {"class": "../../policies/linear", "state": {}},
    "a module": {"class": "policies.linear.LinearGaussianPolicy", "state": {}},
    "no name": {"class": None, "state": {}},
    "a name that is a list": {"class": ["LinearGaussianPolicy"], "state": {}},
    "an array that is not there": {"array": "../../../etc/passwd"},
    "a state that is a list": {"class": "LinearGaussianPolicy", "state": ["fit"]},
    "a kernel off the list": {"gpytorch": {"dict": {"dtype": "float64", "structure": {"dict": {"class": "exec"}}}}},
    "nothing known": {"eval": "1 + 1"},
}


@pytest.mark.parametrize("name", POLICY_TREES)
def test_a_policy_names_no_class_of_its_own(name, tmp_path):
    if "gpytorch" in POLICY_TREES[name]:
        pytest.importorskip("gpytorch")
    path = saved("policy", tmp_path / "file.npz")
    header_of({"format": 1, "policy": POLICY_TREES[name]})(path, "policy", tmp_path)
    with pytest.raises(ValueError, match="is not a saved policy"):
        policies.load(path)


def test_names_that_leave_the_folder_write_nothing(tmp_path):
    """An archive's member called ../x is an array's name like any other: nothing is ever extracted."""
    path = saved("batch", tmp_path / "inner" / "file.npz") if (tmp_path / "inner").mkdir() is None else tmp_path
    content = members(path)
    rewritten(
        path, {**content, "../escaped.npy": array_bytes(np.zeros(1)), "/tmp/escaped.npy": array_bytes(np.ones(1))}
    )
    assert len(Batch.load(path)) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["inner"]
    assert [file.name for file in path.parent.iterdir()] == ["file.npz"]


def test_shape_and_bytes_must_agree(tmp_path):
    np.savez(
        tmp_path / "good.npz", a=np.arange(3), b=np.array("word"), c=np.zeros((0, 4)), d=np.ones((2, 2), order="F")
    )
    found = read_arrays(tmp_path / "good.npz")
    assert [found[name].shape for name in "abcd"] == [(3,), (), (0, 4), (2, 2)]
    content = members(tmp_path / "good.npz")
    rewritten(tmp_path / "good.npz", {**content, "a.npy": content["a.npy"] + b"\0"})
    with pytest.raises(ValueError, match=r"a.npy has shape \(3,\), 24 bytes, and holds 25"):
        read_arrays(tmp_path / "good.npz")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "missing.npz")
