// The page of decisions: a card an example, with the picture of what argued for the answer.

function buildCard(group) {
  const card = {
    group,
    visible: false,
    drawn: null,
    said: element("p", { class: "said", dir: "auto" }),
    picture: element("img", { alt: "" }),
    box: element("article", { class: "card" }),
  };
  const named = element("h2", { dir: "auto" }, `${group.set} / ${group.name}`);
  card.box.append(named, card.said, card.picture);
  card.box.card = card;
  return card;
}

function describe(card, entry) {
  card.said.textContent = entry ? entry.caption : "not drawn yet at this step";
  card.said.classList.toggle("wrong", Boolean(entry && entry.wrong));
}

function drawCard(card) {
  const entry = entryOf(card.group);
  if (!card.visible || card.drawn === entry) return;
  card.drawn = entry;
  describe(card, entry);
  card.picture.hidden = !entry;
  if (!entry) return;
  card.picture.alt = `${card.group.name}: ${entry.caption}`;
  card.picture.src = `data:image/png;base64,${byId(`block-${entry.block}`).textContent}`;
}

build();
