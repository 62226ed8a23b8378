"""Sphinx's settings: ``sphinx-build -W .docs site``. Neither building nor reading needs the network.

The gallery is made here and not by sphinx-gallery, which either runs an example for its figure (hours, for those that
learn) or shows none: the tests run the examples on shrunk budgets, and the figures are those kept in ``.figures``.
"""

from __future__ import annotations

import ast
import html
import re
import zlib
from pathlib import Path

import reps_opt

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / ".docs"

project = "reps_opt"
author = "The reps_opt developers"
release = version = reps_opt.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "pydata_sphinx_theme"
html_title = "reps_opt"
html_theme_options = {"show_prev_next": False}
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]
autosummary_generate = True
autosummary_context = {
    "with_inherited": ("MDP", "Solution", "Run", "REPS", "LinearProgram", "ExactTRPO", "TrustRegionStep", "Gradient")
}
autodoc_typehints = "none"
numpydoc_show_class_members = False

OTHERS = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "sklearn": "https://scikit-learn.org/stable/",
    "pandas": "https://pandas.pydata.org/docs/",
    "xarray": "https://docs.xarray.dev/en/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
    "cvxpy": "https://www.cvxpy.org/",
    "gymnasium": "https://gymnasium.farama.org/",
}
"""Other projects whose names the pages refer to, by the addresses of their sites."""


