"""The notebook in examples/ runs from its first cell to its last."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_from_a_table_to_a_bundle() -> None:
    notebook = nbformat.read(ROOT / "examples" / "own_films.ipynb", as_version=4)
    # Kept without outputs: what a reader sees is what this machine gives.
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    resources = {"metadata": {"path": str(ROOT / "examples")}}
    nbclient.NotebookClient(notebook, timeout=400, resources=resources).execute()
    said = ["".join(o.get("text", "") for o in cell.outputs) for cell in code]
    assert "320 images" in said[3] or "160 images" in said[3], said[3]
    assert "finished" in said[4] and "AUC" in said[4]
    assert "# mine 1.0.0" in said[5]
    assert "'consolidation':" in said[6]
    assert any("image/png" in o.get("data", {}) for o in code[-1].outputs)
