"""Plants faults into the outputs of the committed notebooks and sees that compare.py and run.py find each.

    python3 Notebooks/check_compare.py

No notebook is run. Exit status 1 if a fault passes, or if something harmless does not.
"""

import base64
import copy
import io
import json
import pathlib
import sys

import matplotlib.image
import numpy as np

import compare
import run

FOLDER = pathlib.Path(__file__).resolve().parent


def printing(text):
    """A notebook of one cell that printed `text`."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": [text]}]
    return {"cells": [{"cell_type": "code", "source": ["print()"], "metadata": {}, "outputs": outputs}]}


def texts():
    """Pairs of lines, and whether they pass."""
    yield "recall 0.62", "recall 0.63", True  # one in the last place
    yield "recall 0.62", "recall 0.64", False
    yield "recall 0.62", "recall 0.620", False
    yield "recall 0.62", "recall -0.62", False
    yield "13 misses", "13 misses", True
    yield "13 misses", "14 misses", False
    yield "13 misses", "13.0 misses", False
    yield "63%", "64%", False
    yield "3,840 rows", "3,841 rows", False
    yield "largest difference 3e-07, allowed 4e-05", "largest difference 2e-06, allowed 4e-05", True
    yield "largest difference 3e-07, allowed 4e-05", "largest difference 4e-05, allowed 4e-05", False
    yield "largest difference 3e-07", "largest difference 0e+00", True
    yield "largest |k_hat| 7e+07", "largest |k_hat| 7e+06", False
    yield "expected -0.072592044", "expected -0.072592051", True  # float32 has no more digits
    yield "expected -0.072592044", "expected -0.072594044", False
    yield "A_K: equal", "A_K: not equal", False
    yield "A_K: equal", "A_K: equal\nB_K: equal", False
    yield "step 1 of B2", "step 1 of B3", False
    yield "recall 0.62", "recall nan", False


def faults(notebook):
    """Copies of a notebook, each with one fault, and what it is."""
    figure = text = None
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        for place, output in enumerate(cell["outputs"]):
            if "data" in output and figure is None:
                figure = number, place
            if output["output_type"] == "stream" and text is None:
                text = number, place

    def changed(what, change, place):
        fault = copy.deepcopy(notebook)
        change(fault["cells"][place[0]], place[1])
        return what, fault

    yield changed("a text is missing", lambda cell, n: cell["outputs"].pop(n), text)
    yield changed("a line more", lambda cell, n: cell["outputs"][n]["text"].append("one more\n"), text)
    yield changed("standard error", lambda cell, n: cell["outputs"].append(
        {"output_type": "stream", "name": "stderr", "text": ["a warning\n"]}), text)
    yield changed("a cell failed", lambda cell, n: cell["outputs"].append(
        {"output_type": "error", "ename": "AssertionError", "evalue": "x", "traceback": []}), text)
    yield changed("another source", lambda cell, n: cell["source"].append("\npass"), text)
    yield "a cell is missing", {**notebook, "cells": notebook["cells"][:-1]}
    yield changed("a figure is missing", lambda cell, n: cell["outputs"].pop(n), figure)
    yield changed("a figure twice", lambda cell, n: cell["outputs"].append(cell["outputs"][n]), figure)

    def empty(cell, n):
        data = cell["outputs"][n]["data"]
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data["image/png"])), format="png")
        file = io.BytesIO()
        matplotlib.image.imsave(file, np.ones_like(pixels), format="png")
        data["image/png"] = base64.b64encode(file.getvalue()).decode()

    yield changed("an empty figure", empty, figure)


def main():
    failures, count = [], 0
    for old, new, passes in texts():
        count += 1
        if (compare.difference(printing(old), printing(new)) is None) != passes:
            failures.append(f"{old!r} and {new!r}: expected to {'pass' if passes else 'be found'}")
    for path in sorted(FOLDER.glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        if compare.difference(notebook, notebook) is not None:
            failures.append(f"{path.name}: differs from itself")
        for what, fault in faults(notebook):
            count += 1
            if compare.difference(notebook, fault) is None:
                failures.append(f"{path.name}: {what}: not found")
        # Faults of form: what Jupyter leaves in a file, and a path of some machine.
        for what, fault in [("an identifier", text.replace('"metadata": {},\n', '"metadata": {},\n   "id": "a1",\n', 1)),
                            ("a path", text.replace('"# ', '"/home/someone/x # ', 1))]:
            count += 1
            if fault == text or run.form(fault) is None:
                failures.append(f"{path.name}: {what} in the file: not found")
    for line in failures:
        print(f"FAILED  {line}")
    print(f"{count} comparisons, {len(failures)} not as expected")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
