// When the pages of captions and of decisions are drawn: `drawPage` is theirs.

// Many changes in one frame are one drawing.
let waiting = false;
let drawings = 0;

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    drawPage();
    document.documentElement.dataset.drawn = String(++drawings); // for those who wait for one
  });
}

// Look at something while a mouse rests on it; a finger chooses at once.
function look(event, changes) {
  if (event.pointerType !== "mouse") return;
  preview = changes;
  draw();
}
