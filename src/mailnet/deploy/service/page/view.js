/** One image modality: its files, its picture, and what stands around it. */

import { bytes, h, icon, problem, short } from "./dom.js";
import { droppedFiles, hasFiles, kept } from "./files.js";
import { Viewer } from "./viewer.js";

const ACCEPT = ".dcm,.dicom,.ima,.png,.jpg,.jpeg,.tif,.tiff,.bmp,.nii,.gz,.npy,.zip";

export class View {
  /**
   * @param {string} name
   * @param {object} modality As /v1/models gives it.
   * @param {(view: View) => void} changed Called when the files are others.
   */
  constructor(name, modality, changed) {
    Object.assign(this, { name, modality, changed, files: [], mask: null, refused: false });
    this.volume = modality.kind === "volume";
    this.build();
    this.viewer = new Viewer(this.canvas, () => this.write());
    this.write();
  }

  build() {
    const name = this.name;
    const pick = h("input", { type: "file", multiple: true, accept: ACCEPT, hidden: true, tabIndex: -1, "aria-label": `Files of ${name}` });
    const folder = h("input", { type: "file", webkitdirectory: true, hidden: true, tabIndex: -1, "aria-label": `Folder of ${name}` });
    const mask = h("input", { type: "file", accept: ACCEPT, hidden: true, tabIndex: -1, "aria-label": `Mask of ${name}` });
    mask.addEventListener("change", () => this.takeMask(mask.files[0]));
    for (const input of [pick, folder]) {
      input.addEventListener("change", () => {
        if (input.files.length) this.take(kept(input.files));
        input.value = "";
      });
    }
    const button = (text, symbol, act, label) => h("button", { type: "button", class: "quiet", "aria-label": label, title: label, on: { click: act } }, icon(symbol), text);
    this.choose = button("Open", "open", () => pick.click(), `Open files of ${name}`);
    this.remove = button("", "close", () => this.drop(), `Remove ${name}`);
    this.canvas = h("canvas", { class: "picture", role: "application", "aria-roledescription": "image viewer" });
    this.file = h("span", { class: "file" });
    this.corners = Object.fromEntries(["tl", "tr", "bl", "br"].map((place) => [place, h("span", { class: `corner ${place}`, "aria-hidden": "true" })]));
    this.note = h("div", { class: "note" });
    this.spoken = h("p", { class: "hidden", "aria-live": "polite" });
    this.stage = h("div", { class: "stage" }, this.canvas, ...Object.values(this.corners), this.note);
    this.slice = slider("Slice", { min: 1, max: 1, step: 1 }, (value) => this.viewer.goTo(value - 1));
    this.heat = slider("Heat map", { min: 0, max: 100, step: 1, value: 60 }, (value) => this.setOpacity(value / 100));
    this.level = slider("Level", { step: "any" }, (value) => this.viewer.setWindow(value, this.viewer.width));
    this.width = slider("Width", { step: "any" }, (value) => this.viewer.setWindow(this.viewer.level, value));
    const others = [["m", "Model's window"], ["f", "Full range"], ["i", "Invert"]].map(([key, text]) => h("button", { type: "button", on: { click: () => this.press(key) } }, text));
    const closer = ["+", "-"].map((key) => h("button", { type: "button", "aria-label": key === "+" ? "Zoom in" : "Zoom out", on: { click: () => this.press(key) } }, key === "+" ? "+" : "−"));
    const reset = h("button", { type: "button", on: { click: () => this.viewer.reset() } }, "Reset");
    this.adjust = h("details", { class: "adjust" }, h("summary", {}, "Adjust"), this.level.row, this.width.row, h("p", { class: "buttons" }, ...closer, ...others, reset));
    this.element = h(
      "section",
      { class: "view", "aria-label": name, data: { modality: name } },
      h("header", {}, h("h2", {}, name), this.file, this.choose, this.volume ? button("Folder", "folder", () => folder.click(), `Open a folder for ${name}`) : null, this.modality.mask ? button("Mask", "open", () => mask.click(), `Open the mask of ${name}`) : null, this.remove),
      this.stage,
      h("div", { class: "controls" }, this.slice.row, this.heat.row, this.adjust),
      this.spoken,
      pick,
      folder,
      mask,
    );
    this.stage.addEventListener("click", () => this.files.length || pick.click());
    const over = (on) => this.element.classList.toggle("over", on);
    this.element.addEventListener("dragover", (event) => hasFiles(event) && over(true));
    this.element.addEventListener("dragleave", (event) => this.element.contains(event.relatedTarget) || over(false));
    this.element.addEventListener("drop", async (event) => {
      over(false);
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.take(await droppedFiles(event.dataTransfer));
    });
  }

  press(key) {
    this.canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
  }

  /** Take files in place of those before. Of two, where a mask is wanted, one may be called so. */
  take(files) {
    if (!files.length) return;
    const masks = this.modality.mask && files.length === 2 ? files.filter((file) => /mask|seg/i.test(file.name)) : [];
    this.files = masks.length === 1 ? files.filter((file) => file !== masks[0]) : files;
    this.mask = masks.length === 1 ? masks[0] : null;
    this.refused = false;
    this.viewer.show(null);
    this.changed(this);
  }

