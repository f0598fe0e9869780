// The page of many images: cards, filled when they come into view, and a slider over steps.

// The step that is looked at, as an index of page.steps.
let at = Math.max(0, page.steps.length - 1);
const cards = [];

// What a group showed last at a step: the newest entry that is not after it, else none.
function entryOf(group) {
  if (!page.steps.length) return group.entries.at(-1);
  const step = page.steps[at];
  return group.entries.findLast((entry) => entry.step === null || entry.step <= step);
}

function buildCard(group) {
  const card = {
    group,
    visible: false,
    drawn: null,
    link: element("a", {}),
    said: element("p", { class: "said", dir: "auto" }),
    strip: element("div", { class: "strip" }),
    box: element("article", { class: "card" }),
  };
  card.box.append(element("h2", {}, card.link), card.said);
  if (group.references.length) {
    const label = group.references.length > 1 ? "references" : "reference";
    const text = `${label}: ${group.references.map(apart).join(" · ")}`;
    card.box.append(element("p", { class: "references faint" }, text));
  }
  card.box.append(card.strip);
  card.box.card = card;
  return card;
}

// Unpack a card's maps and image once, when it is first seen.
function contentsOf(group) {
  group.contents ??= Promise.all([
    inflated(byId(`block-${group.block}`).textContent),
    group.image && loadedImage(group.image),
  ]).then(([buffer, image]) => ({
    tables: new Tables(buffer, group.rows),
    pixels: image && pixelsOf(image, ...drawnSize(image, 144)),
    enlarged: image && image.naturalWidth <= 72,
  }));
  return group.contents;
}

async function drawCard(card) {
  const entry = entryOf(card.group);
  if (!card.visible || card.drawn === entry) return;
  card.drawn = entry;
  describe(card, entry);
  if (!entry) return card.strip.replaceChildren();
  try {
    const contents = await contentsOf(card.group);
    if (card.drawn === entry) fillStrip(card, entry, contents);
  } catch (error) {
    fail(error.message);
  }
}

function addressOf(group, entry) {
  return entry && entry.step !== null ? `${group.viewer}#step=${entry.step}` : group.viewer;
}

function describe(card, entry) {
  const { group, link, said } = card;
  link.textContent = [group.set, group.name].filter(Boolean).join(" / ");
  link.href = addressOf(group, entry);
  if (!entry) said.textContent = "not drawn yet at this step";
  else said.textContent = entry.caption || "(empty caption)";
}

function fillStrip(card, entry, { tables, pixels, enlarged }) {
  const { group, strip } = card;
  if (!pixels) return strip.replaceChildren(); // a text without an image: what was said is above
  strip.classList.toggle("pixels", enlarged);
  const whole = element("canvas", { role: "img", "aria-label": "the image" });
  [whole.width, whole.height] = [pixels.width, pixels.height];
  const data = new ImageData(pixels.rgba, pixels.width, pixels.height);
  whole.getContext("2d").putImageData(data, 0, 0);
  const cells = entry.words.map((word, i) => {
    const map = tables.row(entry.table, i);
    const canvas = element("canvas", { role: "img", "aria-label": `map of ${word}` });
    paint(canvas, pixels, map, {
      placed: { size: entry.size, box: entry.box },
      grid: entry.grid,
      scale: scaleOf([map]),
      smooth: true,
      alpha: LOOK.alpha,
    });
    const title = [`peak ${number(map.peak)}, mass ${number(map.mass)}`, ...oddities(map)];
    const made = cell(group, entry, canvas, word, title.join("; "));
    if (oddities(map).length) made.append(element("span", { class: "odd" }, oddityOf(map)));
    return made;
  });
  strip.replaceChildren(cell(group, entry, whole, "image", ""), ...cells);
}

// What is odd about a map, in the room below a small one.
function oddityOf(map) {
  return map.values.every(Number.isFinite) ? "constant" : "not finite";
}

function cell(group, entry, canvas, word, title) {
  const name = element("span", { dir: "auto" }, word);
  return element("a", { href: addressOf(group, entry), title }, canvas, name);
}

function drawAll() {
  for (const card of cards) drawCard(card);
}

function applyFilters() {
  const [set, words] = [byId("set").value, byId("search").value.toLowerCase().split(/\s+/)];
  let shownCards = 0;
  for (const { group, box } of cards) {
    const text = [group.set, group.name, ...group.entries.map(({ caption }) => caption)];
    const all = text.concat(group.references).join(" ").toLowerCase();
    box.hidden = (set !== "*" && group.set !== set) || !words.every((word) => all.includes(word));
    shownCards += box.hidden ? 0 : 1;
  }
  byId("none").hidden = shownCards > 0;
}

function buildFilters() {
  const sets = [...new Set(page.groups.map(({ set }) => set))];
  fill(byId("set"), [["*", "all"], ...sets.map((set) => [set, set || "(top folder)"])]);
  byId("set").parentElement.hidden = sets.length < 2;
  byId("filters").hidden = page.groups.length < 2;
  byId("set").addEventListener("input", applyFilters);
  byId("search").addEventListener("input", applyFilters);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}

function buildSlider() {
  if (page.steps.length < 2) return;
  const output = element("output", { for: "pick" }, stepText());
  const slider = element("input", {
    id: "pick", type: "range", min: 0, max: page.steps.length - 1, value: at,
    "aria-valuetext": stepText(),
    input: (event) => {
      at = Number(event.target.value);
      output.textContent = stepText();
      slider.setAttribute("aria-valuetext", stepText());
      drawAll();
    },
  });
  byId("picker").append(element("label", {}, "Step ", slider), output);
}

function stepText() {
  return page.steps[at].toLocaleString("en");
}

function buildUnreadable() {
  const { unreadable } = page;
  const box = byId("unreadable");
  box.hidden = !unreadable.length;
  const files = unreadable.length > 1 ? "files" : "file";
  box.querySelector("summary").textContent = `${unreadable.length} ${files} left out`;
  box.querySelector("ul").replaceChildren(...unreadable.map((line) => element("li", {}, line)));
}

function build() {
  byId("title").textContent = page.title;
  const steps = page.steps.length;
  const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  byId("facts").textContent = [count(page.groups.length, "image"), steps && count(steps, "step")]
    .filter(Boolean)
    .join(" · ");
  byId("notes").replaceChildren(...page.notes.map((text) => element("p", {}, text)));
  cards.push(...page.groups.map(buildCard));
  const seen = new IntersectionObserver(
    (changes) => {
      for (const { target, isIntersecting } of changes) {
        target.card.visible = isIntersecting;
        drawCard(target.card);
      }
    },
    { rootMargin: "200px" },
  );
  for (const card of cards) {
    describe(card, entryOf(card.group));
    byId("cards").append(card.box);
    seen.observe(card.box);
  }
  buildFilters();
  buildSlider();
  buildUnreadable();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const card of cards) card.drawn = null;
    drawAll();
  });
}

setLook(page.look);
build();
