// A decision: what is chosen, and the maps and scales of it.

const state = {
  decision: 0, head: 0, place: 0, relative: false, shared: false, smooth: true, opacity: 0.8,
};
// What the pointer rests on goes before what was chosen.
let preview = {};
// The decision that is open: its JSON, tables and images.
let opened = null;

const shown = () => ({ ...state, ...preview });
const modulo = (value, length) => ((value % length) + length) % length;

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
