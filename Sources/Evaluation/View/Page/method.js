// One method's part of the page: numbers, text, table, and what a screen reader hears of it.
//
// In:  a trace, the present step, layer and head (`shown`), and what step.js and pictures.js make of
//      them.
// Out: a section of the document.

const element = (id) => document.getElementById(id);
const steps = Math.max(...traces.map((trace) => trace.steps));
const shown = { step: 1, layer: 0, head: 0 };

/** A new element with text and a class. */
function made(name, text = "", className = "") {
  const node = document.createElement(name);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}

/** A token's text, so that blanks and line breaks can be seen. */
const visibleText = (piece) => piece.replaceAll("\n", "↵").replaceAll(" ", "·") || "∅";

/** Scores and shares as people read them. */
const scoreText = (trace, score) => (score * trace.score_step).toFixed(2);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** One method's part of the page. */
class MethodView {
  constructor(trace, name) {
    this.trace = trace;
    this.node = element("method").content.cloneNode(true).firstElementChild;
    this.find = (selector) => this.node.querySelector(selector);
    this.find("h2").textContent = trace.name;
    this.find(".options").textContent = trace.cache.replaceAll(",", ", ");
    this.node.setAttribute("aria-label", `${name}${trace.name}`);
    const text = this.find(".text");
    this.spans = trace.pieces.map((piece, token) => {
      const span = made("span", piece, "t");
      span.title = `token ${token}`;
      text.append(span);
      return span;
    });
    this.spans.slice(trace.prompt_tokens).forEach((span) => span.classList.add("answer"));
    this.classes = this.spans.map(() => "");
    this.numbers = {};
    for (const [key, label] of [
      ["attended", "attended to"], ["recent", "recent"], ["hits", "hits"], ["misses", "fetched"],
      ["mass", "of exact attention"], ["found", "among the best"],
      ["moved", "moved in this step"], ["device", "on the device"], ["host", "on the host"],
    ]) {
      const box = made("div");
      this.numbers[key] = made("dd");
      this.numbers[key].dataset.value = key;
      box.append(made("dt", label), this.numbers[key]);
      this.find(".numbers").append(box);
    }
    for (const frame of this.node.querySelectorAll(".frame")) {
      frame.addEventListener("click", (event) => {
        const box = frame.getBoundingClientRect();
        go(1 + Math.floor(((event.clientX - box.left) / box.width) * trace.steps));
      });
    }
    this.tellBytes();
  }

  /** The sentence and the legend of the bytes. */
  tellBytes() {
    const trace = this.trace;
    const sum = (direction) => {
      let total = 0;
      for (let step = 1; step <= trace.steps; step++) total += movedBytes(trace, step, direction);
      return total;
    };
    this.find(".bytes figcaption").textContent =
      `Bytes that each step moved; the frame is ${bytesText(mostMoved(traces))} high`;
    for (const [direction, name, words] of DIRECTIONS) {
      const item = made("li");
      const box = made("i");
      box.style.background = `var(${name})`;
      item.append(box, `${words}: ${bytesText(sum(direction))} in ${trace.steps} steps`);
      this.find(".series").append(item);
    }
  }

  /** What does not depend on the step. */
  drawAll() {
    const { layer, head } = shown;
    drawMap(this.find(".map canvas"), this.trace, layer, head);
    drawBytes(this.find(".bytes canvas"), this.trace, mostMoved(traces));
    const who = head < 0 ? "any head" : `head ${head}`;
    this.find(".map canvas").setAttribute(
      "aria-label", `Map of all ${this.trace.steps} steps, layer ${layer}, ${who}`);
    this.find(".bytes canvas").setAttribute(
      "aria-label", this.find(".bytes figcaption").textContent);
  }

  /** Everything about one step. */
  draw() {
    const { trace } = this;
    for (const cursor of this.node.querySelectorAll(".cursor")) {
      moveCursor(cursor, trace, shown.step);
    }
    const step = Math.min(shown.step, trace.steps);
    this.fates = fatesAt(trace, step, shown.layer, shown.head);
    this.drawNumbers(step);
    this.drawText(step);
    this.drawTable(step);
  }

