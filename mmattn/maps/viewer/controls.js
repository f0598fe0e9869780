// What the controls of the pages of captions and of decisions do alike.

let opacityBefore = 0.8;

function toggleImage() {
  if (state.opacity) opacityBefore = state.opacity;
  choose({ opacity: state.opacity ? 0 : opacityBefore });
}

function changeOpacity(by) {
  choose({ opacity: Math.max(0, Math.min(1, Math.round((state.opacity + by) * 20) / 20)) });
}

// It opens at its top, and not at its first button.
function openHelp() {
  byId("help").showModal();
  byId("help-title").focus();
}

// Let each control choose what its value says: those of both pages, and `own` by their names.
function watchControls(own) {
  const changes = {
    shared: (value) => ({ shared: Boolean(value) }),
    smooth: (value) => ({ smooth: Boolean(value) }),
    opacity: (value) => ({ opacity: Number(value) }),
    ...own,
  };
  for (const [id, changed] of Object.entries(changes)) {
    byId(id).addEventListener("input", (event) => choose(changed(event.target.value)));
  }
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("open-help").addEventListener("click", openHelp);
  document.addEventListener("keydown", onKey);
}
