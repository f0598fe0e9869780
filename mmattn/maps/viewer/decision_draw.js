// A decision: what is drawn anew when something else is chosen.

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
  const able = comparable(opened.about.heads[state.head]);
  byId("relative").value = able && state.relative ? "1" : "";
  byId("relative").disabled = !able;
  byId("shared").value = state.shared ? "1" : "";
  byId("smooth").value = state.smooth ? "1" : "";
  byId("opacity").value = state.opacity;
}

function drawPage() {
  const view = shown();
  const [maps, scales] = [mapsOf(view), scalesOf(view)];
  drawClasses(view);
  if (maps.words) drawWords(maps, scales.words);
  if (maps.tokens) drawTokens(maps, scales.tokens);
  if (maps.images.length) drawImages(view, maps, scales.images);
  drawNumbers(view, maps);
  drawReadout(view, maps);
  drawControls();
}
