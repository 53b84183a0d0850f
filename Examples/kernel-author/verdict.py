"""Is a kernel right? One rule for all of them, and why not where it is not.

    X  what your kernel computed
    P  a plain implementation in float32: the library's, one fused chain for each sum
    R  the oracle: the same formula in float64, from the same float32 inputs

X passes if max|X - R| <= 2 max|P - R| + 2 max|(R + 0.3 - 0.3) - R|. The first term is the error that any
honest float32 implementation makes on these very inputs, so there is no tolerance to choose; the second is
rounding at the magnitude of the result (the sum runs in float32), which matters where P happens to be
exact. The rule is that of flash-attention's tests. NaN and infinity are looked for before any error, and
never pass. Index sets are compared with the score gap in mind: see `sets`.
"""

import numpy as np


def oracle_attention(q, K, V, slots):
    """R of sparse attention: q (H, d), K and V (M, S, d), slots (H, n) to (H, d), in float64."""
    q, K, V = (x.astype(np.float64) for x in (q, K, V))
    H, d = q.shape
    out = np.empty_like(q)
    for h in range(H):
        m = h * len(K) // H
        scores = K[m][slots[h]] @ q[h] / np.sqrt(d)
        weights = np.exp(scores - scores.max())
        out[h] = (weights / weights.sum()) @ V[m][slots[h]]
    return out


def verdict(name, X, P, R):
    """Prints one line (and one about the first wrong element); True if X passes."""
    X, P, R = np.asarray(X, np.float64), np.asarray(P, np.float64), np.asarray(R, np.float64)
    if X.shape != R.shape or P.shape != R.shape:
        print(f"FAILED  {name}: shape {X.shape}, expected {R.shape}")
        return False
    if not (np.isfinite(R).all() and np.isfinite(P).all()):
        print(f"FAILED  {name}: the reference itself is not finite; change the inputs")
        return False
    wrong = ~np.isfinite(X)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        print(f"FAILED  {name}: {X[where]} at {where}, expected {R[where]:.8g}; {int(wrong.sum())} not finite")
        return False
    tenths = np.float32(0.3)
    rounding = np.abs((R.astype(np.float32) + tenths - tenths).astype(np.float64) - R).max()
    error, plain = np.abs(X - R), np.abs(P - R).max()
    limit = 2 * plain + 2 * rounding
    passed = bool(error.max() <= limit)
    print(f"{'passed' if passed else 'FAILED'}  {name}: largest error {error.max():.3g}, limit {limit:.3g} "
          f"= 2 x {plain:.3g} (plain float32) + 2 x {rounding:.3g} (rounding)")
    if not passed:
        wrong = error > limit
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        print(f"        first of {int(wrong.sum())} wrong elements at {where}: {X[where]:.8g}, "
              f"expected {R[where]:.8g}")
    return passed


def sets(name, chosen, R, k, bound):
    """Each row's k chosen indices against the oracle's scores R (H, c), known to `bound`; True if they pass.

    Where the gap between places k and k + 1 is above 2 bounds the sets must be equal. Elsewhere rounding may
    swap neighbours: every chosen score must reach place k's but for 2 bounds, and no index may come twice.
    """
    chosen, R = np.asarray(chosen), np.asarray(R, np.float64)
    clear = 0
    for h, (own, scores) in enumerate(zip(chosen, R)):
        if len(own) != k or len(set(own.tolist())) != k or own.min() < 0 or own.max() >= len(scores):
            print(f"FAILED  {name}: row {h} does not hold {k} different indices below {len(scores)}")
            return False
        order = np.argsort(-scores, kind="stable")
        at_cut = scores[order[k - 1]]
        gap = at_cut - scores[order[k]] if k < len(scores) else np.inf
        clear += gap > 2 * bound
        low = [int(i) for i in own if scores[i] < at_cut - (0 if gap > 2 * bound else 2 * bound)]
        if low:
            missing = sorted(set(order[:k].tolist()) - set(own.tolist()))
            print(f"FAILED  {name}: row {h} has index {low[0]} (score {scores[low[0]]:.8g}) and lacks "
                  f"{missing[0]} (score {scores[missing[0]]:.8g}); the gap is {gap:.3g}")
            return False
    print(f"passed  {name}: {len(chosen)} sets, {clear} of them clear of rounding")
    return True
