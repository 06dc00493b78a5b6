/** The head of the printed result: what was asked, of what, when, and what it must not be used for. */

import { h } from "./dom.js";

/**
 * @param {HTMLElement} sheet Seen on paper only.
 * @param {object} model
 * @param {string} study What the user calls it, or empty.
 * @returns {(study: string) => void} Calls it something else.
 */
export function fillSheet(sheet, model, study) {
  const noise = describe(model.noise);
  const line = h("dd", {}, study || "not named");
  const rows = [
    ["Study", line],
    ["Date", h("dd", {}, new Date().toLocaleString(undefined, { dateStyle: "long", timeStyle: "short" }))],
    ["Model", h("dd", {}, model.study && model.study !== model.name ? `${model.name} (trained on ${model.study})` : model.name)],
    ["Noise", noise ? h("dd", {}, noise) : null],
  ];
  sheet.replaceChildren(h("h1", {}, "mailnet: result"), h("p", { class: "research" }, "For research use; not a medical device."), h("dl", {}, ...rows.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), value))));
  return (name) => (line.textContent = name || "not named");
}

/** How a random network was asked, in words; empty where it is not random or not asked at random. */
function describe(noise) {
  if (!noise || noise === "off") return "";
  if (typeof noise === "string") return noise;
  return Object.entries(noise).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`).join(", ");
}
