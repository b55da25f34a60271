"""Execute notebooks anew, in place, with all that differs from machine to machine left out.

    pip install -e ".[notebooks]"
    python notebooks/execute.py                  # all of them
    python notebooks/execute.py first_network    # one

Each runs in a kernel of its own, in this folder. What a cell prints, shows and draws is kept; what
it writes on the error stream fails, as a warning would stay in the tutorial for good.
"""

import base64
import io
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def execute(path: Path) -> None:
    """Run all cells of a notebook and write it with what they gave."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, kernel_name="python3", timeout=600, record_timing=False)
    client.execute(cwd=str(FOLDER))
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [tidy(path.name, output) for output in joined(cell.outputs)]
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def joined(outputs: list[Any]) -> list[Any]:
    """The outputs of a cell, with what it printed in one piece: how it was cut is chance."""
    found: list[Any] = []
    for output in outputs:
        last = found[-1] if found else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            found.append(output)
    return found


def tidy(name: str, output: Any) -> Any:
    """An output without what says nothing to a reader; raises for a warning."""
    if output.get("name") == "stderr":
        raise RuntimeError(f"{name}: a cell warns:\n{output.text}")
    if output.output_type in ("display_data", "execute_result"):
        output.metadata = {}
        if "image/png" in output.data:  # beside the picture, the name of its object
            output.data = {"image/png": smaller(output.data["image/png"])}
    return output


def smaller(picture: str) -> str:
    """A PNG (base64) in 128 colours: a third of the bytes, and no difference that can be seen."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    made = io.BytesIO()
    image.quantize(128, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return base64.b64encode(made.getvalue()).decode()


def main(names: list[str]) -> None:
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    unknown = [name for name in names if Path(name).stem not in known]
    if unknown:
        sys.exit(f"there is no notebook {unknown}; give some of {list(known)}")
    os.environ.pop("JSNN_NOTEBOOK_SCALE", None)  # they are kept at full size
    os.environ.setdefault("TQDM_DISABLE", "1")
    for name in names or known:
        path = known[Path(name).stem]
        execute(path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