def inventories() -> dict[str, tuple[str, str]]:
    """Inventories for intersphinx, written from ``others.txt``: no network is needed, and links lead to the sites."""
    lines = (HERE / "others.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    (HERE / "generated").mkdir(exist_ok=True)
    for project in OTHERS:
        names = "".join(f"{name} {role} 1 {to} -\n" for of, name, role, to in rows if of == project)
        head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n# The rest is compressed by zlib.\n"
        (HERE / "generated" / f"{project}.inv").write_bytes(head.encode() + zlib.compress(names.encode()))
    return {project: (address, f"generated/{project}.inv") for project, address in OTHERS.items()}


intersphinx_mapping = inventories()
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {name: name for name in ("float", "int", "bool", "str", "list", "dict", "tuple", "None")} | {
    "Generator": "numpy.random.Generator",
    "cvxpy.Problem": "cvxpy.Problem",
    "pandas.DataFrame": "pandas.DataFrame",
    "Solution": "reps_opt.Solution",
    "MDP": "reps_opt.MDP",
    "Batch": "reps_opt.Batch",
}

FIGURES = {
    "adversarial_mdp": "regret",
    "constrained_mdp": "constrained",
    "episodic_reps": "episodic",
    "fit_gp_controller": "gp_controller",
    "inspect_duals": "duals",
    "samples_to_weights": "samples",
    "solve_frozenlake": "frozenlake",
    "swing_up_gp": "swing_up",
}
"""Figures that are kept under another name than their example's."""

PACKAGES = ("reps_opt", "reps_opt.divergences", "reps_opt.solvers", "policies", "envs")


VIEWS = {
    "occupancy_solution": ["OccupancySolution"],
    "horizon": ["FiniteHorizonSolution"],
    "policy_steps": ["SurrogateSolution"],
    "policy_solution": ["PolicySolution", "GradientSolution"],
    "sample_solution": ["SampleSolution"],
    "step_solution": ["StepSolution"],
    "online": ["OnlineRun"],
}
"""Classes that ``solve`` returns, by module of ``reps_opt.problems``: what a solution can be asked."""


def public_names(package: str) -> list[str]:
    """Names that a package's typed stub exports: the same list that editors complete from."""
    stub = ROOT / package.replace(".", "/") / "__init__.pyi"
    imports = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return sorted({alias.asname or alias.name for node in imports for alias in node.names})


def table(module: str, names: list[str]) -> list[str]:
    """A table of names, each with a page of its own."""
    rows = [f".. currentmodule:: {module}", "", ".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
    return [*rows, *(f"   {name}" for name in names), ""]


def api_page() -> str:
    """Every public name, package by package, and what solutions are."""
    parts = ["API", "===", ""]
    shown: set[str] = set()
    for package in PACKAGES:
        names = [name for name in public_names(package) if name not in shown]
        shown.update(names)
        parts += [package, "-" * len(package), "", *table(package, names)]
        if package == "reps_opt":
            parts += ["Solutions", "---------", "", "What ``solve`` returns, by the kind of problem.", ""]
            for module, views in VIEWS.items():
                parts += table(f"reps_opt.problems.{module}", views)
            parts += table("reps_opt.sensitivity", ["Sensitivity"])
    return "\n".join(parts)


def figure_of(example: str) -> str:
    """Path of an example's kept figure from the page of the gallery, empty where none is kept."""
    name = f"{FIGURES.get(example, example)}.png"
    return f"../.figures/{name}" if (ROOT / ".figures" / name).exists() else ""


def example_page(script: Path) -> str:
    """An example: what it says of itself, its figure, its source. It is run by the tests, not by the site."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    parts = [f"# {script.stem}", ""]
    for paragraph in text.split("\n\n"):
        runs = paragraph.startswith("python examples/")
        parts += ["```bash", paragraph, "```", ""] if runs else [paragraph.replace("``", "`"), ""]
    if figure := figure_of(script.stem):
        parts += [f"![{script.stem}](../{figure})", ""]
    return "\n".join([*parts, f"```{{literalinclude}} ../../examples/{script.name}", ":language: python", "```", ""])


def gallery_page(scripts: list[Path]) -> str:
    """A picture and a first sentence for each example."""
    cards, shared = [], []
    for script in scripts:
        first = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        if not re.search(r"^if __name__", script.read_text(encoding="utf-8"), flags=re.MULTILINE):
            shared.append(script.stem)
            continue
        picture = f'<img src="_images/{Path(figure_of(script.stem)).name}" alt="">' if figure_of(script.stem) else ""
        link = f"gallery/{script.stem}.html"
        cards.append(f'<a href="{link}">{picture}{script.stem}<small>{html.escape(first)}</small></a>')
    parts = ["# Examples", "", "Each runs as `python examples/NAME.py`; most take `--plot FILE`.", ""]
    parts += ["```{raw} html", '<div class="gallery">', *cards, "</div>", "```", ""]
    parts += [f"What several share: {', '.join(f'[{name}](gallery/{name}.md)' for name in shared)}.", ""]
    return "\n".join([*parts, "```{toctree}", ":hidden:", ":glob:", "", "gallery/*", "```", ""])


def write(name: str, text: str) -> None:
    """Write a generated page where its text has changed, so that a second build has nothing to do."""
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


write("api.rst", api_page())
known = {f"{package}.{name}" for package in PACKAGES for name in public_names(package)}
known |= {f"reps_opt.problems.{module}.{name}" for module, names in VIEWS.items() for name in names}
known.add("reps_opt.sensitivity.Sensitivity")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
for script in EXAMPLES:
    write(f"gallery/{script.stem}.md", example_page(script))
write("examples.md", gallery_page(EXAMPLES))
stale = [page for page in (HERE / "generated").glob("*.rst") if page.stem not in known]
stale += [page for page in (HERE / "gallery").glob("*.md") if page.stem not in {script.stem for script in EXAMPLES}]
for page in stale:
    page.unlink()  # of a name that is gone: Sphinx would warn of a page that nothing links


def without_marks(app: object, name: str, source: list[str]) -> None:
    """Let Pygments colour blocks whose fence has a mark for the tests behind the language."""
    source[0] = re.sub(r"^```bash command$", "```bash", source[0], flags=re.MULTILINE)


def skip(app: object, what: str, name: str, obj: object, skipped: bool, options: object) -> bool | None:
    """Leave out what scikit-learn makes for its metadata routing: its text refers to scikit-learn's own glossary."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app: object) -> None:
    app.connect("source-read", without_marks)  # type: ignore[attr-defined]
    app.connect("autodoc-skip-member", skip)  # type: ignore[attr-defined]
