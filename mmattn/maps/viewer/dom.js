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

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
}

function fail(text) {
  byId("message").textContent = text;
  byId("message").hidden = false;
}

const page = JSON.parse(byId("data").textContent);
