"""Runs the notebooks and compares what they print with what they are committed with.

    python3 Notebooks/run.py [FILE...]             compare; exit status 1 and the first difference of each
    python3 Notebooks/run.py --write [FILE...]     write the new outputs into the notebooks
    python3 Notebooks/run.py --form [FILE...]      run nothing; see that files are as --write leaves them

Without a name all notebooks of this folder are run, each in a fresh kernel of the Python that runs this. What
`compare.py` lets pass is said there. --write leaves as little as possible in a file, so that two versions can be
read side by side: no widths, no times, no versions of Python, no identifiers of cells.
"""

import argparse
import json
import os
import pathlib
import re
import sys
import tempfile
import time

import compare

FOLDER = pathlib.Path(__file__).resolve().parent
LIMIT = 300  # seconds for one cell
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path):
    """The notebook with the outputs of a run; a cell that fails is its last one with outputs."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        notebook, timeout=LIMIT, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}})
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError:
        pass  # the failure is in the cell's outputs, where compare.py finds it
    except nbclient.exceptions.CellTimeoutError:
        sys.exit(f"{path.name}: a cell ran longer than {LIMIT} seconds")
    return plain(notebook)


def plain(notebook):
    """A notebook without what changes from run to run or from machine to machine."""
    cells, count = [], 0
    for cell in notebook["cells"]:
        kept = {"cell_type": cell["cell_type"], "metadata": {}, "source": lines("".join(cell["source"]))}
        if cell["cell_type"] == "code":
            count += 1
            kept.update(execution_count=count, outputs=outputs(cell["outputs"], count))
        cells.append(kept)
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 4}


def outputs(all_of_a_cell, count):
    """Streams joined, figures as PNG alone, the rest as text."""
    kept = []
    for output in all_of_a_cell:
        kind = output["output_type"]
        if kind == "stream":
            text = "".join(output["text"])
            if kept and kept[-1].get("name") == output["name"]:
                text = "".join(kept.pop()["text"]) + text
            kept.append({"name": output["name"], "output_type": kind, "text": lines(text)})
        elif kind == "error":
            kept.append({name: output[name] for name in ("ename", "evalue", "output_type", "traceback")})
        else:
            data = output["data"]
            data = ({"image/png": "".join(data["image/png"]).strip() + "\n"} if "image/png" in data else
                    {"text/plain": lines("".join(data["text/plain"]))})
            kept.append({"data": data, "metadata": {}, "output_type": kind})
            if kind == "execute_result":
                kept[-1]["execution_count"] = count
    return kept


def lines(text):
    return text.splitlines(keepends=True)


def written(notebook):
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def form(text):
    """What is wrong with a notebook as a file, or None."""
    notebook = json.loads(text)
    if written(plain(notebook)) != text:
        return "is not as run.py --write leaves it"
    if not any(cell.get("outputs") for cell in notebook["cells"]):
        return "has no outputs: run.py --write"
    for number, cell in enumerate(notebook["cells"], 1):
        shown = "".join(cell["source"]) + "".join(map(compare.text_of, cell.get("outputs", [])))
        path = re.search(r"(?<![\w.:/])/(home|root|tmp|Users|usr|work|build|opt|private)/\S*", shown)
        if path:
            return f"cell {number} names a path of some machine: {path.group()}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", metavar="FILE", type=pathlib.Path)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--write", action="store_true", help="write the new outputs into the notebooks")
    choice.add_argument("--form", action="store_true", help="run nothing, look at the files alone")
    arguments = parser.parse_args()
    paths = arguments.notebooks or sorted(FOLDER.glob("*.ipynb"))
    if not paths:
        sys.exit("no notebooks")

    failures = 0
    for path in paths:
        text, start = path.read_text(encoding="utf-8"), time.monotonic()
        problem, note = None, ""
        if not arguments.write:
            problem = form(text)
        if not arguments.form and not problem:
            now = executed(path)
            note = f" ({time.monotonic() - start:.1f} s)"
            # What a run compares itself with; when writing, itself: failures and standard error still count.
            problem = compare.difference(now if arguments.write else plain(json.loads(text)), now)
            if arguments.write and not problem:
                path.write_text(written(now), encoding="utf-8")
        print(f"{'FAILED' if problem else 'ok':7} {path.name}{note}" + (f": {problem}" if problem else ""), flush=True)
        failures += bool(problem)
    return 1 if failures else 0


if __name__ == "__main__":
    # Neither a person's settings of IPython nor other folders on the path have a say in what comes out.
    with tempfile.TemporaryDirectory() as settings:
        os.environ["IPYTHONDIR"] = settings
        os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else the kernel warns of a debugger that nobody uses
        sys.exit(main())
