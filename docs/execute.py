# SPDX-License-Identifier: Apache-2.0
"""Execute a notebook in place: python docs/execute.py notebooks/quick_tour.ipynb."""

import sys
from typing import Any

import nbclient
import nbformat


def tidied(outputs: list[Any]) -> list[Any]:
    """Outputs without warnings, which name folders of a machine; what was printed in one piece."""
    found: list[Any] = []
    for output in outputs:
        if output["output_type"] == "stream" and output["name"] == "stderr":
            continue
        if output["output_type"] == "stream" and found and found[-1]["output_type"] == "stream":
            found[-1]["text"] += output["text"]
        else:
            found.append(output)
    return found


def main(path: str) -> None:
    """Run all cells in the folder of the command; an error in one is an error."""
    book = nbformat.read(path, 4)
    nbclient.NotebookClient(book, resources={"metadata": {"path": "."}}).execute()
    for cell in book.cells:
        cell.get("metadata", {}).pop("execution", None)  # when it ran
        if cell.cell_type == "code":
            cell.outputs = tidied(cell.outputs)
    nbformat.write(book, path)


if __name__ == "__main__":
    main(sys.argv[1])
