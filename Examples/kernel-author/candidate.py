#!/usr/bin/env python3
"""Runs a kernel on a golden case and writes what it computed, for `lrqk check --candidate`.

    lrqk golden write .build/golden --kernel proxy-scores
    python3 Examples/kernel-author/candidate.py .build/golden/proxy-scores.random.safetensors mine.safetensors
    lrqk check --candidate mine.safetensors

In:  a golden file of the kernel proxy-scores: `inputs/A_K` (c, r), `inputs/q_hat` (H, r).
Out: a safetensors file with `scores` (H, c) and the golden file's metadata, which says what case it is.

Replace my_proxy_scores by your kernel: fill its output buffer with SENTINEL first, then copy it back. --plant
leaves the last score of every head out, --half runs in 16 bits. Needs NumPy.
"""

import argparse
import json
import pathlib
import struct
import sys

import numpy as np

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "GoldenReader"))
from golden import read  # noqa: E402

SENTINEL = -6.02214076e23  # an output that still has it was never written


def my_proxy_scores(A_K, q_hat, plant):
    """A_K (c, r), q_hat (H, r) to scores (H, c)."""
    with np.errstate(over="ignore"):  # in F16 the sentinel is minus infinity, which fails as well
        scores = np.full((len(q_hat), len(A_K)), SENTINEL).astype(A_K.dtype)
    last = len(A_K) - 1 if plant else len(A_K)
    scores[:, :last] = q_hat @ A_K[:last].T
    return scores


def write(path, metadata, name, array):
    """One tensor as a safetensors file."""
    format = {"float32": "F32", "float16": "F16"}[array.dtype.name]
    data = np.ascontiguousarray(array).tobytes()
    header = json.dumps({"__metadata__": metadata, name: {
        "dtype": format, "shape": list(array.shape), "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(header)) + header + data)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("golden", help="a golden file of proxy-scores")
    parser.add_argument("output", help="where the candidate goes")
    parser.add_argument("--plant", action="store_true", help="put a fault into the kernel")
    parser.add_argument("--half", action="store_true", help="run it in 16 bits")
    given = parser.parse_args()

    metadata, tensors = read(given.golden)
    if metadata["kernel"] != "proxy-scores":
        sys.exit(f"{given.golden} is a case of {metadata['kernel']}, and the kernel here is proxy-scores")
    kind = np.float16 if given.half else np.float32
    A_K, q_hat = (tensors["inputs/" + name].astype(kind) for name in ["A_K", "q_hat"])
    write(given.output, metadata, "scores", my_proxy_scores(A_K, q_hat, given.plant))


if __name__ == "__main__":
    main()
