// When the pages of captions and of decisions are drawn: `drawPage` is theirs.

// Many changes in one frame are one drawing.
let waiting = false;
let drawings = 0;

// A drawing replaces buttons. One that is pressed is let go first, else its click would be lost.
let pressed = false;
let late = false;

addEventListener("pointerdown", (event) => { pressed = event.target.closest("button") !== null; });
for (const end of ["pointerup", "pointercancel"]) {
  addEventListener(end, () => {
    pressed = false;
    if (late) draw();
    late = false;
  });
}

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (pressed) {
      late = true;
      return;
    }
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
