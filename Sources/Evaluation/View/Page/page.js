// The controls, which walk all methods through the same steps.
//
// In:  keys, clicks and changes of the form.
// Out: `shown`, drawn. Every control works by keyboard; what changes is said in one sentence.

const views = traces.map((trace, n) =>
  new MethodView(trace, traces.length > 1 ? `Method ${n + 1}: ` : ""));

/** Everything about the present step. */
function draw() {
  for (const view of views) view.draw();
  const { step, layer, head } = shown;
  element("step").value = step;
  element("where").textContent = `step ${step} of ${steps}`;
  element("step").setAttribute("aria-valuetext", `step ${step} of ${steps}`);
  const who = head < 0 ? "any head" : `head ${head}`;
  const first = traces[0];
  const token = visibleText(first.pieces[lengthAt(first, Math.min(step, first.steps)) - 1]);
  element("said").textContent = `Step ${step}, layer ${layer}, ${who}. `
    + views.map((view, n) => {
      const name = views.length > 1 ? `${n === 0 ? "First" : "Second"} method` : `“${token}”`;
      return `${name} ${view.sentence()}.`;
    }).join(" ");
}

function go(step) {
  shown.step = Math.min(steps, Math.max(1, step));
  draw();
}

/** Another layer or head: the maps are drawn anew as well. */
function choose(layer, head) {
  const layers = traces[0].heads.length;
  shown.layer = (layer + layers) % layers;
  const heads = traces[0].heads[shown.layer].length;
  if (element("head").options.length !== heads + 1) {
    element("head").replaceChildren(new Option("any", "-1"), ...Array.from(
      { length: heads }, (_, h) => new Option(`${h}`, `${h}`)));
  }
  // From "any", -1, to the last head and around.
  shown.head = ((head + 1 + heads + 1) % (heads + 1)) - 1;
  element("layer").value = shown.layer;
  element("head").value = shown.head;
  for (const view of views) view.drawAll();
  draw();
}

let playing = null;
function play(start) {
  clearInterval(playing);
  playing = null;
  if (start) {
    if (shown.step === steps) go(1);
    playing = setInterval(() => (shown.step < steps ? go(shown.step + 1) : play(false)), 250);
  }
  element("play").textContent = start ? "Pause" : "Play";
  element("play").setAttribute("aria-pressed", start);
  element("said").setAttribute("aria-live", start ? "off" : "polite");
}

const keys = {
  ArrowLeft: () => go(shown.step - 1),
  ArrowRight: () => go(shown.step + 1),
  PageUp: () => go(shown.step - 10),
  PageDown: () => go(shown.step + 10),
  Home: () => go(1),
  End: () => go(steps),
  l: () => choose(shown.layer + 1, shown.head),
  L: () => choose(shown.layer - 1, shown.head),
  h: () => choose(shown.layer, shown.head + 1),
  H: () => choose(shown.layer, shown.head - 1),
  p: () => play(playing === null),
  "?": () => { element("help").open = !element("help").open; },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // Lists, scrolling texts and the slider keep the keys that are theirs.
  const target = event.target;
  const moves = event.key.length > 1;
  if (target.matches("select")) return;
  if (moves && target.matches("input[type=range], .text, .table")) return;
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
element("step").addEventListener("input", () => go(Number(element("step").value)));
element("back").addEventListener("click", () => go(shown.step - 1));
element("forward").addEventListener("click", () => go(shown.step + 1));
element("play").addEventListener("click", () => play(playing === null));
element("layer").addEventListener(
  "change", () => choose(Number(element("layer").value), shown.head));
element("head").addEventListener(
  "change", () => choose(shown.layer, Number(element("head").value)));
const redraw = () => choose(shown.layer, shown.head);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", redraw);

element("subject").textContent =
  `${traces[0].model}, ${grouped(traces[0].prompt_tokens)} tokens of prompt, `
  + `${steps} steps, ${traces[0].heads.length} layers. Written by lrqk view.`;
element("main").classList.toggle("two", traces.length > 1);
element("main").append(...views.map((view) => view.node));
element("step").max = steps;
element("layer").append(...traces[0].heads.map((_, n) => new Option(`${n}`, `${n}`)));
choose(0, 0);
