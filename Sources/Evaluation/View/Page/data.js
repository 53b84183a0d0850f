// A packed trace, read: whole numbers out of bytes, sets of any step.
//
// In:  the JSON in the page (PackedTrace.swift says what is in its byte streams).
// Out: `traces`, each with `heads[layer][head]`: a set that walks from step to step, and scores.

/** The whole numbers of a Base64 stream of varints. */
function* varints(base64) {
  const bytes = atob(base64);
  let [number, place] = [0, 1];
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes.charCodeAt(i);
    number += (byte & 127) * place;
    place *= 128;
    if (byte < 128) {
      yield number;
      [number, place] = [0, 1];
    }
  }
}

/** 0, 1, 2, 3 as 0, -1, 1, -2. */
const unfolded = (n) => (n % 2 === 0 ? n / 2 : -(n + 1) / 2);

/** The attended tokens of one head: each step is a list of tokens that change sides. */
class WalkingSet {
  constructor(base64, steps, tokens) {
    const numbers = varints(base64);
    const next = () => numbers.next().value;
    this.changes = Array.from({ length: steps }, () => {
      const list = new Uint32Array(next());
      for (let i = 0, token = 0; i < list.length; i++, token++) list[i] = token += next();
      return list;
    });
    this.isThere = new Uint8Array(tokens);
    this.step = 0;
  }

  /** Whether each token is attended to in `step`, from 0 (nothing) on; valid until the next call. */
  at(step) {
    while (this.step < step) this.turn(this.changes[this.step++]);
    while (this.step > step) this.turn(this.changes[--this.step]);
    return this.isThere;
  }

  turn(changes) {
    for (const token of changes) this.isThere[token] ^= 1;
  }
}

/** By step: norm, mass, found, and the best tokens with their exact and their own scores. */
function readScores(base64, steps) {
  const numbers = varints(base64);
  const next = () => numbers.next().value;
  return Array.from({ length: steps }, () => {
    const step = { norm: unfolded(next()), mass: next(), found: next(), best: [] };
    let exact = step.norm;
    for (let left = next(); left > 0; left--) {
      const token = next();
      exact -= unfolded(next());
      const own = next();
      step.best.push({ token, exact, own: own === 0 ? null : exact + unfolded(own - 1) });
    }
    return step;
  });
}

/** One trace, with what is derived from it once. */
function readTrace(packed) {
  const steps = packed.device.length - 1;
  const trace = { ...packed, steps, tokens: packed.pieces.length };
  trace.heads = packed.layers.map((layer) =>
    layer.sets.map((set, h) => ({
      set: new WalkingSet(set, steps, trace.tokens),
      scores: readScores(layer.scores[h], steps),
    })));
  return trace;
}

const traces = JSON.parse(document.getElementById("data").textContent).map(readTrace);
