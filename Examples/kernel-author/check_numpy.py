"""Checks kernels written in NumPy against the library: proxy scores, top-k, sparse attention.

    python3 Examples/kernel-author/check_numpy.py [--plant] [--library PATH]

Replace the functions my_... by yours. --plant puts a fault into each, to see it
caught. Exit status 0 if all pass, 1 otherwise.
"""

import argparse
import pathlib
import sys

import numpy as np

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "Notebooks"))
import lrqk  # noqa: E402
from verdict import oracle_attention, sets, verdict  # noqa: E402


# ---- Your kernels -------------------------------------------------------------------------------------------


def my_proxy_scores(A_K, q_hat, plant):
    """A_K (c, r), q_hat (H, r) to scores (H, c)."""
    scores = q_hat @ A_K.T
    if plant:
        scores[:, -1] = scores[:, -2]  # off by one: the last candidate is never scored
    return scores


def my_top_k(scores, k, plant):
    """scores (H, c) to indices (H, k), ascending."""
    best = np.argsort(-scores, axis=1, kind="stable")
    return np.sort(best[:, 1:k + 1] if plant else best[:, :k], axis=1)  # the fault: the best is left out


def my_sparse_attention(q, K, V, slots, plant):
    """q (H, d), K and V (M, S, d), slots (H, n) to (H, d)."""
    H, d = q.shape
    group = H // len(K)
    out = np.empty_like(q)
    for h in range(H):
        rows = slots[h].copy()
        if plant and h == H - 1:
            rows[0] = (rows[0] + 1) % K.shape[1]  # a stale row: its slot holds another token
        weights = K[h // group][rows] @ q[h] * np.float32(1 / np.sqrt(d))
        weights = np.exp(weights - weights.max())
        out[h] = weights / weights.sum() @ V[h // group][rows]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plant", action="store_true", help="put a fault into each kernel")
    parser.add_argument("--library", help="path of libLRQK.so")
    arguments = parser.parse_args()
    try:
        library = lrqk.Library(arguments.library)
    except OSError as error:
        sys.exit(str(error))

    # Sizes that differ, so that no two axes can be mixed up unseen.
    H, M, S, c, r, d, k = 6, 2, 300, 700, 8, 48, 40
    random = np.random.default_rng(1)
    A_K, q_hat, q, K, V = (random.standard_normal(shape).astype(np.float32) for shape in
                           [(c, r), (H, r), (H, d), (M, S, d), (M, S, d)])
    slots = np.sort(np.stack([random.choice(S, k, replace=False) for _ in range(H)])).astype(np.int32)

    R = q_hat.astype(np.float64) @ A_K.astype(np.float64).T
    plain = library.proxy_scores(A_K, q_hat)
    mine = my_proxy_scores(A_K, q_hat, arguments.plant)
    good = [verdict("proxy scores", mine, plain, R)]
    # Sets come from your scores; how far scores may be off is what the rule above allowed.
    bound = max(np.abs(mine - R).max(), np.abs(plain - R).max()) if good[0] else np.abs(plain - R).max()
    good.append(sets("top k", my_top_k(mine, k, arguments.plant), R, k, bound))
    good.append(verdict(
        "sparse attention", my_sparse_attention(q, K, V, slots, arguments.plant),
        library.sparse_attention(q, K, V, slots), oracle_attention(q, K, V, slots)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
