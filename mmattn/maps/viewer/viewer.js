// The page: sentence, map, controls and keys, drawn from the state after every change.

// Choose something for good.
function choose(changes) {
  Object.assign(state, changes);
  preview = {};
  draw();
  speak();
}

function drawPage() {
  drawSentence();
  drawStage();
  drawControls();
  drawTabs();
  drawPanel();
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
  const first = firstShown(page.captions);
  state.layer = page.captions[first].kinds[0].layers.length - 1;
  await show(first);
  if (!opened?.about.words.length) return;
  const peaks = wordMaps(chosen()).map((map) => map.peak);
  choose({ word: peaks.indexOf(Math.max(...peaks)) });
}

dress(redraw);
watchControls(CONTROLS);
watchImage();
start();
