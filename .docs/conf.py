"""Sphinx's settings: ``sphinx-build -W .docs site``. Neither building nor reading needs the network."""

from __future__ import annotations

import ast
import os
import re
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
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False

# Inventories of other projects come over the network, and a failed download is a warning, which -W makes an error: they
# are asked for by name only.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
    }
    if os.environ.get("REPS_OPT_DOCS_ONLINE")
    else {}
)

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


def public_names(package: str) -> list[str]:
    """Names that a package's typed stub exports: the same list that editors complete from."""
    stub = ROOT / package.replace(".", "/") / "__init__.pyi"
    imports = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return sorted({alias.asname or alias.name for node in imports for alias in node.names})


def api_page() -> str:
    """One table of names a package, each with a page of its own."""
    parts = ["API", "===", ""]
    shown: set[str] = set()
    for package in PACKAGES:
        names = [name for name in public_names(package) if name not in shown]
        shown.update(names)
        parts += [package, "-" * len(package), "", f".. currentmodule:: {package}", ""]
        parts += [".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
        parts += [f"   {name}" for name in names] + [""]
    return "\n".join(parts)


def examples_page() -> str:
    """Every example with its source, and its figure where one is kept; they are run by the tests, not by the site."""
    parts = ["# Examples", ""]
    scripts = sorted((ROOT / "examples").glob("*.py"))
    shared = ", ".join(f"`{path.stem}`" for path in scripts if "typer.run(main)" not in path.read_text("utf-8"))
    parts += [f"Each runs as `python examples/NAME.py`, but for what several share ({shared});"]
    parts += ["most take `--plot FILE`.", ""]
    for script in scripts:
        text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
        parts += [f"## {script.stem}", "", "```text", text, "```", ""]
        figure = FIGURES.get(script.stem, script.stem)
        if (ROOT / ".figures" / f"{figure}.png").exists():
            parts += [f"![{script.stem}](../.figures/{figure}.png)", ""]
        parts += [f"```{{literalinclude}} ../examples/{script.name}", ":language: python", "```", ""]
    return "\n".join(parts)


def write(name: str, text: str) -> None:
    """Write a generated page where its text has changed, so that a second build has nothing to do."""
    path = HERE / name
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


write("api.rst", api_page())
known = {f"{package}.{name}" for package in PACKAGES for name in public_names(package)}
for stale in (page for page in (HERE / "generated").glob("*.rst") if page.stem not in known):
    stale.unlink()  # of a name that is gone: Sphinx would warn of a page that nothing links
write("examples.md", examples_page())


def without_marks(app: object, name: str, source: list[str]) -> None:
    """Let Pygments colour blocks whose fence has a mark for the tests behind the language."""
    source[0] = re.sub(r"^```bash command$", "```bash", source[0], flags=re.MULTILINE)


def skip(app: object, what: str, name: str, obj: object, skipped: bool, options: object) -> bool | None:
    """Leave out what scikit-learn makes for its metadata routing: its text refers to scikit-learn's own glossary."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app: object) -> None:
    app.connect("source-read", without_marks)  # type: ignore[attr-defined]
    app.connect("autodoc-skip-member", skip)  # type: ignore[attr-defined]
