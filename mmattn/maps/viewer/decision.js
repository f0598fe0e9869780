// The page of a decision: what argued for the class that is chosen, in images and in words.

async function unpack(about) {
  const buffer = await inflated(byId(`block-${about.block}`).textContent);
  const images = await Promise.all(
    about.images.map(async ({ name, address, size, box }) => {
      const image = await loadedImage(page.images[address]);
      const pixels = pixelsOf(image, ...drawnSize(image, 640));
      return { name, image, pixels, placed: { size, box } };
    }),
  );
  return { about, images, tables: new Tables(buffer, about.rows) };
}

// The same class of another decision, where it has one.
function keepClass(label) {
  const { classes } = opened.about.heads[state.head] ?? (state.head = 0, opened.about.heads[0]);
  const same = classes.findIndex((one) => one.label === label);
  state.place = same < 0 ? 0 : same;
}

async function show(index) {
  const at = modulo(index, page.decisions.length);
  const label = opened?.about.heads[state.head].classes[state.place].label;
  try {
    state.decision = at;
    const found = await unpack(page.decisions[at]);
    if (state.decision !== at) return;
    opened = found;
    preview = {};
    keepClass(label);
    const { about } = opened;
    byId("key").textContent = about.key || "decision";
    byId("facts").textContent = factsOf(about).join(" · ");
    byId("notes").replaceChildren(...notesOf(about).map((text) => element("p", {}, text)));
    buildText(about);
    buildImages(about);
    buildClasses(about);
    buildPicker();
    byId("main").hidden = false;
    choose({});
  } catch (error) {
    fail(error.message);
  }
}

dress(() => opened && draw());
watchControls(CONTROLS);
show(firstShown(page.decisions));
