// The page of a decision: what argued for the class that is chosen, in images and in words.

const state = {
  decision: 0, head: 0, place: 0, relative: false, shared: false, smooth: true, opacity: 0.8,
};
// What the pointer rests on goes before what was chosen.
let preview = {};
// The decision that is open: its JSON, tables and images.
let opened = null;

const shown = () => ({ ...state, ...preview });
const modulo = (value, length) => ((value % length) + length) % length;

// ---- numbers

// Less the mean over classes: there must be several, and labels of words have no mean.
function comparable(head) {
  return head.classes.length > 1 && head.classes[0].word === null;
}

function mapIn(table, head, place, relative) {
  const map = opened.tables.row(table, place);
  if (!relative || !comparable(head)) return map;
  return lessMean(map, head.classes.map((_, other) => opened.tables.row(table, other)));
}

// The maps of the chosen class: of each image, of the words and of the tokens.
function mapsOf(view, place = view.place) {
  const head = opened.about.heads[view.head];
  const one = (table) => table && mapIn(table, head, place, view.relative);
  return { images: head.images.map(one), words: one(head.words), tokens: one(head.tokens) };
}

// The ends of the colours: of this class, or of all classes of its head.
function scalesOf(view) {
  const { classes } = opened.about.heads[view.head];
  const all = view.shared ? classes.map((_, place) => mapsOf(view, place)) : [mapsOf(view)];
  const words = all.map((maps) => maps.words).filter(Boolean);
  const tokens = all.map((maps) => maps.tokens).filter(Boolean);
  const largest = (maps) =>
    Math.max(0, ...maps.flatMap(({ values }) => [...values].filter(Number.isFinite).map(Math.abs)));
  const images = all.flatMap((maps) => maps.images);
  return {
    images: images.length ? scaleOf(images) : null,
    words: { high: largest(words) },
    tokens: { high: largest(tokens) },
  };
}

// ---- drawing

function drawClasses(view) {
  document.querySelectorAll(".class").forEach((button) => {
    const [head, place] = [Number(button.dataset.head), Number(button.dataset.place)];
    const isChosen = head === state.head && place === state.place;
    button.setAttribute("aria-pressed", String(isChosen));
    button.tabIndex = isChosen ? 0 : -1;
    button.classList.toggle("looked", head === view.head && place === view.place);
  });
}

// A word or token without relevance stays as it is; where values have signs they have two colours.
function shade(made, value, scale, signed) {
  if (signed) {
    tint(made, value, scale, true);
    return;
  }
  const share = scale.high > 0 && Number.isFinite(value) ? value / scale.high : 0;
  made.style.backgroundColor = `rgb(217 95 2 / ${Math.round(75 * share)}%)`;
  made.style.color = "";
}

function drawWords(maps, scale) {
  document.querySelectorAll("#sentence .part").forEach((part, i) => {
    part.title = number(maps.words.values[i]);
    shade(part, maps.words.values[i], scale, maps.words.signed);
  });
}

function drawTokens(maps, scale) {
  const { tokens } = opened.about;
  const rows = tokens.map((token, i) => {
    const value = element("td", {}, number(maps.tokens.values[i]));
    shade(value, maps.tokens.values[i], scale, maps.tokens.signed);
    return element("tr", {}, element("td", { dir: "auto" }, token || "(part of a character)"), value);
  });
  byId("tokens").querySelector("table").replaceChildren(...rows);
}

function drawImages(view, maps, scale) {
  document.querySelectorAll(".frame canvas").forEach((canvas, m) => {
    const { placed } = opened.images[m];
    const { grid } = opened.about;
    const how = { placed, grid, scale, smooth: view.smooth, alpha: view.opacity };
    paint(canvas, opened.images[m].pixels, maps.images[m], how);
    canvas.setAttribute("aria-label", `${opened.images[m].name}: ${inWords(maps.images[m])}`);
  });
  byId("low").textContent = number(scale.low);
  byId("high").textContent = number(scale.high);
  paintRamp(byId("ramp"), maps.images.some((map) => map.signed));
}

function inWords(map) {
  return `peak ${number(map.peak)}, sum ${number(map.mass)}`;
}

