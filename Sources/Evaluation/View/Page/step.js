// What one step says: which tokens a head attends to, and how their rows came to be there.
//
// In:  a trace, a step from 1, a layer, a head (-1: any head of the layer).
// Out: a fate for every token, and counts.
//
// A row holder is a query head, or the query heads of one key/value head. Its rows in slots are the
// attended tokens older than the ring, of all its heads together: those of the step before are
// hits, the others were fetched. What the cache counted is in the trace as well; a cache that
// copies every row anew counts no hits, and then every row was fetched.

const FATE = { none: 0, recent: 1, held: 2, hit: 3, miss: 4 };
const FATE_NAMES = ["not attended to", "recent", "kept", "hit", "fetched"];
const FATE_CLASSES = ["", "recent", "held", "hit", "miss"];

/** Whether the trace says which rows came: where some did, its slots say it. */
function isTold(trace, step, layer) {
  const { slots, hits, misses } = trace.layers[layer];
  return Boolean(slots) || hits[step - 1] + misses[step - 1] === 0;
}

/** A fate in words. */
const fateName = (trace, step, layer, fate) =>
  fate === FATE.held && !isTold(trace, step, layer) ? "attended to" : FATE_NAMES[fate];

/** Tokens of the sequence when step `step` attends, the new one included. */
const lengthAt = (trace, step) => trace.prompt_tokens + step;

/** The first token of the ring. */
const ringStart = (trace, step) => Math.max(0, lengthAt(trace, step) - trace.recent_tokens);

/** The query heads of the holder that serves `head`. */
function holderHeads(trace, layer, head) {
  const heads = trace.heads[layer].length;
  const slots = trace.layers[layer].slots;
  const size = slots ? heads / slots.length : 1;
  const first = Math.floor(head / size) * size;
  return Array.from({ length: size }, (_, i) => first + i);
}

/** Which tokens lie in the slots of the holder that serves `head`, at the end of `step`. */
function slotsAt(trace, step, layer, head) {
  const there = new Uint8Array(trace.tokens);
  const heads = holderHeads(trace, layer, head);
  if (step === 0) {
    for (const token of trace.layers[layer].slots[heads[0] / heads.length]) there[token] = 1;
    return there;
  }
  const end = ringStart(trace, step);
  for (const h of heads) {
    const set = trace.heads[layer][h].set.at(step);
    for (let token = 0; token < end; token++) there[token] |= set[token];
  }
  return there;
}

/** The fate of every token in `step` for one head. */
function fatesOfHead(trace, step, layer, head) {
  const { slots, hits, misses } = trace.layers[layer];
  const counted = hits[step - 1] + misses[step - 1] > 0;
  const moves = slots && counted ? (hits[step - 1] === 0 ? "all" : "missed") : "none";
  const before = moves === "missed" ? slotsAt(trace, step - 1, layer, head) : null;
  const set = trace.heads[layer][head].set.at(step);
  const ring = slots ? ringStart(trace, step) : trace.tokens;
  const fates = new Uint8Array(trace.tokens);
  for (let token = 0; token < fates.length; token++) {
    if (!set[token]) continue;
    fates[token] = token >= ring ? FATE.recent
      : moves === "none" ? FATE.held : moves === "all" || !before[token] ? FATE.miss : FATE.hit;
  }
  return fates;
}

/** The same for a head, or for the layer: the largest fate that a token has for any head. */
function fatesAt(trace, step, layer, head) {
  if (head >= 0) return fatesOfHead(trace, step, layer, head);
  const all = new Uint8Array(trace.tokens);
  for (let h = 0; h < trace.heads[layer].length; h++) {
    const fates = fatesOfHead(trace, step, layer, h);
    for (let token = 0; token < all.length; token++) all[token] = Math.max(all[token], fates[token]);
  }
  return all;
}

/** How many tokens have each fate. */
function countFates(fates) {
  const counts = [0, 0, 0, 0, 0];
  for (const fate of fates) counts[fate]++;
  return counts;
}

/** Bytes that a step moved one way. */
const movedBytes = (trace, step, direction) =>
  trace.moved.filter((m) => m.direction === direction).reduce((sum, m) => sum + m.bytes[step], 0);

/** 1,234,567 as people read it. */
const grouped = (n) => Math.round(n).toLocaleString("en-US");

/** Bytes with a unit. */
function bytesText(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit++) count /= 1024;
  return unit === 0 ? `${count} B` : `${count.toFixed(2)} ${units[unit]}`;
}
