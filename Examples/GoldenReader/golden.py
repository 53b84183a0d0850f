"""Reads golden files (Docs/golden.md) and compares outputs with them. Needs NumPy, nothing else.

    python3 golden.py FILE            what is in the file
    python3 golden.py --self-test FOLDER

`read(path)` gives the metadata and the tensors by name; `wrong(tensors, name, candidate, precision)` the
places where a candidate's output is too far off, as `lrqk check` finds them. `misfit(metadata, precision)`
says why no candidate in a precision can have a case: the command skips it.
"""

import json
import struct
import sys

import numpy as np

FORMATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def read(path):
    """A safetensors file: (metadata, {name: array})."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        if entry["dtype"] == "BF16":  # the upper halves of F32
            bits = np.frombuffer(data[first:last], "<u2").astype("<u4") << 16
            array = bits.view("<f4")
        else:
            array = np.frombuffer(data[first:last], FORMATS[entry["dtype"]])
        tensors[name] = array.reshape(entry["shape"])
    return metadata, tensors


PRECISIONS = {"f32": (24, -149, 2.0**128), "bf16": (8, -133, 2.0**128), "f16": (11, -24, 2.0**16)}


def rounded(values, precision):
    """Double numbers as the format holds them, nearest, ties to even: (bits, last place, overflow)."""
    bits, last, overflow = PRECISIONS[precision]
    values = np.asarray(values, "f8")
    _, exponent = np.frexp(values)
    step = np.exp2(np.maximum(exponent - bits, last).astype("f8"))
    result = np.rint(values / step) * step
    return np.where(np.abs(result) >= overflow, np.copysign(np.inf, result), result)


def misfit(metadata, precision="f32"):
    """Why no candidate in this precision can have the case; None where one can."""
    return json.loads(metadata.get("misfits", "{}")).get(precision)


def wrong(tensors, name, candidate, precision="f32"):
    """Places (one row each) where `candidate` is not what the golden file allows for output `name`.

    `precision` is that of the kernel, f32, bf16 or f16, whatever array its numbers come in. Where a
    candidate flushes denormal numbers, the places are listed; the command skips such an output."""
    expected = tensors["expected/" + name]
    candidate = np.asarray(candidate)
    if candidate.shape != expected.shape:
        raise ValueError(f"{name}: shape {candidate.shape}, not {expected.shape}")
    allowed = tensors.get(f"allowed/{precision}/{name}")
    if expected.dtype.kind == "i":
        return np.argwhere(candidate != expected)
    if allowed is None:  # every bit is known
        return np.argwhere(candidate.astype("f8") != rounded(expected, precision))
    error = np.abs(candidate.astype("f8") - expected)
    return np.argwhere(~(error <= allowed[..., None]))  # NaN is not <= anything


def self_test(folder):
    """NumPy's own proxy scores and top-k pass; a planted fault does not."""
    _, tensors = read(f"{folder}/proxy-scores.random.safetensors")
    scores = tensors["inputs/q_hat"] @ tensors["inputs/A_K"].T
    assert len(wrong(tensors, "scores", scores)) == 0
    scores[2, 7] *= 1.001
    assert wrong(tensors, "scores", scores).tolist() == [[2, 7]]
    _, tensors = read(f"{folder}/rope.start.safetensors")  # every bit is known, in every precision
    for precision in PRECISIONS:
        honest = rounded(tensors["expected/y"], precision).astype("f4")
        assert len(wrong(tensors, "y", honest, precision)) == 0
        honest[1, 2, 3] *= 1.01
        assert wrong(tensors, "y", honest, precision).tolist() == [[1, 2, 3]]
    metadata, _ = read(f"{folder}/proxy-scores.large.safetensors")
    assert misfit(metadata, "f16") and not misfit(metadata, "bf16")
    metadata, tensors = read(f"{folder}/top-k.ties.safetensors")
    k = int(json.loads(metadata["parameters"])["k"])
    order = np.argsort(-tensors["inputs/scores"], axis=1, kind="stable")  # lower index first
    selected = np.sort(order[:, :k], axis=1)
    assert len(wrong(tensors, "selected", selected)) == 0
    print("proxy-scores.random and top-k.ties: NumPy's answers pass, a planted fault is found")
    print("rope.start: what is right in F32, BF16 and F16 passes, a planted fault is found")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--self-test":
        self_test(sys.argv[2])
    elif len(sys.argv) == 2:
        metadata, tensors = read(sys.argv[1])
        for key, value in sorted(metadata.items()):
            print(f"{key}: {value}")
        for name, array in sorted(tensors.items()):
            print(f"{name:24} {array.dtype} {array.shape}")
    else:
        sys.exit(__doc__)
