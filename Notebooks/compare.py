"""Is what a notebook prints now what its committed outputs say?

    python3 Notebooks/compare.py COMMITTED.ipynb NOW.ipynb

Text must be equal, line by line, but for numbers that are not whole:

    13          whole numbers are compared exactly
    0.62        others may differ by one in the last place that is printed: sums of another BLAS, or of another
                processor, have other last bits, which can carry a printed digit over its edge
    0.0731452   with seven digits or more it is a float32 in full, and may differ by 1e-6 of its size
    3e-07       below 1e-3 and with an exponent it is a rounding error, which the notebook itself holds against
                a derived limit; here it may be ten times larger or smaller, or 0

Of figures a cell must have as many as before. A figure is averaged over a grid of 24 by 16 fields, which may differ by
a fiftieth of the range from white to black in the mean. Matplotlib 3.6 and 3.11 differ by up to 0.008 there; a figure
without its curves differs by 0.03 and more, one with another curve may pass. No cell may fail or write to standard
error. Only NumPy and Matplotlib are needed.
"""

import base64
import io
import json
import re
import sys

import matplotlib.image
import numpy as np

NUMBER = re.compile(r"(?<![A-Za-z_\d.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![A-Za-z_])")
FIELDS = (16, 24)  # rows, columns
FIELD_LIMIT = 0.02


def text_of(output):
    """What a person would read in one output; figures have none."""
    if output["output_type"] == "stream":
        return "".join(output["text"])
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}\n"
    if "image/png" in output["data"]:
        return ""
    return "".join(output["data"].get("text/plain", "")) + "\n"


def figures_of(outputs):
    return [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]


def near(old, new):
    """Whether two printed numbers agree by the rules above."""
    if re.fullmatch(r"[-+]?\d+", old) or re.fullmatch(r"[-+]?\d+", new):
        return old == new
    a, b = float(old), float(new)
    if "e" in old and "e" in new and max(abs(a), abs(b)) < 1e-3:
        return a * b == 0 or (a * b > 0 and max(a / b, b / a) <= 10.5)
    digits, _, exponent = old.partition("e")
    if len(digits.lstrip("-+0.").replace(".", "")) >= 7:
        return abs(a - b) <= 1e-6 * abs(a)
    decimals = len(digits.partition(".")[2])
    same_form = decimals == len(new.partition("e")[0].partition(".")[2])
    return same_form and abs(a - b) <= 1.01 * 10.0 ** (int(exponent or 0) - decimals)


def first_line_apart(old, new):
    """The number and texts of the first line that differs, or None."""
    old, new = old.splitlines(), new.splitlines()
    for n in range(max(len(old), len(new))):
        a, b = (lines[n] if n < len(lines) else "(no line)" for lines in (old, new))
        if NUMBER.sub("#", a) != NUMBER.sub("#", b) or not all(
                near(x, y) for x, y in zip(NUMBER.findall(a), NUMBER.findall(b))):
            return n + 1, a, b
    return None


def fields(png):
    """A figure's grey levels, 0 to 1, averaged over a grid."""
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(png)), format="png")[..., :3].mean(axis=2)
    bands = [band.mean(axis=0) for band in np.array_split(pixels, FIELDS[0], axis=0)]
    return np.array([[field.mean() for field in np.array_split(band, FIELDS[1])] for band in bands])


def difference(committed, now):
    """One line about the first difference of two notebooks, or None."""
    if len(committed["cells"]) != len(now["cells"]):
        return f"{len(committed['cells'])} cells were committed, now there are {len(now['cells'])}"
    for number, (before, after) in enumerate(zip(committed["cells"], now["cells"]), 1):
        place = f"cell {number}"
        if "".join(before["source"]) != "".join(after["source"]):
            return f"{place}: not the same source"
        if before["cell_type"] != "code":
            continue
        for output in after["outputs"]:
            if output["output_type"] == "error":
                return f"{place} failed: {text_of(output).strip()}"
            if output.get("name") == "stderr":
                return f"{place} wrote to standard error: {text_of(output).strip().splitlines()[0]}"
        apart = first_line_apart(*("".join(map(text_of, x["outputs"])) for x in (before, after)))
        if apart:
            return f"{place}, line {apart[0]}\n  committed: {apart[1]}\n  now:       {apart[2]}"
        old, new = figures_of(before["outputs"]), figures_of(after["outputs"])
        if len(old) != len(new):
            return f"{place}: {len(old)} figures were committed, now there are {len(new)}"
        for n, (a, b) in enumerate(zip(old, new), 1):
            apart = np.abs(fields(a) - fields(b)).mean()
            if apart > FIELD_LIMIT:
                return f"{place}, figure {n}: looks different (by {apart:.3f}, allowed {FIELD_LIMIT})"
    return None


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    found = difference(*(json.load(open(path, encoding="utf-8")) for path in sys.argv[1:]))
    if found:
        sys.exit(f"{sys.argv[1]}, {found}")


if __name__ == "__main__":
    main()
