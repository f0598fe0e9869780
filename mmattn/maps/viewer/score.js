// The page of scores: rows are sorted and searched as data, and drawn one page at a time.

const PAGE = 50;
const first = page.columns.find((column) => column.first) || page.columns[0];
const state = { column: first.name, falling: first.worst === "high", shown: "own", from: 0 };
const compared = page.files.length > 1;
const pictured = page.rows.some((row) => row.photo);
for (const row of page.rows) row.searched = searchedText(row);

function searchedText(row) {
  const texts = [row.image, row.caption, ...row.references, row.against?.caption ?? ""];
  return texts.join("\n").toLowerCase();
}

// The score that is shown of a row: of the first model, of the other, or by how much it is better.
function scoreOf(row, name) {
  const own = row.scores[name] ?? null;
  const other = row.against?.scores[name] ?? null;
  if (state.shown === "own") return own;
  if (state.shown === "against") return other;
  return own === null || other === null ? null : own - other;
}

function written(value, name) {
  if (value === null || value === undefined) return "–";
  const text = Number.isInteger(value) && name === "length" ? String(value) : value.toFixed(3);
  return state.shown === "difference" && value > 0 ? `+${text}` : text;
}

// Rows that fit what is searched for, in order; those without a score come last.
function chosen() {
  const words = byId("search").value.toLowerCase();
  const rows = page.rows.filter((row) => row.searched.includes(words));
  const turn = state.falling ? -1 : 1;
  const value = new Map(rows.map((row) => [row, scoreOf(row, state.column)]));
  return rows.sort((a, b) => {
    const [x, y] = [value.get(a), value.get(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return turn * (x - y);
  });
}

function draw() {
  const rows = chosen();
  state.from = Math.min(state.from, Math.max(0, Math.floor((rows.length - 1) / PAGE) * PAGE));
  const part = rows.slice(state.from, state.from + PAGE);
  byId("head").replaceChildren(...heads());
  byId("rows").replaceChildren(...part.map(rowOf));
  byId("none").hidden = rows.length > 0;
  byId("list").hidden = rows.length === 0;
  byId("pages").hidden = rows.length <= PAGE;
  byId("place").textContent = `${state.from + 1} – ${state.from + part.length} of ${rows.length}`;
  byId("back").disabled = state.from === 0;
  byId("on").disabled = state.from + PAGE >= rows.length;
  byId("sort").value = state.column;
  byId("turn").textContent = state.falling ? "highest first" : "lowest first";
  document.documentElement.dataset.drawn = String(state.from);
}

function heads() {
  const cells = page.columns.map(({ name, title }) => {
    const sorted = name === state.column ? (state.falling ? "descending" : "ascending") : null;
    const button = element("button", { type: "button", click: () => sortBy(name) }, title);
    return element("th", { class: "number", scope: "col", "aria-sort": sorted }, button);
  });
  const photo = pictured ? [element("th", { scope: "col", class: "photo" }, "photo")] : [];
  return [...photo, element("th", { scope: "col" }, "caption and references"), ...cells];
}

function rowOf(row) {
  const photo = pictured ? [element("td", { class: "photo" })] : [];
  if (row.photo) photo[0].append(element("img", { src: row.photo, alt: "", loading: "lazy" }));
  const cells = page.columns.map(({ name, title }) => {
    const kind = name === state.column ? "number sorted" : "number";
    return element("td", { class: kind, "data-title": title }, written(scoreOf(row, name), name));
  });
  return element("tr", {}, ...photo, captionsOf(row), ...cells);
}

function captionsOf(row) {
  const cell = element("td", { class: "captions" });
  cell.append(element("p", { class: "name", dir: "auto" }, String(row.image)));
  cell.append(...saidBy(row, compared ? page.files[0] : null));
  if (row.against) cell.append(...saidBy(row.against, page.files[1]));
  const references = row.references.map((text) => element("li", { dir: "auto" }, text));
  cell.append(element("ul", { class: "references" }, ...references));
  if (row.strip || row.link) cell.append(attentionOf(row));
  return cell;
}

// A model's captions, under its name where there are two, and what they make up.
function saidBy(said, file) {
  const parts = file === null ? [] : [element("p", { class: "of" }, file)];
  parts.push(element("p", { class: "said", dir: "auto" }, said.caption || "(empty caption)"));
  for (const text of said.others ?? []) {
    parts.push(element("p", { class: "of", dir: "auto" }, `also: ${apart(text)}`));
  }
  if (said.made_up?.length) {
    const names = element("span", { class: "made-up" }, said.made_up.join(", "));
    parts.push(element("p", { class: "objects" }, "in no reference: ", names));
  }
  return parts;
}

function attentionOf(row) {
  const alt = `attention of the words of ${row.caption}`;
  const shown = row.strip
    ? element("img", { src: row.strip, alt, loading: "lazy" })
    : "open its attention";
  const target = row.link ? element("a", { href: row.link }, shown) : shown;
  return element("p", { class: "strip" }, target);
}

function sortBy(name) {
  const worst = page.columns.find((column) => column.name === name).worst;
  state.falling = state.column === name ? !state.falling : worst === "high";
  state.column = name;
  state.from = 0;
  draw();
}

function tableOf([head, ...rows]) {
  const line = (tag) => (cells) =>
    element("tr", {}, ...cells.map((cell) => element(tag, {}, cell)));
  return element("table", {}, line("th")(head), ...rows.map(line("td")));
}

function goTo(from) {
  state.from = from;
  draw();
  byId("filters").scrollIntoView();
}

function build() {
  byId("title").textContent = page.title;
  byId("facts").textContent = page.facts;
  byId("tables").replaceChildren(...page.tables.map(tableOf));
  byId("legend").textContent = page.legend.join(" ");
  byId("notes").replaceChildren(...page.notes.map((note) => element("li", {}, note)));
  fill(byId("sort"), page.columns.map(({ name, title }) => [name, title]));
  const [own, other] = page.files;
  fill(byId("shown"), [["own", own], ["against", other ?? ""], ["difference", "difference"]]);
  byId("shown-label").hidden = !compared;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("search").addEventListener("input", () => { state.from = 0; draw(); });
  byId("sort").addEventListener("change", (event) => sortBy(event.target.value));
  byId("turn").addEventListener("click", () => sortBy(state.column));
  byId("shown").addEventListener("change", (event) => {
    [state.shown, state.from] = [event.target.value, 0];
    draw();
  });
  byId("back").addEventListener("click", () => goTo(state.from - PAGE));
  byId("on").addEventListener("click", () => goTo(state.from + PAGE));
  draw();
}

build();
