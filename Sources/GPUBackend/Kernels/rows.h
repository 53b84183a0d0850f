// Rows that are moved, not computed.
//
// In:  exact keys and values in slots, (holders, slots, d) each, or in a staging area.
// Out: the same rows elsewhere on the device, bit for bit.
//
// The staging area is where a copy from or to the host lands: n keys, then the n values, each d
// wide, so that one copy of n rows is one transfer of n * 2d numbers.

// numbers[i] = value. Grid: (count / GROUP rounded up).
KERNEL(GROUP) fill_floats(GLOBAL float *numbers, int count, float value) {
  int i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < count) numbers[i] = value;
}

// The same for integers.
KERNEL(GROUP) fill_ints(GLOBAL int *numbers, int count, int value) {
  int i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < count) numbers[i] = value;
}

// to[to_start + i] = from[from_start + i], from a part of one buffer to a part of another.
// Grid: (count / GROUP rounded up).
KERNEL(GROUP) copy_floats(GLOBAL const float *from, int from_start, GLOBAL float *to, int to_start,
                          int count) {
  int i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < count) to[(size_t)to_start + i] = from[(size_t)from_start + i];
}

// Staged rows go to their slots: row i to slots_of[holder, i], i < count. Grid: (count * d /
// GROUP).
KERNEL(GROUP) scatter_rows(GLOBAL const float *staging, int count, int width,
                           GLOBAL const int *slots_of, int most, int holder, int slots,
                           GLOBAL float *keys, GLOBAL float *values) {
  int i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < count * width) {
    int slot = slots_of[(size_t)holder * most + i / width];
    size_t to = ((size_t)holder * slots + slot) * width + i % width;
    keys[to] = staging[i];
    values[to] = staging[(size_t)count * width + i];
  }
}

// The prompt's rows, (l, d), go to slots: that of token tokens[holder, i] to slots_of[holder, i],
// for i < counts[holder]. Grid: (most * d / GROUP rounded up).
KERNEL(GROUP) place_prompt_rows(GLOBAL const float *prompt_keys, GLOBAL const float *prompt_values,
                                GLOBAL const int *tokens, GLOBAL const int *slots_of,
                                GLOBAL const int *counts, int width, int most, int holder,
                                int slots, GLOBAL float *keys, GLOBAL float *values) {
  int i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < counts[holder] * width) {
    size_t n = (size_t)holder * most + i / width;
    size_t from = (size_t)tokens[n] * width + i % width;
    size_t to = ((size_t)holder * slots + slots_of[n]) * width + i % width;
    keys[to] = prompt_keys[from];
    values[to] = prompt_values[from];
  }
}

// Consecutive rows of the prompt, (l, d), go to the first `count` slots of a holder: its ring.
KERNEL(GROUP) place_ring_rows(GLOBAL const float *prompt_keys, GLOBAL const float *prompt_values,
                              int first, int count, int width, int holder, int slots,
                              GLOBAL float *keys, GLOBAL float *values) {
  int i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < count * width) {
    size_t to = (size_t)holder * slots * width + i, from = (size_t)first * width + i;
    keys[to] = prompt_keys[from];
    values[to] = prompt_values[from];
  }
}

// The new token's key and value, (M, d), go to one slot of every holder; `holders` of them share a
// key/value head. Grid: (d / GROUP rounded up, holders in all).
KERNEL(GROUP) append_rows(GLOBAL const float *new_keys, GLOBAL const float *new_values, int width,
                          int holders, int slot, int slots, GLOBAL float *keys,
                          GLOBAL float *values) {
  int s = GROUP_ID(1), j = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (j < width) {
    size_t from = (size_t)(s / holders) * width + j, to = ((size_t)s * slots + slot) * width + j;
    keys[to] = new_keys[from];
    values[to] = new_values[from];
  }
}

// Rows of the ring, oldest first, go to the staging area. Grid: (count * d / GROUP rounded up).
KERNEL(GROUP) collect_ring(GLOBAL const float *keys, GLOBAL const float *values, int slots,
                           int holder, int oldest, int count, int capacity, int width,
                           GLOBAL float *staging) {
  int i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < count * width) {
    int slot = (oldest + i / width) % capacity;
    size_t from = ((size_t)holder * slots + slot) * width + i % width;
    staging[i] = keys[from];
    staging[(size_t)count * width + i] = values[from];
  }
}
