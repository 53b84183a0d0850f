// Stages 3 (its products), 5 and 8, and codes of few bits: one dot product for each of many rows.
//
// In:  rows of `width` numbers, one query of each head.
// Out: s = (row · query) * scale, one fused chain over the width in index order.
//
// A chain belongs to one item. Neighbouring items have neighbouring rows, and reading them column
// by column would touch GROUP far-apart addresses at once; so a group brings a tile of GROUP rows
// by TILE columns into shared memory together, row after row, and each item walks its own row
// there. The spare column keeps the rows out of each other's memory banks.

#define TILE 32

// The chain of item LOCAL_ID over row `row` of `rows`, or of nothing for row -1. `tile` holds
// GROUP * (TILE + 1) numbers, `indices` GROUP.
DEVFN float row_chain(GLOBAL const float *rows, int row, int width, GLOBAL const float *query,
                      SHARED_PTR float *tile, SHARED_PTR int *indices) {
  int id = LOCAL_ID;
  float sum = 0.0f;
  indices[id] = row;
  for (int first = 0; first < width; first += TILE) {
    int columns = least(TILE, width - first);
    BARRIER();
    for (int i = id; i < GROUP * TILE; i += GROUP) {
      int r = indices[i / TILE], c = i % TILE;
      if (r >= 0 && c < columns)
        tile[i / TILE * (TILE + 1) + c] = rows[(size_t)r * width + first + c];
    }
    BARRIER();
    if (row >= 0)
      for (int c = 0; c < columns; c++)
        sum = FMA(tile[id * (TILE + 1) + c], query[first + c], sum);
  }
  return sum;
}

// Stage 5. codes: A_K (groups, room, r), `share` consecutive heads to a group; query_codes: (H, r).
// scores[h, i] is that of token first + i, i < count; rows of `scores` are `stride` long.
// Grid: (count / GROUP rounded up, H).
KERNEL(GROUP) proxy_scores(GLOBAL const float *codes, int room, int rank, int share, int first,
                           int count, GLOBAL const float *query_codes, GLOBAL float *scores,
                           int stride) {
  SHARED float tile[GROUP * (TILE + 1)];
  SHARED int indices[GROUP];
  int h = GROUP_ID(1), i = GROUP_ID(0) * GROUP + LOCAL_ID;
  float s = row_chain(codes + (size_t)(h / share) * room * rank, i < count ? first + i : -1, rank,
                      query_codes + (size_t)h * rank, tile, indices);
  if (i < count) scores[(size_t)h * stride + i] = s;
}

// Scores by codes of few bits (the method key-bits): the same chain, over packed integers. codes:
// (count, row_bytes), 8, 4, 3, 2 or 1 `bits` for each of `rank` integers, the first one in the
// lowest; scales (count): BF16, the upper halves of floats; query_codes: (H, r).
// scores[h, i] = (query_codes[h] · c_i) * scale_i, rows `stride` long. An item reads its row where
// it lies: it is a few bytes, beside its neighbour's.
// Grid: (count / GROUP rounded up, H).
KERNEL(GROUP) code_scores(GLOBAL const unsigned char *codes, int row_bytes, int bits,
                          GLOBAL const unsigned short *scales, int rank, int count,
                          GLOBAL const float *query_codes, GLOBAL float *scores, int stride) {
  int h = GROUP_ID(1), i = GROUP_ID(0) * GROUP + LOCAL_ID;
  if (i < count) {
    GLOBAL const unsigned char *row = codes + (size_t)i * row_bytes;
    GLOBAL const float *query = query_codes + (size_t)h * rank;
    // c = gap * code - largest: steps of 1 from 3 bits on, odd integers below.
    int gap = bits > 2 ? 1 : 2, largest = bits > 2 ? (1 << (bits - 1)) - 1 : 2 * bits - 1;
    float sum = 0.0f;
    for (int j = 0; j < rank; j++) {
      int place = j * bits / 8, shift = j * bits % 8;
      int word = row[place];
      if (shift + bits > 8) word |= row[place + 1] << 8;
      int code = (word >> shift) & ((1 << bits) - 1);
      sum = FMA((float)(gap * code - largest), query[j], sum);
    }
    scores[(size_t)h * stride + i] = sum * BITS_TO_FLOAT((unsigned int)scales[i] << 16);
  }
}

// Stage 8, first third, and the exact products of stage 3 (scale 1). keys: (holders, slots, d);
// queries: (H, d); where[h, i]: the slot of the i-th attended token. out[h, i], both rows `stride`.
// Grid: (count / GROUP rounded up, H).
KERNEL(GROUP) attention_scores(GLOBAL const float *keys, int slots, int width, int share,
                               GLOBAL const float *queries, GLOBAL const int *where, int count,
                               float scale, GLOBAL float *out, int stride) {
  SHARED float tile[GROUP * (TILE + 1)];
  SHARED int indices[GROUP];
  int h = GROUP_ID(1), i = GROUP_ID(0) * GROUP + LOCAL_ID;
  size_t at = (size_t)h * stride + i;
  float s = row_chain(keys + (size_t)(h / share) * slots * width, i < count ? where[at] : -1, width,
                      queries + (size_t)h * width, tile, indices);
  if (i < count) out[at] = s * scale;
}
