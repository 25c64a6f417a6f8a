// Elements of a page. Text only ever becomes text, so nothing that a run is called is markup.

const SVG = "http://www.w3.org/2000/svg";

// An HTML element with attributes (null and false leave one out) and children.
export function html(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

// The same for an SVG element.
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}
