/** The result as DICOM files, for services that write them and studies that came as DICOM. */

import { dicom } from "./api.js";
import { h, icon, problem } from "./dom.js";

/** Whether a file is DICOM, or a zip, which may hold some. */
async function mayBeDicom(file) {
  const head = new Uint8Array(await file.slice(0, 132).arrayBuffer());
  const letters = (from, to) => String.fromCharCode(...head.subarray(from, to));
  return letters(128, 132) === "DICM" || letters(0, 4) === "PK\u0003\u0004";
}

/**
 * Return a button that fetches the result as a zip of DICOM files, or null where the study is none.
 * @param {File[]} files Of the study, the first of each modality.
 * @param {() => FormData} body
 * @param {object} model
 */
export async function saving(files, body, model) {
  if (!(await Promise.all(files.map(mayBeDicom))).some(Boolean)) return null;
  const said = h("div", { role: "status" });
  const button = h("button", { type: "button", on: { click: () => run() } }, icon("save"), "Save as DICOM");
  async function run() {
    button.disabled = true;
    said.replaceChildren(h("p", { class: "quiet" }, h("span", { class: "spin" }), "Writing …"));
    try {
      const address = URL.createObjectURL(await dicom(body(), { model: model.name }));
      h("a", { href: address, download: `${model.name}-result.zip` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
      said.replaceChildren(h("p", { class: "quiet" }, "Saved: a Structured Report and the heat maps, in a zip."));
    } catch (error) {
      said.replaceChildren(problem(error));
    }
    button.disabled = false;
  }
  return h("div", { class: "save" }, button, said);
}
