"""What every result can do: print a summary, render in a notebook, become a table, be saved, be drawn."""

from __future__ import annotations

import base64
import html
import io
import os
import zlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reps_opt import plotting
from reps_opt.plotting import Panel
from reps_opt.storage import atomic_write, read_arrays

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas
    import xarray

Arrays = Mapping[str, tuple[Sequence[str], Any]]
"""Arrays by name, each with the names of its dimensions."""


class Result:
    """Base class of results: a subclass says its ``title``, ``rows``, ``numbers`` and ``arrays`` once.

    Its figure is made of the primitives of :mod:`reps_opt.plotting`: ``panels`` says of which.

    Examples
    --------
    >>> from reps_opt import EpisodicREPS, solve
    >>> solution = solve(EpisodicREPS([0.0, 1.0, 2.0], epsilon=0.1))
    >>> table = solution.to_frame()
    >>> list(table.columns), table["weights"].round(3).tolist()
    (['weights', 'reward'], [0.17, 0.3, 0.53])
    >>> data = solution.to_xarray()
    >>> data.attrs["status"], round(data.attrs["kl"], 9)
    ('certified', 0.1)
    """

    __slots__ = ()

    @property
    def title(self) -> str:
        """First line of the summary."""
        return type(self).__name__

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of each line of the summary."""
        return [(name.replace("_", " "), _text(value)) for name, value in self.numbers().items()]

    def numbers(self) -> dict[str, Any]:
        """Numbers and words by name: the attributes of :meth:`to_xarray`."""
        return {}

    def arrays(self) -> Arrays:
        """Arrays by name, each with its dimensions; the one that the result is about comes first."""
        return {}

    def labels(self) -> Mapping[str, Sequence[Hashable]]:
        """Labels along a dimension, by its name: those of the MDP's states and actions, where it has any."""
        mdp = getattr(getattr(self, "problem", None), "mdp", None)
        named = {"state": getattr(mdp, "state_labels", None), "action": getattr(mdp, "action_labels", None)}
        return {dim: labels for dim, labels in named.items() if labels is not None}

    def __str__(self) -> str:
        rows = self.rows()
        width = max((len(label) for label, _ in rows), default=0)
        return "\n".join([self.title, *(f"  {label:<{width}}  {text}" for label, text in rows)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th><td>{html.escape(text)}</td></tr>"
            for label, text in self.rows()
        )
        return f"<table><caption>{html.escape(self.title)}</caption>{cells}</table>"

    def to_xarray(self) -> xarray.Dataset:
        """The arrays with named dimensions, labelled or counted from zero; the numbers as coordinates and attributes.

        As scalar coordinates, the numbers of a sweep become its axes: :func:`xarray.concat` with ``coords="all"``
        stacks them, and the arrays, along any of them. The attributes of what it makes are those of its first dataset.

        Examples
        --------
        >>> import xarray as xr
        >>> from reps_opt import EpisodicREPS, solve_path
        >>> path = solve_path(EpisodicREPS([0.0, 1.0, 2.0], epsilon=0.1), [0.01, 0.02, 0.05, 0.1, 0.2])
        >>> sweep = xr.concat([solution.to_xarray() for solution in path], dim="epsilon", coords="all")
        >>> sweep.epsilon.values, sweep.weights.dims, sweep.eta.round(2).values
        (array([0.01, 0.02, 0.05, 0.1 , 0.2 ]), ('epsilon', 'sample'), array([5.75, 4.05, 2.53, 1.76, 1.19]))
        """
        import xarray

        arrays = {name: (tuple(dims), _storable(values)) for name, (dims, values) in self.arrays().items()}
        sizes = {dim: size for dims, values in arrays.values() for dim, size in zip(dims, values.shape, strict=True)}
        labels = self.labels()
        numbers = _plain(self.numbers())
        coordinates = {name: number for name, number in numbers.items() if name not in arrays}
        coordinates |= {dim: _coordinate(labels.get(dim), size) for dim, size in sizes.items()}
        return xarray.Dataset(arrays, coordinates, numbers)

    def to_frame(self) -> pandas.DataFrame:
        """A :class:`pandas.DataFrame`, a row an entry of the first array and beside it all that shares its dimensions.

        Arrays along other dimensions are left to :meth:`to_xarray`; a result without arrays is one row of numbers.
        """
        import pandas

        arrays = self.arrays()
        if not arrays:
            return pandas.DataFrame([self.numbers()])
        along = set(next(iter(arrays.values()))[0])
        shown = [name for name, (dims, _) in arrays.items() if set(dims) <= along]
        return self.to_xarray()[shown].reset_coords(drop=True).to_dataframe()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write arrays and numbers to a file, by its ending: ``.nc`` (netCDF), ``.npz`` (NumPy) or ``.csv`` (table).

        A process killed on the way leaves the old file or the new one, never half of one. Read a netCDF file with
        ``xarray.load_dataset``, an npz file with ``numpy.load``: neither executes anything in it. Of a solution either
        holds the problem too, and ``Solution.load`` makes it again.

        Raises
        ------
        ValueError
            For another ending.
        """
        target = Path(path)
        whole = {} if target.suffix == ".csv" else self._whole()
        if target.suffix == ".nc":
            content: Any = self.to_xarray().assign_attrs(_as_text(whole)).to_netcdf(engine="scipy")
        elif target.suffix == ".csv":
            content = self.to_frame().to_csv().encode()
        elif target.suffix != ".npz":
            raise ValueError(f"path must end in .nc, .npz or .csv, got {target.name!r}")
        with atomic_write(target) as file:
            if target.suffix == ".npz":
                arrays = {name: _storable(values) for name, (_, values) in self.arrays().items()}
                stored = {name: np.frombuffer(part, dtype=np.uint8) for name, part in whole.items()}
                np.savez_compressed(file, **{**_plain(self.numbers()), **arrays, **stored})
            else:
                file.write(content)
        return target

    def _whole(self) -> dict[str, bytes]:
        """What makes the result again, beside what a reader sees, by the name that it has in a file."""
        return {}

    def panels(self) -> list[Panel]:
        """What its figure shows, panel by panel; subclasses add theirs before the summary."""
        return [lambda axis: plotting.lines_of_text(axis, self.rows())]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.figure.Figure:
        """Draw what one looks at first: a :class:`matplotlib.figure.Figure`, or the first panel on a given axis."""
        panels = self.panels()
        if ax is None:
            return plotting.figure_of(panels, self.title)
        panels[0](ax)
        figure = ax.get_figure()
        assert figure is not None
        return figure  # type: ignore[return-value]


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _as_text(parts: Mapping[str, bytes]) -> dict[str, str]:
    """Bytes as an attribute of a netCDF file takes them."""
    return {name: base64.b64encode(zlib.compress(part, 1)).decode() for name, part in parts.items()}


def _storable(values: Any) -> NDArray[Any]:
    """An array that files take without pickle: words as fixed-width strings."""
    array = np.asarray(values)
    return array.astype(str) if array.dtype.kind in "OT" else array


def _coordinate(labels: Sequence[Hashable] | None, size: int) -> NDArray[Any]:
    """Labels of one kind as they are, of several kinds as words; places counted from zero where there are none."""
    if labels is None or len(labels) != size:
        return np.arange(size)
    alike = len({type(label) for label in labels}) == 1 and isinstance(labels[0], int | float | str)
    return np.array(list(labels) if alike else [str(label) for label in labels])


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as files take them: truth values as 0 and 1, words as plain strings."""
    return {
        name: int(value) if isinstance(value, bool | np.bool_) else str(value) if isinstance(value, str) else value
        for name, value in numbers.items()
    }


def stored_bytes(path: str | os.PathLike[str], name: str) -> bytes:
    """What :meth:`Result.save` stored beside the readings.

    Raises
    ------
    ValueError
        For another file.
    """
    source = Path(path)
    if source.suffix not in (".nc", ".npz"):
        raise ValueError(f"path must end in .nc or .npz to be loaded, got {source.name!r}")
    if source.suffix == ".npz":
        arrays = read_arrays(source)
        if name not in arrays:
            raise ValueError(f"{source} holds no {name}")
        return arrays[name].tobytes()
    import xarray

    content = source.read_bytes()
    try:
        return zlib.decompress(base64.b64decode(xarray.load_dataset(io.BytesIO(content), engine="scipy").attrs[name]))
    except Exception as error:  # what damage makes the reader of netCDF raise has no end
        raise ValueError(f"{source} holds no {name}: {type(error).__name__}: {error}") from None
