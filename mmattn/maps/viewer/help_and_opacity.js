// What the pages of captions and of decisions let one do alike.

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
