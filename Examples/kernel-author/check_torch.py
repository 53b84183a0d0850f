"""Checks kernels written in PyTorch, and one in Triton, against the library: proxy scores, sparse attention.

    python3 Examples/kernel-author/check_torch.py [--plant] [--library PATH]

The Triton kernel needs an NVIDIA GPU; where there is none the script says so and checks the PyTorch kernels
on the CPU. Replace the functions my_... by yours. --plant puts a fault into each, to see it caught. Exit status 0 if
all that ran pass, 1 otherwise, 2 where PyTorch is missing.
"""

import argparse
import pathlib
import sys

import numpy as np

try:
    import torch
except ImportError:
    print("PyTorch is not installed: pip install torch")
    sys.exit(2)

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "Notebooks"))
import lrqk  # noqa: E402
from verdict import oracle_attention, verdict  # noqa: E402

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None


# ---- Your kernels -------------------------------------------------------------------------------------------


def my_proxy_scores(A_K, q_hat, plant):
    """A_K (c, r), q_hat (H, r) to scores (H, c)."""
    scores = q_hat @ A_K.T
    if plant:
        scores[:, -1] = scores[:, -2]  # off by one: the last candidate is never scored
    return scores


def my_sparse_attention(q, K, V, slots, plant):
    """q (H, d), K and V (M, S, d), slots (H, n) to (H, d)."""
    H, d = q.shape
    heads = torch.arange(H, device=q.device) * K.shape[0] // H
    rows = slots.long().clone()
    if plant:
        rows[-1, 0] = (rows[-1, 0] + 1) % K.shape[1]  # a stale row: its slot holds another token
    keys, values = K[heads[:, None], rows], V[heads[:, None], rows]
    weights = torch.softmax(torch.einsum("hnd,hd->hn", keys, q) / d**0.5, dim=1)
    return torch.einsum("hn,hnd->hd", weights, values)


if triton:

    @triton.jit
    def triton_scores(A_K, q_hat, scores, c, r: tl.constexpr, BLOCK: tl.constexpr):
        """One program for BLOCK candidates of a head; a token's sum is one chain, as in the library."""
        h = tl.program_id(1)
        t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        sums = tl.zeros([BLOCK], tl.float32)
        for j in tl.static_range(r):
            a = tl.load(A_K + t * r + j, mask=t < c, other=0.0)
            sums = tl.fma(a, tl.full([BLOCK], 1.0, tl.float32) * tl.load(q_hat + h * r + j), sums)
        tl.store(scores + h * c + t, sums, mask=t < c)

    def my_triton_proxy_scores(A_K, q_hat, plant):
        (c, r), H = A_K.shape, q_hat.shape[0]
        scores = torch.full((H, c), float("nan"), device=A_K.device)
        block = 64
        # The fault: the last block of candidates is not computed, and stays NaN.
        blocks = triton.cdiv(c, block) - (1 if plant else 0)
        triton_scores[(blocks, H)](A_K, q_hat, scores, c, r=r, BLOCK=block)
        return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plant", action="store_true", help="put a fault into each kernel")
    parser.add_argument("--library", help="path of libLRQK.so")
    arguments = parser.parse_args()
    try:
        library = lrqk.Library(arguments.library)
    except OSError as error:
        sys.exit(str(error))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False  # ten bits of mantissa would fail, and rightly so

    H, M, S, c, r, d, k = 6, 2, 300, 700, 8, 48, 40
    random = np.random.default_rng(2)
    A_K, q_hat, q, K, V = (random.standard_normal(shape).astype(np.float32) for shape in
                           [(c, r), (H, r), (H, d), (M, S, d), (M, S, d)])
    slots = np.sort(np.stack([random.choice(S, k, replace=False) for _ in range(H)])).astype(np.int32)
    on_device = [torch.from_numpy(x).to(device) for x in (A_K, q_hat, q, K, V, slots)]

    R = q_hat.astype(np.float64) @ A_K.astype(np.float64).T
    P = library.proxy_scores(A_K, q_hat)
    good = [verdict(f"proxy scores, PyTorch on {device}",
                    my_proxy_scores(*on_device[:2], arguments.plant).cpu(), P, R)]
    good.append(verdict(
        f"sparse attention, PyTorch on {device}",
        my_sparse_attention(*on_device[2:], arguments.plant).cpu(),
        library.sparse_attention(q, K, V, slots), oracle_attention(q, K, V, slots)))
    if device == "cuda" and triton:
        good.append(verdict(
            "proxy scores, Triton", my_triton_proxy_scores(*on_device[:2], arguments.plant).cpu(), P, R))
    else:
        why = "no GPU" if device == "cpu" else "Triton is not installed"
        print(f"skipped proxy scores, Triton: {why}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
