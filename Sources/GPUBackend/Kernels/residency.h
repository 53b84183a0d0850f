// Stage 7: hit and miss. Which needed rows lie on the device, and where the others are to go.
//
// In:  the selected tokens of every head; which token lies in which slot of every holder of rows.
// Out: for every holder the tokens to be copied, ascending, and their slots; the new residents.
//
// The rule is the slot pool's: a token that stays keeps its slot, one that is no longer needed
// gives its slot back, and missed tokens, in token order, take the lowest free slots. Slots that
// were never used are the highest, so "free slots first, then new ones" is one rule here. Slots
// below `reserved` are the recent ring's. One group a holder.

// The union of the lists of `share` heads, (H, k): needed[s, n] ascending, counts[s] of them.
// `marks` (holders, room) is all 0 before and after. Grid: (holders).
KERNEL(WIDE) needed_tokens(GLOBAL const int *chosen, int k, int share, GLOBAL int *marks, int room,
                           GLOBAL int *needed, GLOBAL int *counts) {
  SHARED int here[WIDE];
  int s = GROUP_ID(0), id = LOCAL_ID;
  GLOBAL const int *lists = chosen + (size_t)s * share * k;
  GLOBAL int *mark = marks + (size_t)s * room;
  for (int i = id; i < share * k; i += WIDE) mark[lists[i]] = 1;  // several may write the same 1
  BARRIER();
  int chunk = CHUNK(room);
  int from = least(id * chunk, room), to = least(from + chunk, room), count = 0;
  for (int t = from; t < to; t++) count += mark[t];
  here[id] = count;
  BARRIER();
  int at = sum_before(here, id);
  for (int t = from; t < to; t++)
    if (mark[t]) {
      needed[(size_t)s * share * k + at++] = t;
      mark[t] = 0;
    }
  if (id == WIDE - 1) counts[s] = at;
}

// residents (holders, slots): the token of each slot, or -1, changed in place. needed, places,
// missed, missed_slots: (holders, most). counts, misses: (holders). places[s, n] is the slot of
// needed[s, n]. Grid: (holders).
KERNEL(WIDE) plan_residency(GLOBAL int *residents, int slots, int reserved,
                            GLOBAL const int *needed, GLOBAL const int *counts, int most,
                            GLOBAL int *places, GLOBAL int *missed, GLOBAL int *missed_slots,
                            GLOBAL int *misses) {
  SHARED int here[WIDE];
  SHARED int total[1];
  int s = GROUP_ID(0), id = LOCAL_ID;
  GLOBAL int *resident = residents + (size_t)s * slots;
  GLOBAL const int *need = needed + (size_t)s * most;
  GLOBAL int *place = places + (size_t)s * most;
  GLOBAL int *miss = missed + (size_t)s * most;
  GLOBAL int *miss_slot = missed_slots + (size_t)s * most;
  int count = counts[s];

  // 1. Who stays keeps its slot, who is not needed goes.
  for (int n = id; n < count; n += WIDE) place[n] = -1;
  BARRIER();
  for (int slot = reserved + id; slot < slots; slot += WIDE)
    if (resident[slot] >= 0) {
      int n = place_of(need, count, resident[slot]);
      if (n >= 0) place[n] = slot;
      else resident[slot] = -1;
    }
  BARRIER();

  // 2. Missed tokens, in token order.
  int chunk = CHUNK(count);
  int from = least(id * chunk, count), to = least(from + chunk, count), mine = 0;
  for (int n = from; n < to; n++) mine += place[n] < 0;
  here[id] = mine;
  BARRIER();
  int at = sum_before(here, id);
  if (id == WIDE - 1) total[0] = at + mine;
  for (int n = from; n < to; n++)
    if (place[n] < 0) miss[at++] = need[n];
  BARRIER();
  int wanted = total[0];

  // 3. As many free slots, lowest first.
  chunk = CHUNK(slots - reserved);
  from = least(reserved + id * chunk, slots);
  to = least(from + chunk, slots);
  mine = 0;
  for (int slot = from; slot < to; slot++) mine += resident[slot] < 0;
  here[id] = mine;
  BARRIER();
  at = sum_before(here, id);
  for (int slot = from; slot < to && at < wanted; slot++)
    if (resident[slot] < 0) miss_slot[at++] = slot;
  BARRIER();

  // 4. They meet.
  for (int m = id; m < wanted; m += WIDE) {
    resident[miss_slot[m]] = miss[m];
    place[place_of(need, count, miss[m])] = miss_slot[m];
  }
  if (id == 0) misses[s] = wanted;
}

// The slots of what each head attends to, in ascending token order: its selected tokens, then
// `ring` tokens of the ring, oldest in slot `oldest`. where: (H, stride), stride >= k + ring.
// Grid: ((k + ring) / GROUP rounded up, H).
KERNEL(GROUP) attended_slots(GLOBAL const int *chosen, int k, int share, GLOBAL const int *needed,
                             GLOBAL const int *counts, int most, GLOBAL const int *places,
                             int oldest, int ring, int capacity, GLOBAL int *where, int stride) {
  int h = GROUP_ID(1), i = GROUP_ID(0) * GROUP + LOCAL_ID, s = h / share;
  if (i < k) {
    size_t row = (size_t)s * most;
    where[(size_t)h * stride + i] =
        places[row + place_of(needed + row, counts[s], chosen[(size_t)h * k + i])];
  } else if (i < k + ring) {
    where[(size_t)h * stride + i] = (oldest + i - k) % capacity;
  }
}
