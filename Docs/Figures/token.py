#!/usr/bin/env python3
"""Where the row of one token is, step by step: one line a head.

    lrqk replay CAPTURE --steps 64 --output run.safetensors
    python3 Docs/Figures/token.py run.safetensors --prompt 1000 --recent 16 --token 1003

In:  what `lrqk replay --output` writes: `selected` (steps, batch, heads, k), `prefill.selected`
     (batch, heads, k), `missed_rows` (steps, batch, holders). Holders are query heads here.
Out: for each step a letter. Before it prints, the script finds hits and misses again, as differences
     of the sets, and compares their number with the file's for every step and head.

    r  in the ring, not yet on the host      M  selected and fetched: a miss
    R  in the ring, and on the host          H  selected and still in its slot: a hit
    .  on the host only, its code on the device
"""

import argparse
import json
import struct


def tensors(path):
    """Name -> (shape, flat numbers) of the int32 tensors of a safetensors file."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    found = {}
    for name, entry in header.items():
        if entry.get("dtype") == "I32":
            first, end = entry["data_offsets"]
            found[name] = entry["shape"], struct.unpack(f"<{(end - first) // 4}i", data[first:end])
    return found


def sets(shape, numbers):
    """The sets of a tensor whose last axis is a set, padded with -1 at its end."""
    k = shape[-1]
    return [set(numbers[i:i + k]) - {-1} for i in range(0, len(numbers), k)]


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file")
    options.add_argument("--prompt", type=int, required=True, help="tokens of the prompt")
    options.add_argument("--recent", type=int, required=True, help="w, slots of the ring")
    options.add_argument("--token", type=int, required=True, help="counted from 0")
    given = options.parse_args()

    found = tensors(given.file)
    shape, numbers = found["selected"]
    steps, batch, heads, _ = shape
    missed_shape, missed = found["missed_rows"]
    if batch != 1 or missed_shape[2] != heads:
        raise SystemExit("the script reads one sequence whose query heads hold their own rows")

    now = sets(*found["prefill.selected"])
    chosen = sets(shape, numbers)
    lines = ["" for _ in range(heads)]
    for step in range(1, steps + 1):
        newest = given.prompt + step - 1
        on_host = given.prompt + step // given.recent * given.recent  # the host holds tokens 0 ..< this
        for h in range(heads):
            before, now[h] = now[h], chosen[(step - 1) * heads + h]
            if len(now[h] - before) != missed[(step - 1) * heads + h]:
                raise SystemExit(f"step {step}, head {h}: {len(now[h] - before)} misses as differences "
                                 f"of sets, {missed[(step - 1) * heads + h]} in the file")
            if given.token > newest:
                letter = " "
            elif given.token > newest - given.recent:
                letter = "R" if given.token < on_host else "r"
            elif given.token not in now[h]:
                letter = "."
            else:
                letter = "H" if given.token in before else "M"
            lines[h] += letter

    print(f"token {given.token}, steps 1 to {steps}; hits and misses of all tokens: as in the file")
    print("        " + "".join(f"{step:<8}" for step in range(1, steps + 1, 8)).rstrip())
    for h, line in enumerate(lines):
        print(f"head {h}  {line}".rstrip())


if __name__ == "__main__":
    main()
