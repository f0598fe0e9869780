// The page as elements and data.

const byId = (id) => document.getElementById(id);

// An element with attributes and children; strings become text, never markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Text that is written from right to left, fit to stand between numbers and other text.
const LEFTWARDS = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/;

function apart(text) {
  return LEFTWARDS.test(text) ? `\u2068${text}\u2069` : text;
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
}

function fail(text) {
  byId("message").textContent = text;
  byId("message").hidden = false;
}

const page = JSON.parse(byId("data").textContent);
