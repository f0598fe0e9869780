// A page of cards that are filled when they come into view, with filters and a slider over steps.
// A page brings `buildCard`, `describe` and `drawCard` for what its own cards show.

// The step that is looked at, as an index of page.steps.
let at = Math.max(0, page.steps.length - 1);
const cards = [];

// What a group showed last at a step: the newest entry that is not after it, else none. An entry
// that does not last is of its own step alone.
function entryOf(group) {
  if (!page.steps.length) return group.entries.at(-1);
  const step = page.steps[at];
  return group.entries.findLast(
    (entry) =>
      entry.step === null ||
      (entry.lasting === false ? entry.step === step : entry.step <= step),
  );
}

// Whether a group has nothing to show at this step, and is not to be waited for.
function gone(group) {
  return group.entries[0].lasting === false && !entryOf(group);
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
    const wanted = set === "*" || group.set === set;
    box.hidden = !wanted || gone(group) || !words.every((word) => all.includes(word));
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
      applyFilters();
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
  byId("facts").textContent = [count(page.groups.length, page.thing), steps && count(steps, "step")]
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
  applyFilters();
}
