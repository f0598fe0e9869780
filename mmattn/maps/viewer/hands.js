// Pointer, keys and controls.

function patchAt(event) {
  const { size, box, grid } = opened.about;
  const area = byId("overlay").getBoundingClientRect();
  const y = ((event.clientY - area.top) / area.height) * size[0];
  const x = ((event.clientX - area.left) / area.width) * size[1];
  const row = Math.floor(((y - box[0]) / (box[2] - box[0])) * grid[0]);
  const column = Math.floor(((x - box[1]) / (box[3] - box[1])) * grid[1]);
  const inside = row >= 0 && row < grid[0] && column >= 0 && column < grid[1];
  return inside ? row * grid[1] + column : null;
}

function watchImage() {
  const canvas = byId("overlay");
  canvas.addEventListener("pointermove", (event) => {
    const patch = patchAt(event);
    if (patch !== (preview.patch ?? null)) look(event, patch === null ? {} : { patch });
  });
  canvas.addEventListener("pointerleave", (event) => look(event, {}));
  canvas.addEventListener("click", (event) => {
    const patch = patchAt(event);
    choose({ patch: patch === state.patch ? null : patch });
  });
  canvas.addEventListener("keydown", moveOverPatches);
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// On the image, arrows move a patch and Enter keeps it.
function moveOverPatches(event) {
  const [h, w] = opened.about.grid;
  const at = shown().patch ?? queryPatch(state);
  if (event.key in STEPS) {
    const [down, along] = STEPS[event.key];
    const row = Math.max(0, Math.min(h - 1, Math.floor(at / w) + down));
    const column = Math.max(0, Math.min(w - 1, (at % w) + along));
    preview = { patch: row * w + column };
    draw();
  } else if (event.key === "Enter" || event.key === " ") {
    choose({ patch: at === state.patch ? null : at });
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
}

function moveWord(by) {
  const { words } = opened.about;
  if (!words.length) return;
  choose({ word: modulo(state.word + by, words.length) });
  if (document.activeElement?.classList.contains("word")) {
    document.querySelectorAll("#sentence .word")[state.word].focus();
  }
}

function moveLayer(by) {
  const count = opened.kinds[state.kind].layers.length;
  if (!count) return;
  const at = modulo((chosen().layer ?? count) + by, count + 1);
  choose(at === count ? { layer: null, head: null } : { layer: at });
}

function moveHead(by) {
  const { heads } = opened.kinds[state.kind];
  if (!heads) return;
  const at = modulo((chosen().head ?? heads) + by, heads + 1);
  choose({ head: at === heads ? null : at, layer: someLayer() });
}

// A head is of one layer: where the mean of all was shown, of the last.
function someLayer() {
  return chosen().layer ?? opened.kinds[state.kind].layers.length - 1;
}

function nextTab() {
  const names = usablePanels();
  if (names.length) choose({ tab: names[modulo(names.indexOf(state.tab) + 1, names.length)] });
}

// The next word is on the left where a caption is written from right to left.
function moveWordAlong(by) {
  const leftwards = getComputedStyle(byId("sentence")).direction === "rtl";
  moveWord(leftwards ? -by : by);
}

const KEYS = {
  ArrowLeft: () => moveWordAlong(-1),
  ArrowRight: () => moveWordAlong(1),
  ArrowUp: () => moveLayer(-1),
  ArrowDown: () => moveLayer(1),
  "[": () => moveHead(-1),
  "]": () => moveHead(1),
  m: () => choose({ head: null }),
  a: () => choose({ layer: null, head: null }),
  k: () => choose({ kind: modulo(state.kind + 1, opened.kinds.length) }),
  s: () => choose({ shared: !state.shared }),
  i: () => choose({ smooth: !state.smooth }),
  o: toggleImage,
  "-": () => changeOpacity(-0.1),
  "+": () => changeOpacity(0.1),
  "=": () => changeOpacity(0.1),
  t: nextTab,
  ",": () => show(state.caption - 1),
  ".": () => show(state.caption + 1),
  "?": openHelp,
  Escape: () => choose({ patch: null }),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !opened || byId("help").open) return;
  // Lists and sliders have their own use for arrows and letters.
  if (["SELECT", "INPUT"].includes(event.target.tagName) && event.key !== "Escape") return;
  if (/^[0-9]$/.test(event.key) && Number(event.key) < opened.kinds[state.kind].heads) {
    choose({ head: Number(event.key), layer: someLayer() });
  } else if (event.key in KEYS) {
    KEYS[event.key]();
  } else {
    return;
  }
  event.preventDefault();
}

const numeric = (value) => (value === "" ? null : Number(value));
// What the controls choose that only this page has.
const CONTROLS = {
  kind: (value) => ({ kind: Number(value) }),
  layer: (value) => (value === "" ? { layer: null, head: null } : { layer: numeric(value) }),
  head: (value) => ({
    head: numeric(value),
    layer: value === "" ? chosen().layer : someLayer(),
  }),
};
