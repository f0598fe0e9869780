// The page: sentence, map, controls and keys, drawn from the state after every change.

// Choose something for good.
function choose(changes) {
  Object.assign(state, changes);
  preview = {};
  draw();
  speak();
}

// Look at something while a mouse rests on it; a finger chooses at once.
function look(event, changes) {
  if (event.pointerType !== "mouse") return;
  preview = changes;
  draw();
}

// Many changes in one frame are one drawing.
let waiting = false;
let drawings = 0;

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    drawSentence();
    drawStage();
    drawControls();
    drawTabs();
    drawPanel();
    document.documentElement.dataset.drawn = String(++drawings); // for those who wait for one
  });
}

// The same again, in the colours of the other theme.
function redraw() {
  drawnPanel = "";
  if (opened) draw();
}

async function show(index) {
  try {
    if (!(await openCaption(modulo(index, page.captions.length)))) return;
    buildCaption();
    byId("main").hidden = false;
    draw();
    speak();
  } catch (error) {
    fail(error.message);
  }
}

function speak() {
  const { words } = opened.about;
  if (!words.length) return;
  const view = chosen();
  byId("spoken").textContent = `${subject(view)}, ${placeOf(view)}: ${inWords(mapOf(view))}`;
}

// Start with the last layer, mean over heads, as the pictures in the run folder do, and with the
// word that points most.
async function start() {
  const first = firstCaption();
  state.layer = page.captions[first].kinds[0].layers.length - 1;
  await show(first);
  if (!opened?.about.words.length) return;
  const peaks = wordMaps(chosen()).map((map) => map.peak);
  choose({ word: peaks.indexOf(Math.max(...peaks)) });
}

// A link may name the step to open: viewer.html#step=500. Else it is the last.
function firstCaption() {
  const step = Number(/step=(\d+)/.exec(location.hash)?.[1] ?? NaN);
  const found = page.captions.findIndex((caption) => caption.step === step);
  if (found >= 0) return found;
  return overSteps() ? page.captions.length - 1 : 0;
}

setLook(page.look);
if (page.home) byId("home").replaceChildren(element("a", { href: page.home }, "All images"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
watchControls();
watchImage();
start();
