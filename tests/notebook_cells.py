"""Run the code cells of a notebook without a kernel, as a program of its own:

    python notebook_cells.py NOTEBOOK

Cells share one namespace. A notebook shows what the last line of a cell evaluates to, so
figures are drawn. Lines that begin with % are for Jupyter.
"""

import ast
import json
import os
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402


def code_cells(path: Path) -> list[str]:
    """The sources of the code cells, without Jupyter's own lines."""
    cells = json.loads(path.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return ["\n".join("" if s.startswith("%") else s for s in own.split("\n")) for own in sources]


def run(source: str, label: str, names: dict) -> None:
    tree = ast.parse(source, label)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, label, "exec"), names)
    if isinstance(last, ast.Expr):
        shown = eval(compile(ast.Expression(last.value), label, "eval"), names)
        if isinstance(shown, Figure):
            shown.savefig(os.devnull, format="png")
    for number in plt.get_fignums():
        plt.figure(number).savefig(os.devnull, format="png")
    plt.close("all")


def main() -> None:
    path = Path(sys.argv[1]).resolve()
    os.chdir(path.parent)
    plt.show = lambda: None  # with this backend it only warns
    names: dict = {"__name__": "__main__"}
    for number, source in enumerate(code_cells(path), 1):
        run(source, f"{path.name}, code cell {number}", names)


if __name__ == "__main__":
    main()
