/** Heat maps on demand: which task, class and method, one scale for all modalities, and what each is worth. */

import { h, problem, signed } from "./dom.js";
import { gradient, HeatMap } from "./heat.js";

const NAMES = {
  grad_cam: "Grad-CAM",
  grad_cam_pp: "Grad-CAM++",
  layer_cam: "LayerCAM",
  contrast_cam: "Contrast-CAM",
  gradient: "Gradient",
  integrated_gradients: "Integrated gradients",
  occlusion: "Occlusion",
  rise: "RISE",
  emcam: "EMCAM attention",
};

export class Explaining {
  /**
   * @param {HTMLElement} panel
   * @param {(question: {task, method, target}) => Promise<object>} ask Gives the answer of /v1/explain.
   * @param {(maps: Object<string, HeatMap>|null) => void} show Puts maps over the images.
   * @param {(text: string) => void} say
   */
  constructor(panel, ask, show, say) {
    Object.assign(this, { panel, ask, show, say });
  }

  /** Offer what a model can explain of an answer; null takes the panel away. */
  offer(model, study) {
    this.clear();
    const methods = model && study ? model.explains || [] : [];
    this.found = null;
    this.panel.hidden = !(model && study);
    this.panel.replaceChildren();
    if (this.panel.hidden) return;
    if (!methods.length) {
      this.panel.append(h("h2", {}, "Heat map"), h("p", { class: "quiet" }, "An exported model answers, and cannot say why. The run that it was exported from, served in its place, shows heat maps too."));
      return;
    }
    const option = (value, text = value) => h("option", { value }, text);
    const again = () => this.shown && this.run();
    this.task = h("select", { on: { change: () => (this.fillTargets(model, study), again()) } }, Object.keys(model.tasks).map((name) => option(name)));
    this.target = h("select", { on: { change: again } });
    this.method = h("select", { on: { change: again } }, methods.map((name) => option(name, NAMES[name] || name)));
    this.fillTargets(model, study);
    const fields = [["Task", this.task], ["Speaks for", this.target], ["Method", this.method]];
    this.button = h("button", { type: "button", on: { click: () => (this.shown ? this.clear() : this.run()) } }, "Show heat map");
    this.found = h("div", { class: "found", "aria-busy": "false" });
    this.panel.append(h("h2", {}, "Heat map"), h("div", { class: "fields" }, ...fields.map(([text, input]) => h("label", { class: "field" }, h("span", {}, text), input))), h("p", { class: "buttons" }, this.button), this.found);
  }

  fillTargets(model, study) {
    const { classes } = model.tasks[this.task.value];
    const { probabilities } = study.tasks[this.task.value];
    this.target.replaceChildren(...classes.map((label) => h("option", { value: label }, String(label))));
    this.target.value = classes.reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a));
  }

  /** Take the maps away. */
  clear() {
    if (this.stop) this.stop.abort();
    this.shown = false;
    this.show(null);
    if (!this.found) return;
    this.found.replaceChildren();
    this.button.textContent = "Show heat map";
  }

  async run() {
    if (this.stop) this.stop.abort();
    const stop = (this.stop = new AbortController());
    this.found.setAttribute("aria-busy", "true");
    this.button.textContent = "Hide heat map";
    this.shown = true;
    this.found.replaceChildren(h("p", { class: "quiet" }, h("span", { class: "spin" }), "Computing …"));
    try {
      const answer = await this.ask({ task: this.task.value, method: this.method.value, target: this.target.value, signal: stop.signal });
      const maps = Object.fromEntries(await Promise.all(Object.entries(answer.maps).map(async ([name, map]) => [name, await HeatMap.read(map)])));
      if (stop.signal.aborted) return;
      this.show(maps);
      this.found.replaceChildren(legend(Object.values(maps), answer), shares(answer));
      this.say(`Heat map of what speaks for ${answer.target} is shown over ${Object.keys(maps).length} image${Object.keys(maps).length === 1 ? "" : "s"}.`);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.shown = false;
      this.show(null);
      this.button.textContent = "Show heat map";
      this.found.replaceChildren(problem(error));
      this.say(`No heat map: ${error.message}`);
    } finally {
      if (this.stop === stop) this.found.setAttribute("aria-busy", "false");
    }
  }
}

function legend(maps, { method, target, task }) {
  if (!maps.length) return h("p", {}, "This method makes no map of what was given.");
  const top = Math.max(...maps.map((map) => map.top));
  if (!top) return h("p", {}, `The method finds nothing in any image that speaks for ${target}.`);
  const both = maps.some((map) => map.signed);
  const strip = h("span", { class: "strip", "aria-hidden": "true" });
  strip.style.backgroundImage = gradient(both);
  const ends = both ? [`${signed(-top)} against`, "0", `${signed(top)} for`] : ["0", `${signed(top)} for`];
  return h("div", { class: "legend", role: "group", "aria-label": "Scale of the heat maps" }, h("p", {}, `${task}: what speaks for ${target}`, h("span", { class: "quiet" }, ` · ${NAMES[method] || method}`)), strip, h("p", { class: "ends" }, ...ends.map((text) => h("span", {}, text))), h("p", { class: "quiet" }, "One scale for all images: the log-odds that a whole image of this colour would add."));
}

function shares({ shares: worth, target }) {
  const entries = Object.entries(worth || {});
  if (!entries.length) return null;
  const most = Math.max(...entries.map(([, value]) => Math.abs(value)), 1e-9);
  const rows = entries.map(([name, value]) => {
    const fill = h("span", { class: value < 0 ? "fill against" : "fill" });
    fill.style.width = `${(50 * Math.abs(value)) / most}%`;
    fill.style[value < 0 ? "right" : "left"] = "50%";
    return h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "track" }, h("span", { class: "bar both", "aria-hidden": "true" }, fill)), h("td", { class: "number" }, signed(value)));
  });
  return h("table", { class: "bars" }, h("caption", {}, `What each modality adds to ${target}, in log-odds`), h("tbody", {}, ...rows));
}