function drawNumbers(view, maps) {
  const rows = maps.images.map((map, m) => [imageName(m), inWords(map)]);
  if (maps.words) rows.push(["words", inWords(maps.words)]);
  if (maps.tokens) {
    rows.push(["begin and end", number(maps.tokens.mass - (maps.words?.mass ?? 0))]);
  }
  const pair = (name, value) => [element("dt", {}, name), element("dd", {}, value)];
  byId("numbers").replaceChildren(...rows.map((row) => element("div", {}, ...pair(...row))));
  byId("what").replaceChildren(element("b", { dir: "auto" }, subject(view)), ` · ${placeOf(view)}`);
  const odd = maps.images.flatMap((map, m) => oddities(map).map((said) => `${imageName(m)}: ${said}`));
  byId("flags").hidden = !odd.length;
  byId("flags").textContent = odd.join("; ");
}

function imageName(m) {
  return opened.images.length > 1 ? `image ${m + 1}` : "image";
}

function subject(view) {
  const { label, probability, word } = opened.about.heads[view.head].classes[view.place];
  return `${word === null ? "" : `${word}: `}${label} ${probability.toFixed(3)}`;
}

function placeOf(view) {
  const head = opened.about.heads[view.head];
  const what = view.relative && comparable(head) ? "less the mean over classes" : "relevance";
  return `${head.name}, ${what}`;
}

// The patch under the pointer: its value, and how it compares.
function drawReadout(view, maps) {
  const line = byId("readout");
  line.hidden = !maps.images.length;
  if (!view.patch) {
    line.textContent = "Point at a patch for its value.";
    return;
  }
  const { image, patch } = view.patch;
  const [map, w] = [maps.images[image], opened.about.grid[1]];
  const value = map.values[patch];
  const mean = map.mass / map.values.length;
  const times = mean > 0 && !map.signed ? `, ${number(value / mean)} × the mean patch` : "";
  const where = `row ${Math.floor(patch / w)}, column ${patch % w}`;
  line.textContent = `${imageName(image)}, ${where}: ${number(value)}${times}.`;
}

function drawControls() {
  byId("relative").value = state.relative ? "1" : "";
  byId("relative").disabled = !comparable(opened.about.heads[state.head]);
  byId("shared").value = state.shared ? "1" : "";
  byId("smooth").value = state.smooth ? "1" : "";
  byId("opacity").value = state.opacity;
}

// Many changes in one frame are one drawing.
let waiting = false;
let drawings = 0;

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const view = shown();
    const [maps, scales] = [mapsOf(view), scalesOf(view)];
    drawClasses(view);
    if (maps.words) drawWords(maps, scales.words);
    if (maps.tokens) drawTokens(maps, scales.tokens);
    if (maps.images.length) drawImages(view, maps, scales.images);
    drawNumbers(view, maps);
    drawReadout(view, maps);
    drawControls();
    document.documentElement.dataset.drawn = String(++drawings); // for those who wait for one
  });
}

// ---- choosing

function choose(changes) {
  Object.assign(state, changes);
  preview = {};
  draw();
  byId("spoken").textContent = `${subject(state)}, ${placeOf(state)}`;
}

// Look at something while a mouse rests on it; a finger chooses at once.
function look(event, changes) {
  if (event.pointerType !== "mouse") return;
  preview = changes;
  draw();
}

function moveClass(by) {
  const all = opened.about.heads.flatMap(({ classes }, head) =>
    classes.map((_, place) => ({ head, place })),
  );
  const at = all.findIndex(({ head, place }) => head === state.head && place === state.place);
  choose(all[modulo(at + by, all.length)]);
  const held = document.activeElement?.classList.contains("class");
  if (held) document.querySelectorAll(".class")[modulo(at + by, all.length)].focus();
}

