// Stage 6: which k older tokens are attended to.
//
// In:  proxy scores of the candidates, (H, stride).
// Out: the k best of each head, ascending; the gap between places k and k + 1; where a NaN is.
//
// Larger score first, then lower index; -0 equals +0; NaN sorts above every number, and the host
// refuses it where the rule says so. One group a head:
//   1. A score becomes an integer that sorts as it does (order_key).
//   2. Radix select: four rounds count the keys by their next 8 bits and find the bin that place k
//      falls in. Counting is all that items do together, so their order leaves no trace.
//   3. Each item takes what it is to take out of its own stretch of the candidates, behind what the
//      items before it take: the set comes out ascending.

DEVFN unsigned int order_key(float x) {
  unsigned int bits = FLOAT_TO_BITS(x);
  if (x != x) return 0xffffffffu;
  if (bits == 0x80000000u) bits = 0;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

DEVFN float score_of_key(unsigned int key) {
  return BITS_TO_FLOAT(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// chosen[h, n] = first + index, n < min(k, count), rows `k` long; gaps[h]; nans[h]: index of the
// first NaN, or -1. Grid: (H).
KERNEL(WIDE) top_k(GLOBAL const float *scores, int stride, int first, int count, int k,
                   GLOBAL int *chosen, GLOBAL float *gaps, GLOBAL int *nans) {
  SHARED int bins[WIDE];
  SHARED int equals[WIDE];
  SHARED unsigned int below[WIDE];
  SHARED int found[3];
  int h = GROUP_ID(0), id = LOCAL_ID;
  GLOBAL const float *s = scores + (size_t)h * stride;

  // 2. The key of place k: `prefix`, digit by digit; `place` among the keys that share it.
  unsigned int prefix = 0, mask = 0;
  int place = least(k, count), same = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    bins[id] = 0;
    BARRIER();
    for (int i = id; i < count; i += WIDE) {
      unsigned int key = order_key(s[i]);
      if ((key & mask) == prefix) COUNT_ONE(&bins[(key >> shift) & 255u]);
    }
    BARRIER();
    if (id == 0) {
      int bin = 255, left = place;
      while (bin > 0 && left > bins[bin]) left -= bins[bin--];
      found[0] = bin;
      found[1] = left;
      found[2] = bins[bin];
    }
    BARRIER();
    prefix |= (unsigned int)found[0] << shift;
    place = found[1];
    same = found[2];
    mask |= 255u << shift;
    BARRIER();
  }

  // 3. How many each item has above and at that key; the largest key below it; the first NaN.
  int chunk = CHUNK(count);
  int from = least(id * chunk, count), to = least(from + chunk, count);
  int above = 0, equal = 0, nan_at = count;
  unsigned int next = 0;
  for (int i = from; i < to; i++) {
    unsigned int key = order_key(s[i]);
    above += key > prefix ? 1 : 0;
    equal += key == prefix ? 1 : 0;
    next = key < prefix && key > next ? key : next;
    nan_at = key == 0xffffffffu && i < nan_at ? i : nan_at;
  }
  bins[id] = above;
  equals[id] = equal;
  below[id] = next;
  BARRIER();
  int taken_equal = sum_before(equals, id);
  int at = sum_before(bins, id) + least(taken_equal, place);
  for (int i = from; i < to; i++) {
    unsigned int key = order_key(s[i]);
    int take = key > prefix;
    if (key == prefix) take = taken_equal++ < place;
    if (take) chosen[(size_t)h * k + at++] = first + i;
  }
  BARRIER();
  bins[id] = nan_at;
  BARRIER();
  if (id == 0) {
    int first_nan = count;
    for (int i = 0; i < WIDE; i++) {
      next = below[i] > next ? below[i] : next;
      first_nan = least(first_nan, bins[i]);
    }
    nans[h] = first_nan < count ? first_nan : -1;
    gaps[h] = place < same ? 0.0f
              : k >= count || prefix == 0xffffffffu
                  ? INFINITE
                  : score_of_key(prefix) - score_of_key(next);
  }
}

// list[h, n] = first + n: all tokens, where there is no choice. Grid: (count / GROUP rounded up,
// H).
KERNEL(GROUP) count_up(GLOBAL int *list, int count, int first) {
  int i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < count) list[(size_t)GROUP_ID(1) * count + i] = first + i;
}
