// What changes with every choice: the sentence's colours, the map, its numbers, the controls.

function drawSentence() {
  const view = shown();
  const values = patchValues(view);
  const signed = values !== null && mapOf(view).signed;
  const scale = { high: Math.max(...(values ?? []).filter(Number.isFinite).map(Math.abs), 0) };
  document.querySelectorAll("#sentence .word").forEach((button, i) => {
    button.setAttribute("aria-pressed", String(i === state.word));
    button.tabIndex = i === state.word ? 0 : -1;
    button.classList.toggle("looked", i === view.word);
    button.title = values ? `${number(values[i])} on this patch` : "";
    if (values && Number.isFinite(values[i])) tint(button, values[i], scale, signed);
    else clearTint(button);
  });
}

// What each word's map has at the patch that is looked at, or null.
function patchValues(view) {
  if (view.patch === null || opened.kinds[view.kind].query !== "word") return null;
  return wordMaps(view).map((map) => map.values[view.patch]);
}

function drawStage() {
  const view = shown();
  const canvas = byId("overlay");
  const patchy = opened.kinds[view.kind].query === "patch";
  const { width, height } = opened.pixels;
  document.querySelector(".stage").style.setProperty("--aspect", width / height);
  byId("frame").classList.toggle("pixels", width > 2 * opened.image.naturalWidth - 1);
  const empty = !opened.about.words.length && !patchy;
  document.querySelector(".scale").hidden = empty;
  byId("side").hidden = empty && opened.kinds.every((kind) => kind.query === "word");
  if (empty) {
    for (const id of ["what", "numbers", "readout"]) byId(id).replaceChildren();
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(new ImageData(opened.pixels.rgba, width, height), 0, 0);
    canvas.setAttribute("aria-label", "the image; the caption has no word");
    return;
  }
  const map = mapOf(view);
  const scale = scaleIn(view, map);
  paint(canvas, opened.pixels, map, drawing(view, scale));
  canvas.setAttribute("aria-label", `${subject(view)}, ${placeOf(view)}: ${inWords(map)}`);
  drawPatches(view);
  drawScale(scale, map);
  drawNumbers(view, map);
  drawReadout(view, map);
}

// Frames of the patch that is kept and of the one under the pointer, and the borders of all.
function drawPatches(view) {
  const { size, box, grid } = opened.about;
  const [top, left, bottom, right] = box;
  const place = (made, row, column, rows, columns) => {
    const [h, w] = [(bottom - top) / grid[0], (right - left) / grid[1]];
    made.style.top = `${((top + row * h) / size[0]) * 100}%`;
    made.style.left = `${((left + column * w) / size[1]) * 100}%`;
    made.style.height = `${((rows * h) / size[0]) * 100}%`;
    made.style.width = `${((columns * w) / size[1]) * 100}%`;
  };
  const lines = byId("lines");
  lines.hidden = false;
  place(lines, 0, 0, ...grid);
  lines.style.backgroundSize = `${100 / grid[1]}% ${100 / grid[0]}%`;
  // Borders of small patches would hide the map.
  lines.hidden = lines.clientWidth / grid[1] < 10 || lines.clientHeight / grid[0] < 10;
  for (const [id, patch] of [["pinned", state.patch], ["pointed", preview.patch ?? null]]) {
    byId(id).hidden = patch === null;
    if (patch !== null) place(byId(id), Math.floor(patch / grid[1]), patch % grid[1], 1, 1);
  }
}

function drawScale(scale, map) {
  byId("low").textContent = number(scale.low);
  byId("high").textContent = number(scale.high);
  paintRamp(byId("ramp"), map.signed);
}

function drawNumbers(view, map) {
  const even = Math.round(2 ** map.entropy);
  byId("what").replaceChildren(element("b", { dir: "auto" }, subject(view)), ` · ${placeOf(view)}`);
  const rows = [
    ["peak", number(map.peak)],
    [map.signed ? "sum" : "mass", number(map.mass)],
    ["entropy", Number.isFinite(map.entropy)
      ? `${map.entropy.toFixed(1)} bits, as ${even} even patches` : "–"],
  ];
  const pair = (name, value) => [element("dt", {}, name), element("dd", {}, value)];
  byId("numbers").replaceChildren(...rows.map((row) => element("div", {}, ...pair(...row))));
  const odd = oddities(map);
  byId("flags").hidden = !odd.length;
  byId("flags").textContent = odd.join("; ");
}

// The patch that is looked at: its value, and the words that looked at it most.
function drawReadout(view, map) {
  const line = byId("readout");
  if (view.patch === null) {
    line.textContent = "Point at a patch for its value; click it to see which words looked at it.";
    return;
  }
  const value = map.values[view.patch];
  const mean = map.mass / map.values.length;
  const times = mean > 0 && !map.signed ? `, ${number(value / mean)} × the mean patch` : "";
  const parts = [`${patchName(view.patch)}: ${number(value)}${times}.`];
  const values = patchValues(view);
  if (values) {
    const order = values.map((_, i) => i).filter((i) => values[i] > 0);
    order.sort((a, b) => values[b] - values[a]);
    const most = order.slice(0, 3).map((i) => `${apart(opened.about.words[i])} ${number(values[i])}`);
    if (most.length) parts.push(`Looked at most by: ${most.join(", ")}.`);
  }
  line.textContent = parts.join(" ");
}

function drawControls() {
  const view = chosen();
  const kind = opened.kinds[state.kind];
  const layers = kind.layers.map((name, i) => [i, `${numbered(name, i)}  (${name})`]);
  fillChosen("layer", [...layers, ["", "mean of all layers"]], view.layer, kind.layers.length > 0);
  const heads = [...Array(kind.heads).keys()].map((head) => [head, String(head)]);
  fillChosen("head", [["", "mean over heads"], ...heads], view.head, kind.heads > 0);
  byId("kind").value = state.kind;
  byId("shared").value = state.shared ? "1" : "";
  byId("smooth").value = state.smooth ? "1" : "";
  byId("opacity").value = state.opacity;
}

function fillChosen(id, options, chosen, usable) {
  const select = byId(id);
  const key = JSON.stringify(options);
  if (select.dataset.options !== key) {
    fill(select, options);
    select.dataset.options = key;
  }
  select.value = chosen === null ? "" : chosen;
  select.disabled = !usable;
}
