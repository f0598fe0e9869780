// A decision: what changes with the decision alone.

function buildText({ text, words, between, images }) {
  for (const id of ["smooth", "opacity"]) byId(id).parentElement.hidden = !images.length;
  byId("text").hidden = text === null;
  byId("tokens").hidden = text === null;
  const parts = [between[0]];
  words.forEach((word, i) => parts.push(element("span", { class: "part" }, word), between[i + 1]));
  if (!words.length) parts.push(element("em", { class: "faint" }, "The text has no words."));
  byId("sentence").replaceChildren(...parts);
}

function buildImages({ images }) {
  const frames = images.map(({ name, size }, m) => {
    const { pixels, image } = opened.images[m];
    const canvas = element("canvas", {
      role: "img",
      pointermove: (event) => look(event, patchAt(event, m)),
      pointerleave: (event) => look(event, {}),
    });
    const said = `${images.length > 1 ? `${name}, ` : ""}${size[1]} × ${size[0]} px`;
    const frame = element("figure", { class: "frame" }, canvas, element("figcaption", {}, said));
    frame.classList.toggle("pixels", pixels.width > 2 * image.naturalWidth - 1);
    return frame;
  });
  const box = byId("frames");
  box.replaceChildren(...frames);
  box.classList.toggle("single", frames.length === 1);
  if (frames.length === 1) {
    const { width, height } = opened.images[0].pixels;
    document.querySelector(".stage").style.setProperty("--aspect", width / height);
  }
  document.querySelector(".scale").hidden = !frames.length;
}

function buildClasses({ heads }) {
  const parts = heads.flatMap(({ name, classes }, head) => [
    element("h2", {}, name),
    ...classes.map(({ label, probability, word, right }, place) => {
      const bar = element("span", { class: "bar" });
      bar.style.width = `${100 * probability}%`;
      const changes = { head, place };
      return element(
        "button",
        {
          type: "button",
          class: "class",
          "data-head": head,
          "data-place": place,
          click: () => choose(changes),
          pointerenter: (event) => look(event, changes),
          pointerleave: (event) => look(event, {}),
        },
        bar,
        element(
          "span",
          { dir: "auto" },
          word === null ? label : `${word}: ${label}`,
          right ? element("span", { class: "faint" }, " · right") : "",
        ),
        element("span", { class: "probability" }, probability.toFixed(3)),
      );
    }),
  ]);
  byId("heads").replaceChildren(...parts);
}

function factsOf(about) {
  const { images, tokens, grid, step, truth, missing } = about;
  const facts = step === null ? [] : [`step ${step.toLocaleString("en")}`];
  if (images.length) {
    facts.push(`${images.length} ${images.length > 1 ? "images" : "image"}`);
    facts.push(`${grid[1]} × ${grid[0]} patches`);
  }
  if (tokens.length) facts.push(`${tokens.length} tokens`);
  facts.push(...missing.map((what) => `its ${what} is missing`));
  if (truth !== null) facts.push(`truth: ${truth}`);
  return facts;
}

function notesOf(about) {
  const notes = [
    "Numbers are rounded for this page: a value is within 0.2 % of its map's peak (0.4 % where " +
      "maps have signs). The NPZ file has the exact ones.",
    ...about.notes,
  ];
  const cut = about.images.some(
    ({ size, box: [top, left, bottom, right] }) =>
      top > 0 || left > 0 || bottom < size[0] || right < size[1],
  );
  if (cut) notes.push("Faded: what the network did not see.");
  return notes;
}

function buildPicker() {
  const { decisions } = page;
  if (decisions.length < 2) return;
  if (!byId("pick")) {
    const picked = (event) => show(Number(event.target.value));
    const select = element("select", { id: "pick", change: picked });
    fill(select, decisions.map((one, i) => [i, labelOf(one)]));
    byId("picker").append(element("label", {}, "Decision ", select));
  }
  byId("pick").value = state.decision;
}

function labelOf({ key, step, heads }) {
  const [{ label }] = heads[0].classes;
  return [key, step === null ? "" : `step ${step}`, label].filter(Boolean).join(" · ");
}
