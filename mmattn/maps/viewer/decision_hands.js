// A decision: choosing with mouse, finger and keyboard.

function choose(changes) {
  Object.assign(state, changes);
  preview = {};
  draw();
  byId("spoken").textContent = `${subject(state)}, ${placeOf(state)}`;
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

const KEYS = {
  ArrowUp: () => moveClass(-1),
  ArrowDown: () => moveClass(1),
  k: () => byId("relative").disabled || choose({ relative: !state.relative }),
  s: () => choose({ shared: !state.shared }),
  i: () => choose({ smooth: !state.smooth }),
  o: toggleImage,
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

// What the controls choose that only this page has.
const CONTROLS = { relative: (value) => ({ relative: Boolean(value) }) };
