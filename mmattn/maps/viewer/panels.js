// Comparisons beside the map: all heads, all words, numbers, and attention among the tokens.

const hasLayers = () => opened.kinds[state.kind].layers.length > 0;
const asksWords = () => opened.kinds[state.kind].query === "word";
const hasText = () => opened.about.text !== null;

const PANELS = {
  heads: { title: "Layers × heads", usable: hasLayers, draw: drawHeads },
  words: { title: "All words", usable: asksWords, draw: drawWords },
  table: { title: "Numbers", usable: () => hasLayers() && asksWords(), draw: drawTable },
  text: { title: "Text self-attention", usable: hasText, draw: drawText },
};

function usablePanels() {
  return Object.keys(PANELS).filter((name) => PANELS[name].usable());
}

function drawTabs() {
  const names = usablePanels();
  if (!names.includes(state.tab)) state.tab = names[0] ?? null;
  byId("tabs").replaceChildren(
    ...names.map((name) =>
      element(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${name}`,
          "aria-selected": String(name === state.tab),
          "aria-controls": "panel",
          tabindex: name === state.tab ? "0" : "-1",
          click: () => choose({ tab: name }),
        },
        PANELS[name].title,
      ),
    ),
  );
}

// A panel is drawn anew only when something that it shows has changed.
let drawnPanel = "";

function drawPanel() {
  const view = shown();
  const panel = byId("panel");
  const { word, patch, ...rest } = view;
  const key = JSON.stringify([rest, state.tab === "words" ? state.word : [word, patch]]);
  if (key === drawnPanel) return;
  drawnPanel = key;
  const held = panel.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const left = panel.firstElementChild?.scrollLeft ?? 0;
  byId("panel-note").textContent = "";
  panel.replaceChildren();
  if (state.tab === null || (!opened.about.words.length && state.tab !== "text")) return;
  panel.setAttribute("aria-labelledby", `tab-${state.tab}`);
  PANELS[state.tab].draw(panel, view);
  panel.firstElementChild.scrollLeft = left;
  if (state.tab !== "text") uncoverChosen(panel.firstElementChild, panel);
  if (held) panel.querySelector(`[data-key="${held}"]`)?.focus();
}

// Scroll a box sideways, if it scrolls, to where its chosen cell is seen; labels cover 44 pixels.
function uncoverChosen(box, panel) {
  const button = panel.querySelector('[aria-pressed="true"]');
  if (!button || box.scrollWidth <= box.clientWidth) return;
  const [cell, frame] = [button.getBoundingClientRect(), box.getBoundingClientRect()];
  if (cell.right + 12 > frame.right) box.scrollLeft += cell.right + 12 - frame.right;
  else if (cell.left < frame.left + 44) box.scrollLeft -= frame.left + 44 - cell.left;
}

const OWN_SCALE = "Each map has its own scale.";

function note(text) {
  byId("panel-note").textContent = text[0].toUpperCase() + text.slice(1);
}

// Every place that has a map: each layer's heads and their mean; below them the mean of all layers.
function placesOf(kind) {
  const heads = [...Array(kind.heads).keys(), null];
  const places = kind.layers.map((_, layer) => heads.map((head) => ({ layer, head })));
  return [...places, [...Array(kind.heads).fill(undefined), { layer: null, head: null }]];
}

// A table of layers and heads with one cell, made by `cellOf`, for each place.
// `least` and `most` are the width of a cell in pixels.
function layerGrid(kind, [least, most], cellOf) {
  const labels = [...Array(kind.heads).keys(), "mean"];
  const names = labels.map((label) => element("th", { scope: "col" }, String(label)));
  const rows = placesOf(kind).map((places, layer) => {
    const label = layer < kind.layers.length ? numbered(kind.layers[layer], layer) : "all";
    const cells = places.map((place) => {
      if (!place) return element("td");
      return element("td", {}, cellOf(place));
    });
    return element("tr", {}, element("th", { scope: "row" }, label), ...cells);
  });
  const top = element("tr", {}, element("td"), element("th", { colspan: labels.length }, "head"));
  const table = element(
    "table",
    { class: "layers" },
    ...(kind.heads ? [top] : []),
    element("tr", {}, element("td", {}, "layer"), ...names),
    ...rows,
  );
  // Many heads scroll in their own box.
  table.style.minWidth = `${40 + (least + 3) * labels.length}px`;
  table.style.maxWidth = `${40 + (most + 4) * labels.length}px`;
  return element("div", { class: "scroll" }, table);
}

function placeButton(place, view, label, ...children) {
  const { layer, head } = chosen();
  const isChosen = place.layer === layer && place.head === head;
  const name = placeOf({ ...view, ...place });
  return element(
    "button",
    {
      type: "button",
      "aria-label": `${name}: ${label}`,
      "aria-pressed": String(isChosen),
      title: `${name}\n${label}`,
      tabindex: isChosen ? "0" : "-1",
      "data-key": `${place.layer}/${place.head}`,
      click: () => choose(place),
      pointerenter: (event) => look(event, place),
      pointerleave: (event) => look(event, {}),
    },
    ...children,
  );
}

function drawHeads(panel, view) {
  const kind = opened.kinds[view.kind];
  const all = placesOf(kind).flat().filter(Boolean);
  const scale = view.shared ? scaleOf(all.map((place) => mapOf({ ...view, ...place }))) : null;
  panel.append(
    layerGrid(kind, [24, Math.max(24, 96 * Math.min(1, pictureAspect()))], (place) => {
      const map = mapOf({ ...view, ...place });
      const canvas = element("canvas", { class: "cells" });
      canvas.style.aspectRatio = pictureAspect();
      paintCells(canvas, map, opened.about.grid, scale ?? scaleOf([map]));
      return placeButton(place, view, inWords(map), canvas);
    }),
  );
  note(`Of ${apart(subject(view))}. ${scale ? `All from ${ends(scale)}.` : OWN_SCALE}`);
}

// The word, or the patch, whose map is shown.
function subject(view) {
  if (opened.kinds[view.kind].query === "patch") return `patch at ${patchName(queryPatch(view))}`;
  return opened.about.words[view.word];
}

function ends(scale) {
  return `${number(scale.low)} to ${number(scale.high)}`;
}

function inWords(map) {
  const said = [`peak ${number(map.peak)}`, `${map.signed ? "sum" : "mass"} ${number(map.mass)}`];
  if (Number.isFinite(map.entropy)) said.push(`entropy ${map.entropy.toFixed(1)} bits`);
  return said.join(", ");
}

function drawWords(panel, view) {
  const maps = wordMaps(view);
  const cells = maps.map((map, word) => {
    const canvas = element("canvas", {});
    paint(canvas, opened.small, map, drawing(view, scaleIn(view, map)));
    return element(
      "button",
      {
        type: "button",
        class: "word-cell",
        "aria-pressed": String(word === state.word),
        "aria-label": `${opened.about.words[word]}: ${inWords(map)}`,
        title: inWords(map),
        "data-key": `word-${word}`,
        click: () => choose({ word }),
        pointerenter: (event) => look(event, { word }),
        pointerleave: (event) => look(event, {}),
      },
      canvas,
      element("span", { dir: "auto" }, opened.about.words[word]),
    );
  });
  panel.append(element("div", { class: "word-cells" }, ...cells));
  const scale = scaleIn(view, maps[0]);
  note(`${placeOf(view)}. ${view.shared ? `All from ${ends(scale)}.` : OWN_SCALE}`);
}

// Peak, mass and entropy of the word's map in every layer and head; darker is more.
let measure = "entropy";

function drawTable(panel, view) {
  const kind = opened.kinds[view.kind];
  const value = (place) => mapOf({ ...view, ...place })[measure];
  const select = element(
    "select",
    { "aria-label": "measure", change: (event) => {
      measure = event.target.value;
      drawnPanel = "";
      draw();
    } },
    ...["entropy", "peak", "mass"].map((name) => element("option", { value: name }, name)),
  );
  select.value = measure;
  const values = placesOf(kind).flat().filter(Boolean).map(value).filter(Number.isFinite);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const grid = layerGrid(kind, [measure === "entropy" ? 34 : 50, 96], (place) => {
    const found = value(place);
    const text = measure === "entropy" ? bits(found) : number(found);
    const button = placeButton(place, view, `${measure} ${text}`, text);
    if (Number.isFinite(found)) tint(button, found - low, { high: 1.33 * (high - low) });
    return button;
  });
  grid.classList.add("figures");
  panel.append(grid);
  panel.append(element("p", { class: "measure" }, "Shown: ", select));
  const most = bits(Math.log2(opened.about.grid[0] * opened.about.grid[1]));
  note(`Of ${apart(subject(view))}. ${measure === "entropy" ? `In bits, at most ${most}.` : ""}`);
}

function bits(entropy) {
  return Number.isFinite(entropy) ? entropy.toFixed(1) : "–";
}

// Width over height of the network's picture, which the patches share.
function pictureAspect() {
  const [top, left, bottom, right] = opened.about.box;
  return (right - left) / (bottom - top);
}

// Self-attention of the decoder: row t is the query that wrote token t, columns are what it read.
function drawText(panel, view) {
  const kind = opened.about.text;
  const tokens = kind.tokens;
  const layer = view.layer === null ? null : Math.min(view.layer, kind.layers.length - 1);
  const head = layer === null || view.head === null || view.head >= kind.heads ? null : view.head;
  const rows = tokens.map((_, query) => rowOf(opened.tables, kind, query, layer, head));
  const scale = scaleOf(rows);
  const keys = ["begin", ...tokens.slice(0, -1)];
  const cells = (row, query) =>
    [...row.values].map((value, key) => {
      const cell = element("td", {
        title: key > query ? null : `“${tokens[query]}” read “${keys[key]}”: ${number(value)}`,
      });
      if (key <= query) tint(cell, value, scale);
      return cell;
    });
  const heads = keys.map((key) => element("th", { scope: "col" }, element("span", {}, key)));
  const lines = rows.map((row, query) =>
    element("tr", {}, element("th", { scope: "row" }, tokens[query]), ...cells(row, query)),
  );
  panel.append(
    element(
      "div",
      { class: "scroll" },
      element("table", { class: "matrix" }, element("tr", {}, element("td"), ...heads), ...lines),
    ),
  );
  const place = placeIn(kind, layer, head);
  note(`${place}, from ${ends(scale)}. Rows: the token written. Columns: the tokens read.`);
}
