// Two pictures over all steps, one below the other: the map and the bytes.
//
// In:  a trace, a layer, a head.
// Out: the map: a column for each step, a row for each part of the text; and bars of bytes. Both
//      have the same steps at the same places, and a cursor over the present one.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Red, green and blue of a #rrggbb. */
const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** The canvas, as many pixels wide and high as it is shown. */
function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  return canvas.getContext("2d");
}

/**
 * Every step's attended tokens: the more of a part of the text, the stronger its colour. One token
 * of a part is to be seen as well, so the weakest colour is a third of the strongest.
 */
function drawMap(canvas, trace, layer, head) {
  const context = fitted(canvas);
  const rows = Math.min(trace.tokens, 208);
  const image = new ImageData(trace.steps, rows);
  const hues = ["--raised", "--recent-line", "--held-line", "--hit-line", "--miss-line"]
    .map((name) => channels(colour(name)));
  const sizes = new Uint32Array(rows);
  const rowOf = (token) => Math.floor((token * rows) / trace.tokens);
  for (let token = 0; token < trace.tokens; token++) sizes[rowOf(token)]++;
  const counts = new Uint32Array(rows * 5);
  for (let step = 1; step <= trace.steps; step++) {
    counts.fill(0);
    const fates = fatesAt(trace, step, layer, head);
    for (let token = 0; token < fates.length; token++) {
      if (fates[token]) counts[rowOf(token) * 5 + fates[token]]++;
    }
    for (let row = 0; row < rows; row++) {
      const own = counts.subarray(row * 5, row * 5 + 5);
      const total = own[1] + own[2] + own[3] + own[4];
      const strength = total === 0 ? 0 : (1 + (2 * total) / sizes[row]) / 3;
      for (let c = 0; c < 3; c++) {
        let mixed = 0;
        for (let fate = 1; fate < 5; fate++) mixed += (own[fate] / (total || 1)) * hues[fate][c];
        image.data[(row * trace.steps + step - 1) * 4 + c] =
          strength * mixed + (1 - strength) * hues[0][c];
      }
      image.data[(row * trace.steps + step - 1) * 4 + 3] = 255;
    }
  }
  const small = document.createElement("canvas");
  [small.width, small.height] = [image.width, image.height];
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** The colours of the two directions. */
const DIRECTIONS = [
  ["host_to_device", "--miss-line", "to the device"],
  ["device_to_host", "--recent-line", "to the host"],
];

/** Bytes that each step moved, to the device upwards from the line, to the host on top of it. */
function drawBytes(canvas, trace, most) {
  const context = fitted(canvas);
  const { width, height } = canvas;
  for (let step = 1; step <= trace.steps; step++) {
    const [left, right] = [step - 1, step].map((s) => Math.floor((s * width) / trace.steps));
    let bottom = height;
    for (const [direction, name] of DIRECTIONS) {
      const bar = (movedBytes(trace, step, direction) / (most || 1)) * (height - 2);
      context.fillStyle = colour(name);
      const gap = right - left > 4 ? 1 : 0;
      context.fillRect(left, bottom - bar, Math.max(1, right - left - gap), bar);
      bottom -= bar;
    }
  }
}

/** The most that any step of these traces moved. */
function mostMoved(list) {
  let most = 0;
  for (const trace of list) {
    for (let step = 1; step <= trace.steps; step++) {
      most = Math.max(most, DIRECTIONS.reduce((sum, [d]) => sum + movedBytes(trace, step, d), 0));
    }
  }
  return most;
}

/** Puts a cursor over a step. */
function moveCursor(cursor, trace, step) {
  cursor.hidden = step > trace.steps;
  cursor.style.left = `${((step - 1) / trace.steps) * 100}%`;
  cursor.style.width = `${100 / trace.steps}%`;
}
