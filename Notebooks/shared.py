"""What the notebooks share: a recorded layer, the tool, one line about a difference, and how figures look.

The recording is Tests/ReplayTests/Captures: queries, keys and values, after RoPE, of layers 0 and 2 of a small
retrieval model that was trained on needles in noise. Its files are safetensors; Examples/GoldenReader reads them.
"""

import os
import pathlib
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(PACKAGE / "Examples/GoldenReader"), str(PACKAGE / "Examples/kernel-author")]
import golden  # noqa: E402

UNIT = 2.0**-24  # the largest relative error of one rounding to float32

# Colours that people with colour-blindness can tell apart (Okabe and Ito; wine is Tol's), dark ones first. A method has
# one hue in all notebooks: exact BLACK, LRQK as released RED, recommended GREEN, controls GREY. A rank r has one mark.
BLACK, BLUE, RED, GREEN, ORANGE, SKY, WINE = COLOURS = [
    "#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#882255"]
GREY = "#7f7f7f"
MARKS = {2: "v", 4: "^", 8: "o", 16: "s", 24: "P", 32: "D", 64: "X"}
PAPER = "#fbfbf8"  # opaque, so that figures can be read on a dark page too
plt.rcParams.update({
    "figure.dpi": 144, "figure.figsize": (8, 3.4), "figure.constrained_layout.use": True, "font.size": 10,
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "axes.facecolor": PAPER,
    "axes.prop_cycle": plt.cycler(color=COLOURS), "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e4e4e4", "legend.frameon": False, "axes.titlesize": 11,
    "figure.titlesize": 11, "image.interpolation": "nearest", "lines.markersize": 5.5})


def capture(layer):
    """Q (H, l, d), K and V (M, l, d) of a recorded layer, 0 or 2: H = 4, M = 2, l = 2000, d = 32, float32."""
    _, tensors = golden.read(PACKAGE / f"Tests/ReplayTests/Captures/needle-layer{layer}.safetensors")
    return tuple(tensors[name][0] for name in "QKV")  # the first and only sequence


def tool(*arguments):
    """What `lrqk` prints; it lies beside the library, and runs in the package's folder."""
    library = pathlib.Path(os.environ.get("LRQK_LIBRARY", PACKAGE / ".build/release/libLRQK.so"))
    program = library.resolve().parent / "lrqk"
    if not program.exists():
        raise FileNotFoundError(f"{program}: no tool there; swift build -c release --product lrqk makes it")
    run = subprocess.run([program, *map(str, arguments)], cwd=PACKAGE, capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"lrqk {arguments[0]}: {run.stderr.strip()}")
    return run.stdout


def agree(what, ours, library, limit=0):
    """Prints how far two results are apart, and stops the notebook if that is more than `limit`."""
    ours, library = np.asarray(ours), np.asarray(library)
    assert ours.shape == library.shape, f"{what}: shapes {ours.shape} and {library.shape}"
    if limit == 0:
        assert np.array_equal(ours, library), f"{what}: not equal"
        print(f"{what}: equal")
    else:
        apart = np.abs(ours.astype(np.float64) - library.astype(np.float64)).max()
        assert apart <= limit, f"{what}: differ by {apart:.2g}, allowed is {limit:.2g}"
        print(f"{what}: largest difference {apart:.0e}, allowed {limit:.0e}")
