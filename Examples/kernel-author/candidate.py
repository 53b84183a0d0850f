#!/usr/bin/env python3
"""Runs a kernel on a golden case and writes what it computed, for `lrqk check --candidate`.

    lrqk golden write .build/golden --kernel proxy-scores
    python3 Examples/kernel-author/candidate.py .build/golden/proxy-scores.random.safetensors mine.safetensors
    lrqk check --candidate mine.safetensors

In:  a golden file of the kernel proxy-scores: `inputs/A_K` (c, r), `inputs/q_hat` (H, r);
     or of code-scores: `inputs/q_hat` (H, r), `inputs/codes` (l, bytes), `inputs/scales` (l), parameter bits.
Out: a safetensors file with `scores` and the golden file's metadata, which says what case it is.

Replace my_proxy_scores or my_code_scores by your kernel: fill its output buffer with SENTINEL first, then copy
it back. --plant leaves the last proxy score of every head out, and reads the bits of codes in the wrong order;
--half runs in 16 bits. Needs NumPy.
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


def unwritten(heads, tokens, kind):
    """A buffer for scores (heads, tokens)."""
    with np.errstate(over="ignore"):  # in F16 the sentinel is minus infinity, which fails as well
        return np.full((heads, tokens), SENTINEL).astype(kind)


def my_proxy_scores(A_K, q_hat, plant):
    """A_K (c, r), q_hat (H, r) to scores (H, c)."""
    scores = unwritten(len(q_hat), len(A_K), A_K.dtype)
    last = len(A_K) - 1 if plant else len(A_K)
    scores[:, :last] = q_hat @ A_K[:last].T
    return scores


def my_code_scores(q_hat, codes, scales, bits, plant):
    """q_hat (H, r), codes (l, bytes) and scales (l), the 16 bits of BF16 numbers, to scores (H, l)."""
    scores = unwritten(len(q_hat), len(codes), q_hat.dtype)
    order = "big" if plant else "little"  # the first code lies in the lowest bits
    stream = np.unpackbits(codes.astype(np.uint8), axis=1, bitorder=order)[:, :q_hat.shape[1] * bits]
    code = stream.reshape(len(codes), -1, bits) @ (1 << np.arange(bits))
    integers = code - (2 ** (bits - 1) - 1) if bits > 2 else 2 * code - (2 ** bits - 1)
    scale = (scales.astype(np.uint32) << 16).view(np.float32).astype(q_hat.dtype)
    scores[:] = (q_hat @ integers.T.astype(q_hat.dtype)) * scale
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
    parser.add_argument("golden", help="a golden file of proxy-scores or code-scores")
    parser.add_argument("output", help="where the candidate goes")
    parser.add_argument("--plant", action="store_true", help="put a fault into the kernel")
    parser.add_argument("--half", action="store_true", help="run it in 16 bits")
    given = parser.parse_args()

    metadata, tensors = read(given.golden)
    kind = np.float16 if given.half else np.float32
    if metadata["kernel"] == "proxy-scores":
        A_K, q_hat = (tensors["inputs/" + name].astype(kind) for name in ["A_K", "q_hat"])
        scores = my_proxy_scores(A_K, q_hat, given.plant)
    elif metadata["kernel"] == "code-scores":
        q_hat, codes, scales = (tensors["inputs/" + name] for name in ["q_hat", "codes", "scales"])
        bits = int(json.loads(metadata["parameters"])["bits"])
        scores = my_code_scores(q_hat.astype(kind), codes, scales, bits, given.plant)
    else:
        sys.exit(f"{given.golden} is a case of {metadata['kernel']}; here are proxy-scores and code-scores")
    write(given.output, metadata, "scores", scores)


if __name__ == "__main__":
    main()
