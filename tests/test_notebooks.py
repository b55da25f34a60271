"""Every notebook is kept as it was executed, and runs from top to bottom at a small size."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# So that there are synapses, and cells with several spikes
SCALES = {"structural_plasticity": 0.1, "from_brian2": 0.4}
LONGEST = 25  # lines of a cell
MOST_BYTES = 400_000


def names(notebooks):
    return [path.stem for path in notebooks]


def code(path):
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks_and_readme_lists_them():
    readme = (ROOT / "README.md").read_text()
    assert len(NOTEBOOKS) >= 5
    for path in NOTEBOOKS:
        assert f"(notebooks/{path.name})" in readme, path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_is_executed(path):
    """In one go from top to bottom, without an error or a warning, and with its pictures."""
    cells = code(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [own for own in outputs if own["output_type"] == "error"]
    assert not [own for own in outputs if own.get("name") == "stderr"]
    pictures = [own["data"]["image/png"] for own in outputs if "image/png" in own.get("data", {})]
    assert pictures
    for picture in pictures:
        assert base64.b64decode(picture).startswith(b"\x89PNG") and len(picture) > 4000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_is_fit_to_be_read(path):
    """Short cells, no file too large, and nothing of the machine that it was executed on."""
    text = path.read_text()
    assert len(text.encode()) < MOST_BYTES
    for cell in code(path):
        assert len(cell["source"]) <= LONGEST, "".join(cell["source"][:1])
        assert cell["metadata"] == {}
    notebook = json.loads(text)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert str(ROOT) not in text and "site-packages" not in text and "/home/" not in text
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown" and first["source"][0].startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_links_lead_somewhere(path):
    for cell in json.loads(path.read_text())["cells"]:
        for piece in "".join(cell["source"]).split("](")[1:]:
            target = piece.partition(")")[0]
            assert (path.parent / target).is_file(), target


@pytest.mark.slow_for("fitting", "sweeps", "structural_plasticity", "astrocytes", "gradients")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_runs(path):
    if "\nimport nest\n" in "\n".join("".join(cell["source"]) for cell in code(path)):
        pytest.importorskip("nest")
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning"),
            *(str(ROOT / "tests" / "notebook_cells.py"), str(path)),
        ],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "JSNN_NOTEBOOK_SCALE": str(SCALES.get(path.stem, 0.1)),
            "PJRT_NPROC": "1",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