  drawNumbers(step) {
    const { trace, numbers } = this;
    const heads = trace.heads[shown.layer];
    const { hits, misses } = trace.layers[shown.layer];
    const counts = countFates(this.fates);
    const older = ringStart(trace, step);
    const list = shown.head < 0 ? heads : [heads[shown.head]];
    const mean = (of) => list.reduce((sum, head) => sum + of(head), 0) / list.length;
    let chosen = 0;
    for (const head of list) {
      const set = head.set.at(step);
      for (let token = 0; token < older; token++) chosen += set[token];
    }
    const found = list.reduce((sum, head) => sum + head.scores[step - 1].found, 0);
    const attended = trace.tokens - counts[FATE.none];
    numbers.attended.textContent = `${grouped(attended)} of ${grouped(lengthAt(trace, step))}`;
    numbers.recent.textContent = grouped(counts[FATE.recent]);
    // One head has hits of its own; the layer's are those that the cache counted for all holders.
    numbers.hits.textContent =
      shown.head < 0 ? grouped(hits[step - 1]) : this.rowsText(step, counts[FATE.hit]);
    numbers.misses.textContent =
      shown.head < 0 ? grouped(misses[step - 1]) : this.rowsText(step, counts[FATE.miss]);
    numbers.mass.textContent =
      percent(mean((head) => head.scores[step - 1].mass) * trace.share_step);
    numbers.found.textContent = `${grouped(found)} of ${grouped(chosen)}`;
    numbers.moved.textContent = bytesText(
      DIRECTIONS.reduce((sum, [direction]) => sum + movedBytes(trace, step, direction), 0));
    numbers.device.textContent = bytesText(trace.device[step]);
    numbers.host.textContent = bytesText(trace.host[step]);
  }

  /** Rows of one head. */
  rowsText(step, rows) {
    return isTold(this.trace, step, shown.layer) ? grouped(rows) : "not told";
  }

  drawText(step) {
    const { trace, fates, spans, classes } = this;
    const length = lengthAt(trace, step);
    const best = new Set();
    if (shown.head >= 0) {
      for (const b of trace.heads[shown.layer][shown.head].scores[step - 1].best) best.add(b.token);
    }
    for (let token = 0; token < spans.length; token++) {
      let name = token >= length ? "later" : FATE_CLASSES[fates[token]];
      if (best.has(token)) name += " best";
      if (token === length - 1) name += " new";
      if (name === classes[token]) continue;
      classes[token] = name;
      spans[token].className = `t ${name}${token >= trace.prompt_tokens ? " answer" : ""}`;
    }
    if (element("follow").checked) {
      const box = this.find(".text");
      const span = spans[length - 1];
      const reach = Math.min(box.clientHeight - 40, 320);  // a tall box may end below the window
      if (span.offsetTop < box.scrollTop || span.offsetTop > box.scrollTop + reach) {
        box.scrollTop = span.offsetTop - reach + 20;
      }
    }
  }

  drawTable(step) {
    const table = this.find("table");
    table.replaceChildren();
    if (shown.head < 0) this.fillHeads(table, step); else this.fillScores(table, step);
  }

  /** The tokens with the largest exact scores. */
  fillScores(table, step) {
    const { trace } = this;
    const { norm, best } = trace.heads[shown.layer][shown.head].scores[step - 1];
    table.append(made("caption", "The largest exact scores q · k / √d, and what became of them"));
    table.append(headRow(["token", "place", "exact", "own score", "attention", "fate"]));
    const body = table.createTBody();
    for (const { token, exact, own } of best) {
      const share = Math.exp((exact - norm) * trace.score_step);
      const row = body.insertRow();
      const name = made("th", visibleText(trace.pieces[token]));
      name.scope = "row";
      const bar = made("span", "", "bar");
      bar.style.width = `${(5 * share).toFixed(2)}rem`;
      const attention = made("td", percent(share).padStart(7, "\u2007"), "share");
      attention.append(bar);
      row.append(
        name, made("td", grouped(token)), made("td", scoreText(trace, exact)),
        made("td", own === null ? "none" : scoreText(trace, own)), attention,
        made("td", fateName(trace, step, shown.layer, this.fates[token])));
    }
  }

  /** Every head of the layer. */
  fillHeads(table, step) {
    const { trace } = this;
    table.append(made("caption", `The heads of layer ${shown.layer}`));
    table.append(headRow(["head", "attended to", "hits", "fetched", "of exact attention"]));
    const body = table.createTBody();
    trace.heads[shown.layer].forEach((head, h) => {
      const counts = countFates(fatesOfHead(trace, step, shown.layer, h));
      const row = body.insertRow();
      const name = made("th", `${h}`);
      name.scope = "row";
      row.append(name, ...[
        grouped(trace.tokens - counts[0]), this.rowsText(step, counts[FATE.hit]),
        this.rowsText(step, counts[FATE.miss]),
        percent(head.scores[step - 1].mass * trace.share_step),
      ].map((text) => made("td", text)));
    });
  }

  /** The step in a sentence. */
  sentence() {
    const n = this.numbers;
    const ended = shown.step > this.trace.steps ? " (its answer has ended)" : "";
    const rows = this.trace.layers[shown.layer].slots
      ? `${n.hits.textContent} hits, ${n.misses.textContent} fetched, ` : "";
    return `attends to ${n.attended.textContent} tokens, ${rows}`
      + `${n.mass.textContent} of exact attention${ended}`;
  }
}

function headRow(names) {
  const head = document.createElement("thead");
  const row = head.insertRow();
  for (const name of names) {
    const cell = made("th", name);
    cell.scope = "col";
    row.append(cell);
  }
  return head;
}
