// The page of many images: a card an image, with a strip of its words.

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

setLook(page.look);
build();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const card of cards) card.drawn = null;
  drawAll();
});
