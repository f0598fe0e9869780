// What changes with the caption alone: its words, references, notes, and the picker.

function buildCaption() {
  const { about } = opened;
  byId("key").textContent = about.key || "attention";
  byId("facts").textContent = factsOf(about).join(" · ");
  buildSentence(about);
  buildReferences(about.references);
  buildPicker();
  fill(byId("kind"), opened.kinds.map((kind, i) => [i, kind.title]));
  byId("notes").replaceChildren(...notesOf(about).map((text) => element("p", {}, text)));
  drawnPanel = "";
}

function factsOf(about) {
  const [height, width] = about.size;
  const facts = [`${width} × ${height} px`, `${about.grid[1]} × ${about.grid[0]} patches`];
  if (about.prefix) facts.push(`${about.prefix} prefix ${about.prefix > 1 ? "tokens" : "token"}`);
  if (about.step !== null) facts.unshift(`step ${about.step.toLocaleString("en")}`);
  return facts;
}

function buildSentence(about) {
  const parts = [about.between[0]];
  about.words.forEach((word, i) => {
    parts.push(
      element(
        "button",
        {
          type: "button",
          class: "word",
          click: () => choose({ word: i }),
          focus: () => i !== state.word && choose({ word: i }),
          pointerenter: (event) => look(event, { word: i }),
          pointerleave: (event) => look(event, {}),
        },
        word,
      ),
      about.between[i + 1],
    );
  });
  if (!about.words.length) {
    parts.push(element("em", { class: "faint" }, "The caption has no word, so there is no map."));
  }
  byId("sentence").replaceChildren(...parts);
}

function buildReferences(references) {
  const box = byId("references");
  box.hidden = !references.length;
  const count = references.length === 1 ? "1 reference" : `${references.length} references`;
  box.querySelector("summary").textContent = count;
  box.querySelector("ul").replaceChildren(...references.map((text) => element("li", { dir: "auto" }, text)));
}

function notesOf(about) {
  const notes = [
    "Numbers are rounded for this page: the value of a patch is within 0.2 % of its map's peak " +
      "(0.4 % where maps have signs). The NPZ file has the exact ones.",
    ...about.notes,
  ];
  const [top, left, bottom, right] = about.box;
  if (top > 0 || left > 0 || bottom < about.size[0] || right < about.size[1]) {
    notes.push("Faded: what the network did not see.");
  }
  if (about.leftOut.length) {
    const count = about.leftOut.length;
    const which = count > 1 ? "tokens belong" : "token belongs";
    notes.push(`${count} ${which} to no word, such as the end.`);
  }
  return notes;
}

// One image at several training steps gets a slider, other captions a list.
function buildPicker() {
  const { captions } = page;
  if (captions.length < 2) return;
  const picked = (event) => show(Number(event.target.value));
  if (byId("pick")) {
    byId("pick").value = state.caption;
  } else if (overSteps(captions)) {
    const slider = element("input", {
      id: "pick",
      type: "range",
      min: 0,
      max: captions.length - 1,
      value: state.caption,
      input: picked,
    });
    const output = element("output", { for: "pick" });
    byId("picker").append(element("label", {}, "Step ", slider), output);
  } else {
    const select = element("select", { id: "pick", change: picked });
    fill(select, captions.map((caption, i) => [i, labelOf(caption)]));
    select.value = state.caption;
    byId("picker").append(element("label", {}, "Caption ", select));
  }
  const output = byId("picker").querySelector("output");
  if (output) output.textContent = opened.about.step.toLocaleString("en");
}

function labelOf({ key, step, caption }) {
  return [key, step === null ? "" : `step ${step}`, caption].filter(Boolean).join(" · ");
}
