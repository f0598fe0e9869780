// What is chosen and what is looked at; and the maps that follow from it.

// Layer null is the mean of all layers, head null the mean over heads, patch null none.
const state = {
  caption: 0, kind: 0, word: 0, layer: null, head: null, patch: null,
  shared: false, smooth: true, opacity: 0.8, tab: "heads",
};
// What the pointer rests on goes before what was chosen.
let preview = {};
// The caption that is open: its JSON, tables, image and kinds of maps.
let opened = null;

function shown() {
  return fitted({ ...state, ...preview });
}

function chosen() {
  return fitted(state);
}

// Kinds of maps differ in their layers and heads: what one lacks is its mean, and is chosen again
// where the next one has it.
function fitted(view) {
  const kind = opened.kinds[view.kind];
  const count = kind.layers.length;
  const layer = view.layer === null || !count ? null : Math.min(view.layer, count - 1);
  const head = layer === null || view.head === null || view.head >= kind.heads ? null : view.head;
  return { ...view, layer, head };
}

// Unpacking takes a moment, so a caption is unpacked when it is first looked at.
const unpacked = new Map();

let asked = 0;

// Returns whether the caption is still the one that is asked for.
async function openCaption(index) {
  asked = index;
  if (!unpacked.has(index)) unpacked.set(index, unpack(page.captions[index]));
  const unpackedCaption = await unpacked.get(index);
  if (asked !== index) return false;
  const word = opened?.about.words[state.word];
  opened = unpackedCaption;
  state.caption = index;
  state.kind = Math.min(state.kind, opened.kinds.length - 1);
  state.word = sameWord(word);
  const patches = opened.about.grid[0] * opened.about.grid[1];
  if (state.patch !== null && state.patch >= patches) state.patch = null;
  preview = {};
  keptScales.clear();
  return true;
}

// Where a word of another caption stands in this one; else the same place.
function sameWord(word) {
  const { words } = opened.about;
  if (words[state.word] !== word && words.includes(word)) return words.indexOf(word);
  return Math.max(0, Math.min(state.word, words.length - 1));
}

async function unpack(about) {
  const [buffer, image] = await Promise.all([
    inflated(byId(`block-${about.block}`).textContent),
    loadedImage(page.images[about.image]),
  ]);
  const kinds = about.kinds.flatMap((kind) => {
    const itself = { ...kind, relative: false };
    if (kind.query !== "word" || about.words.length < 2) return [itself];
    return [itself, { ...kind, title: `${kind.title}, less the mean over words`, relative: true }];
  });
  const pixels = pixelsOf(image, ...drawnSize(image, 640));
  const small = pixelsOf(image, ...drawnSize(image, 144));
  return { about, image, pixels, small, kinds, tables: new Tables(buffer, about.rows) };
}

// The map of a view: of its word, or of the patch pointed at (else the middle) where patches ask.
function mapOf(view) {
  const kind = opened.kinds[view.kind];
  if (kind.query === "patch") return rowOf(opened.tables, kind, queryPatch(view), view.layer, null);
  const map = rowOf(opened.tables, kind, view.word, view.layer, view.head);
  if (!kind.relative) return map;
  const others = opened.about.words.map((_, word) =>
    rowOf(opened.tables, kind, word, view.layer, view.head),
  );
  return lessMean(map, others);
}

function queryPatch(view) {
  const [h, w] = opened.about.grid;
  return view.patch ?? (h >> 1) * w + (w >> 1);
}

function wordMaps(view) {
  return opened.about.words.map((_, word) => mapOf({ ...view, word }));
}

// The ends of the colours in a view: the map's own, or those of all words.
const keptScales = new Map();

function scaleIn(view, map) {
  if (!view.shared || opened.kinds[view.kind].query === "patch") return scaleOf([map]);
  const key = [view.kind, view.layer, view.head].join();
  if (!keptScales.has(key)) keptScales.set(key, scaleOf(wordMaps(view)));
  return keptScales.get(key);
}

function drawing(view, scale) {
  return {
    placed: { size: opened.about.size, box: opened.about.box },
    grid: opened.about.grid,
    scale,
    smooth: view.smooth,
    alpha: view.opacity,
  };
}

// What a view looks at, in words.
function placeOf(view) {
  const kind = opened.kinds[view.kind];
  return kind.layers.length ? placeIn(kind, view.layer, view.head) : kind.title;
}

function placeIn(kind, layer, head) {
  if (layer === null) return "mean of all layers";
  const name = `layer ${numbered(kind.layers[layer], layer)}`;
  if (!kind.heads) return name;
  return head === null ? `${name}, mean over heads` : `${name}, head ${head}`;
}

// The number of a layer in the name of its call, as in text.5.cross, and whose it is where several
// models wrote together, as in "model 2: text.5.cross".
function numbered(name, index) {
  const found = /^(?:model (\d+): )?\D*(\d+)/.exec(name);
  if (!found) return String(index);
  return found[1] ? `${found[2]} of model ${found[1]}` : found[2];
}

function patchName(patch) {
  const [h, w] = opened.about.grid;
  return `row ${Math.floor(patch / w)}, column ${patch % w} of ${h} × ${w}`;
}

function modulo(value, length) {
  return ((value % length) + length) % length;
}