function patchAt(event, m) {
  const { size, box } = opened.images[m].placed;
  const [h, w] = opened.about.grid;
  const area = event.target.getBoundingClientRect();
  const y = ((event.clientY - area.top) / area.height) * size[0];
  const x = ((event.clientX - area.left) / area.width) * size[1];
  const row = Math.floor(((y - box[0]) / (box[2] - box[0])) * h);
  const column = Math.floor(((x - box[1]) / (box[3] - box[1])) * w);
  const inside = row >= 0 && row < h && column >= 0 && column < w;
  return inside ? { patch: { image: m, patch: row * w + column } } : {};
}

let opacityBefore = 0.8;

function toggleImages() {
  if (state.opacity) opacityBefore = state.opacity;
  choose({ opacity: state.opacity ? 0 : opacityBefore });
}

function changeOpacity(by) {
  choose({ opacity: Math.max(0, Math.min(1, Math.round((state.opacity + by) * 20) / 20)) });
}

// It opens at its top, and not at its first button.
function openHelp() {
  byId("help").showModal();
  byId("help-title").focus();
}

const KEYS = {
  ArrowUp: () => moveClass(-1),
  ArrowDown: () => moveClass(1),
  k: () => choose({ relative: !state.relative }),
  s: () => choose({ shared: !state.shared }),
  i: () => choose({ smooth: !state.smooth }),
  o: toggleImages,
  "-": () => changeOpacity(-0.1),
  "+": () => changeOpacity(0.1),
  "=": () => changeOpacity(0.1),
  ",": () => show(state.decision - 1),
  ".": () => show(state.decision + 1),
  "?": openHelp,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !opened || byId("help").open) return;
  // Lists and sliders have their own use for arrows and letters.
  if (["SELECT", "INPUT"].includes(event.target.tagName) || !(event.key in KEYS)) return;
  KEYS[event.key]();
  event.preventDefault();
}

function watchControls() {
  const changes = {
    relative: (value) => ({ relative: Boolean(value) }),
    shared: (value) => ({ shared: Boolean(value) }),
    smooth: (value) => ({ smooth: Boolean(value) }),
    opacity: (value) => ({ opacity: Number(value) }),
  };
  for (const [id, changed] of Object.entries(changes)) {
    byId(id).addEventListener("input", (event) => choose(changed(event.target.value)));
  }
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("open-help").addEventListener("click", openHelp);
  document.addEventListener("keydown", onKey);
}

// ---- what changes with the decision alone

function buildText({ text, words, between, images }) {
  for (const id of ["smooth", "opacity"]) byId(id).parentElement.hidden = !images.length;
  byId("text").hidden = text === null;
  byId("tokens").hidden = text === null;
  const parts = [between[0]];
  words.forEach((word, i) => parts.push(element("span", { class: "part" }, word), between[i + 1]));
  if (!words.length) parts.push(element("em", { class: "faint" }, "The text has no words."));
  byId("sentence").replaceChildren(...parts);
}

function buildImages({ images }) {
  const frames = images.map(({ name, size }, m) => {
    const { pixels, image } = opened.images[m];
    const canvas = element("canvas", {
      role: "img",
      pointermove: (event) => look(event, patchAt(event, m)),
      pointerleave: (event) => look(event, {}),
    });
    const said = `${images.length > 1 ? `${name}, ` : ""}${size[1]} × ${size[0]} px`;
    const frame = element("figure", { class: "frame" }, canvas, element("figcaption", {}, said));
    frame.classList.toggle("pixels", pixels.width > 2 * image.naturalWidth - 1);
    return frame;
  });
  const box = byId("frames");
  box.replaceChildren(...frames);
  box.classList.toggle("single", frames.length === 1);
  if (frames.length === 1) {
    const { width, height } = opened.images[0].pixels;
    document.querySelector(".stage").style.setProperty("--aspect", width / height);
  }
  document.querySelector(".scale").hidden = !frames.length;
}

function buildClasses({ heads }) {
  const parts = heads.flatMap(({ name, classes }, head) => [
    element("h2", {}, name),
    ...classes.map(({ label, probability, word, right }, place) => {
      const bar = element("span", { class: "bar" });
      bar.style.width = `${100 * probability}%`;
      const changes = { head, place };
      return element(
        "button",
        {
          type: "button",
          class: "class",
          "data-head": head,
          "data-place": place,
          click: () => choose(changes),
          pointerenter: (event) => look(event, changes),
          pointerleave: (event) => look(event, {}),
        },
        bar,
        element(
          "span",
          { dir: "auto" },
          word === null ? label : `${word}: ${label}`,
          right ? element("span", { class: "faint" }, " · right") : "",
        ),
        element("span", { class: "probability" }, probability.toFixed(3)),
      );
    }),
  ]);
  byId("heads").replaceChildren(...parts);
}