  takeMask(file) {
    if (!file) return;
    Object.assign(this, { mask: file, refused: false });
    this.changed(this);
  }

  /** Whether the files are not complete without a mask. */
  wants() {
    const missing = Boolean(this.modality.mask && this.files.length && !this.mask);
    if (missing) this.note.replaceChildren(h("div", { class: "empty" }, h("p", {}, "Open the mask of the lesion too"), h("p", { class: "quiet" }, "The model looks at the slice where it is largest.")));
    return missing;
  }

  /** Be without files. */
  drop() {
    this.files = [];
    this.mask = null;
    this.refused = false;
    this.viewer.show(null);
    this.changed(this);
    this.choose.focus();
  }

  busy() {
    this.note.replaceChildren(h("span", { class: "spin" }), "Reading …");
  }

  show(picture) {
    this.viewer.show(picture);
    this.write();
  }

  refuse(error) {
    this.refused = true;
    this.viewer.show(null);
    this.write();
    this.note.replaceChildren(problem(error));
  }

  showHeat(heat) {
    this.viewer.showHeat(heat);
    this.write();
  }

  setOpacity(share) {
    Object.assign(this.viewer, { opacity: share, heatShown: true });
    this.viewer.redraw();
  }

  /** Write what stands around the picture. */
  write() {
    const { viewer } = this;
    if (!viewer) return;
    const { picture } = viewer;
    const [level, width] = [short(viewer.level), short(viewer.width)];
    this.element.classList.toggle("filled", Boolean(picture));
    this.canvas.tabIndex = picture ? 0 : -1;
    this.remove.hidden = !this.files.length;
    this.file.textContent = describe(this.files);
    this.file.title = this.files.length === 1 ? this.files[0].name : "";
    this.slice.row.hidden = !(picture && picture.volume);
    this.heat.row.hidden = !(picture && viewer.heat);
    this.adjust.hidden = !picture;
    if (!picture) {
      this.canvas.setAttribute("aria-label", `${this.name}: no image`);
      for (const corner of Object.values(this.corners)) corner.textContent = "";
      if (!this.files.length) this.note.replaceChildren(this.invitation());
      return;
    }
    this.note.replaceChildren();
    const slice = picture.volume ? `slice ${viewer.plane + 1} of ${picture.depth}` : "";
    this.canvas.setAttribute("aria-label", `${this.name}: ${picture.width} by ${picture.height} pixels. Arrow keys change the window, plus and minus zoom, 0 resets${slice ? ", page keys change the slice" : ""}.`);
    this.corners.tl.textContent = `${picture.width} × ${picture.height}`;
    this.corners.tr.textContent = slice;
    this.corners.bl.textContent = `L ${level}  W ${width}${viewer.inverted ? "  inverted" : ""}${picture.flat ? `\nThe model sees it nearly grey: ${picture.window.map(short).join(" to ")}` : ""}`;
    const under = viewer.pointer ? viewer.read(viewer.pointer) : "";
    this.corners.br.textContent = under || (viewer.zoom === 1 ? "" : `${viewer.zoom.toFixed(1)} ×`);
    this.slice.set({ max: picture.depth, value: viewer.plane + 1 }, `${viewer.plane + 1} of ${picture.depth}`);
    this.heat.set({ value: Math.round(100 * viewer.opacity) }, viewer.heatShown ? `${Math.round(100 * viewer.opacity)} %` : "off");
    this.level.set({ min: picture.least, max: picture.most, value: viewer.level }, level);
    this.width.set({ min: viewer.step, max: Math.max(picture.most - picture.least, viewer.step * 2), value: viewer.width }, width);
    this.say(`${slice ? `${slice}, ` : ""}level ${level}, width ${width}, zoom ${viewer.zoom.toFixed(1)}${viewer.heat && !viewer.heatShown ? ", heat map off" : ""}`);
  }

  // For those who do not see it: once the keys rest, and only where they are in use.
  say(text) {
    clearTimeout(this.saying);
    if (document.activeElement === this.canvas) this.saying = setTimeout(() => (this.spoken.textContent = text), 600);
  }

  invitation() {
    const what = this.volume ? "a DICOM series (files, folder or zip), NIfTI or npy" : "DICOM, PNG, JPEG or TIFF";
    return h("div", { class: "empty" }, h("p", {}, `Drop ${this.name} here, or click`), h("p", { class: "quiet" }, what));
  }
}

function describe(files) {
  if (!files.length) return "no file";
  const size = bytes(files.reduce((sum, file) => sum + file.size, 0));
  return files.length === 1 ? `${files[0].name} · ${size}` : `${files.length} files · ${size}`;
}

/** A labelled slider with its value in words; `set` changes it without acting. */
function slider(text, properties, act) {
  const output = h("output", {});
  const input = h("input", { type: "range", ...properties, on: { input: () => act(Number(input.value)) } });
  const row = h("label", { class: "slider" }, h("span", {}, text), input, output);
  const set = (values, words) => {
    Object.assign(input, values); // least and most come before the value, which they bound
    input.setAttribute("aria-valuetext", words);
    output.textContent = words;
  };
  return { row, input, set };
}
