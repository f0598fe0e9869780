// What the pages of captions and of decisions open with.

// Of records over training steps a link may name the one to open: page.html#step=500. Else it is
// the last; of others it is the first.
function firstShown(records) {
  const step = Number(/step=(\d+)/.exec(location.hash)?.[1] ?? NaN);
  const found = records.findIndex((record) => record.step === step);
  if (found >= 0) return found;
  return overSteps(records) ? records.length - 1 : 0;
}

// Whether all are of one input, at training steps.
function overSteps(records) {
  return records.every(({ key, step }) => key === records[0].key && step !== null);
}

// Wear the library's colours; `redraw` in those of the other theme when it changes.
function dress(redraw) {
  setLook(page.look);
  if (page.home) byId("home").replaceChildren(element("a", { href: page.home }, "All images"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