function factsOf(about) {
  const { images, tokens, grid, step, truth, missing } = about;
  const facts = step === null ? [] : [`step ${step.toLocaleString("en")}`];
  if (images.length) {
    facts.push(`${images.length} ${images.length > 1 ? "images" : "image"}`);
    facts.push(`${grid[1]} × ${grid[0]} patches`);
  }
  if (tokens.length) facts.push(`${tokens.length} tokens`);
  facts.push(...missing.map((what) => `its ${what} is missing`));
  if (truth !== null) facts.push(`truth: ${truth}`);
  return facts;
}

function notesOf(about) {
  const notes = [
    "Numbers are rounded for this page: a value is within 0.2 % of its map's peak (0.4 % where " +
      "maps have signs). The NPZ file has the exact ones.",
    ...about.notes,
  ];
  const cut = about.images.some(
    ({ size, box: [top, left, bottom, right] }) =>
      top > 0 || left > 0 || bottom < size[0] || right < size[1],
  );
  if (cut) notes.push("Faded: what the network did not see.");
  return notes;
}

function buildPicker() {
  const { decisions } = page;
  if (decisions.length < 2) return;
  if (!byId("pick")) {
    const picked = (event) => show(Number(event.target.value));
    const select = element("select", { id: "pick", change: picked });
    fill(select, decisions.map((one, i) => [i, labelOf(one)]));
    byId("picker").append(element("label", {}, "Decision ", select));
  }
  byId("pick").value = state.decision;
}

function labelOf({ key, step, heads }) {
  const [{ label }] = heads[0].classes;
  return [key, step === null ? "" : `step ${step}`, label].filter(Boolean).join(" · ");
}

async function unpack(about) {
  const buffer = await inflated(byId(`block-${about.block}`).textContent);
  const images = await Promise.all(
    about.images.map(async ({ name, address, size, box }) => {
      const image = await loadedImage(page.images[address]);
      const pixels = pixelsOf(image, ...drawnSize(image, 640));
      return { name, image, pixels, placed: { size, box } };
    }),
  );
  return { about, images, tables: new Tables(buffer, about.rows) };
}

// The same class of another decision, where it has one.
function keepClass(label) {
  const { classes } = opened.about.heads[state.head] ?? (state.head = 0, opened.about.heads[0]);
  const same = classes.findIndex((one) => one.label === label);
  state.place = same < 0 ? 0 : same;
}

async function show(index) {
  const at = modulo(index, page.decisions.length);
  const label = opened?.about.heads[state.head].classes[state.place].label;
  try {
    state.decision = at;
    const found = await unpack(page.decisions[at]);
    if (state.decision !== at) return;
    opened = found;
    preview = {};
    keepClass(label);
    const { about } = opened;
    byId("key").textContent = about.key || "decision";
    byId("facts").textContent = factsOf(about).join(" · ");
    byId("notes").replaceChildren(...notesOf(about).map((text) => element("p", {}, text)));
    buildText(about);
    buildImages(about);
    buildClasses(about);
    buildPicker();
    byId("main").hidden = false;
    choose({});
  } catch (error) {
    fail(error.message);
  }
}

// A link may name the step to open: page.html#step=500. Else it is the last.
function firstDecision() {
  const step = Number(/step=(\d+)/.exec(location.hash)?.[1] ?? NaN);
  const found = page.decisions.findIndex((one) => one.step === step);
  if (found >= 0) return found;
  return page.decisions.every((one) => one.step !== null) ? page.decisions.length - 1 : 0;
}

setLook(page.look);
if (page.home) byId("home").replaceChildren(element("a", { href: page.home }, "All images"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => opened && draw());
watchControls();
show(firstDecision());
