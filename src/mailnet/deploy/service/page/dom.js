/** Small helpers: elements, numbers in words, icons. Text enters the page as text only, never as markup. */

export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} tag
 * @param {object} properties Of the element; `class`, `data` and `on` (event -> function) too; keys with a dash are attributes.
 * @param {...(Node|string|null|undefined|Array)} children
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key === "class") element.className = value;
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (key.includes("-") || key === "role" || key === "for" || key === "scope") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const PATHS = {
  open: "M2 5h4l1.5 2H14v6H2z",
  close: "M4 4l8 8M12 4l-8 8",
  reset: "M4.2 5A5 5 0 1 1 3 8.5M4 2v3.4h3.4",
  print: "M4 6V2h8v4M4 11H2V6h12v5h-2M4 9.5h8V14H4z",
  theme: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 2v12M8 5.5h4.8M8 8h6M8 10.5h4.8",
  help: "M2 4h12v8H2zM4.5 6.5h1M7.5 6.5h1M10.5 6.5h1M5 9.5h6",
  clear: "M4 2h5l3 3v9H4zM8 7v4M6 9h4",
  folder: "M2 4h4l1.5 2H14v7H2zM5 9.5h6",
  save: "M8 2v8M5 7l3 3 3-3M3 13h10",
  check: "M3 8.5l3.200 3.200L13 4.8",
  warn: "M8 2l6.5 12h-13zM8 6.5v3.5M8 11.8v.4",
};

/** An icon in the colour of the text, which tells a screen reader nothing. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" })) svg.setAttribute(key, value);
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A probability as a per cent that never rounds to certainty. */
export function percent(p) {
  if (!Number.isFinite(p)) return "–";
  if (p < 0.001) return "< 0.1 %";
  if (p > 0.999) return "> 99.9 %";
  return `${(100 * p).toFixed(1)} %`;
}

/** The confidence of a prediction set, as "90 %". */
export const confidence = (alpha) => `${Number((100 * (1 - alpha)).toFixed(2))} %`;

/** A number with as many places as tell it from its neighbours. */
export function short(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  return (size >= 100 ? value.toFixed(0) : Number(size >= 10 ? value.toFixed(1) : value.toPrecision(2)).toString()).replace("-", "−");
}

/** A number with its sign, as log-odds are told. */
export const signed = (value) => (value > 0 ? "+" : "") + short(value);

/** "a", "a or b", "a, b or c" */
export function list(names, last = "or") {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} ${last} ${names[names.length - 1]}`;
}

/** Join texts as sentences. */
export const sentences = (texts) => texts.filter(Boolean).map((text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`).join(" ");

/** Put a file's size in words. */
export function bytes(count) {
  if (count < 1024) return `${count} B`;
  return count < 1024 ** 2 ? `${(count / 1024).toFixed(0)} kB` : `${(count / 1024 ** 2).toFixed(1)} MB`;
}

/** What is shown of an error: the message, and what to do about it. */
export const problem = (error, dismiss = null) =>
  h("div", { class: "problem" }, icon("warn"), h("div", {}, h("strong", {}, error.message), error.remedy ? h("p", {}, error.remedy) : null), dismiss);
