/** The page: which model, which files, and what is asked of the service. */

import * as api from "./api.js";
import { byId, h, icon, problem, sentences } from "./dom.js";
import { askToken, askWhere, startDialogs } from "./dialogs.js";
import { Explaining } from "./explain.js";
import { byName, droppedFiles, hasFiles } from "./files.js";
import { Picture } from "./image.js";
import { fillSheet } from "./sheet.js";
import { inWords, showResult } from "./result.js";
import { saving } from "./save.js";
import { Tables } from "./table.js";
import { startTheme } from "./theme.js";
import { View } from "./view.js";

let models = [];
let model = null;
let writesDicom = false; // the service
let views = new Map(); // image modality -> View
let rename = () => {}; // the study on the printed page
let running = null; // AbortController of the prediction under way
const reading = new Map(); // image modality -> AbortController of its preview

const say = (text) => (byId("status").textContent = text);
const tables = new Tables(byId("inputs"), () => outdated());
const explaining = new Explaining(byId("explain"), (question) => api.explain(body(), { model: model.name, ...question }), showHeat, say);

function showProblem(error) {
  byId("problem").replaceChildren(...(error ? [problem(error)] : []));
  if (error) say("");
}

/** The study as it is entered, or an error that says that there is none. */
function body(only = null) {
  const form = new FormData();
  for (const [name, view] of views) {
    if ((only !== null && only !== name) || view.refused) continue;
    for (const file of view.files) form.append(name, file, file.name);
    if (view.mask && !form.has(view.modality.mask)) form.append(view.modality.mask, view.mask, view.mask.name);
  }
  if (only !== null) return form;
  const values = tables.body();
  if (values) form.append("table", JSON.stringify(values));
  const images = [...views.values()].filter((view) => view.files.length && !view.refused);
  if (!images.length && !values) throw new api.Problem("There is nothing to predict from.", "Drop an image on its view, or enter a value.");
  if (byId("study").value.trim()) form.append("id", byId("study").value.trim());
  return form;
}

/** What is shown no longer answers what is entered. */
function outdated() {
  if (running) {
    running.abort();
    say("The inputs have changed. Predict again.");
  }
  byId("result").classList.add("outdated");
  explaining.offer(null, null);
  showProblem(null);
  if (!byId("result").hidden) say("The inputs have changed. Predict again.");
}

async function filesChanged(view) {
  outdated();
  if (reading.has(view.name)) reading.get(view.name).abort();
  reading.delete(view.name);
  view.write();
  if (!view.files.length || view.wants()) return;
  const stop = new AbortController();
  reading.set(view.name, stop);
  view.busy();
  say(`Reading ${view.name} …`);
  try {
    const answer = await api.preview(body(view.name), { model: model.name, signal: stop.signal });
    if (stop.signal.aborted) return;
    view.show(new Picture(answer.images[view.name]));
    say(`${view.name} is shown.`);
  } catch (error) {
    if (error.name === "AbortError" || stop.signal.aborted) return;
    view.refuse(error);
    say(`${error.message.startsWith(view.name) ? "" : `${view.name}: `}${error.message}. ${sentences([error.remedy])}`);
  }
}

async function predict() {
  if (!model || running) return;
  showProblem(null);
  const stop = (running = new AbortController());
  byId("predict").setAttribute("aria-busy", "true");
  try {
    const form = body();
    say("Predicting …");
    const answer = await api.predict(form, { model: model.name, without: Object.keys(model.modalities).length > 1, signal: stop.signal });
    const panel = byId("result");
    panel.replaceChildren(...showResult(answer, model));
    panel.classList.remove("outdated");
    panel.hidden = false;
    if (panel.getBoundingClientRect().top > 0.8 * innerHeight) panel.scrollIntoView({ block: "start" });
    explaining.offer(model, answer.study);
    rename = fillSheet(byId("sheet"), model, byId("study").value.trim());
    say(inWords(answer, model));
    const firsts = [...views.values()].filter((view) => view.files.length && !view.refused).map((view) => view.files[0]);
    const save = writesDicom ? await saving(firsts, body, model) : null;
    if (save && running === stop) panel.append(save);
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error);
  } finally {
    if (running === stop) running = null;
    byId("predict").removeAttribute("aria-busy");
  }
}

function showHeat(maps) {
  for (const [name, view] of views) view.showHeat((maps && maps[name]) || null);
}

/** Give files that were dropped beside the views to the views that they belong to. */
async function assign(files) {
  if (!files.length || !views.size) return;
  const found = byName(files, [...views.keys()]) || (await askWhere(files, [...views.keys()]));
  for (const [name, some] of found || []) views.get(name).take(some);
}

function choose(name) {
  const before = views;
  for (const stop of reading.values()) stop.abort();
  outdated();
  byId("result").hidden = true;
  byId("sheet").replaceChildren();
  model = models.find((one) => one.name === name);
  document.title = `${model.name} · mailnet`;
  views = new Map();
  for (const [key, modality] of Object.entries(model.modalities)) if (modality.kind !== "tabular") views.set(key, new View(key, modality, filesChanged));
  byId("views").replaceChildren(...[...views.values()].map((view) => view.element));
  byId("views").hidden = !views.size;
  byId("views").dataset.count = views.size;
  tables.show(model.modalities);
  byId("predict").disabled = false;
  for (const [key, view] of views) if (before.has(key)) view.take(before.get(key).files); // another model, the same study
}

function clear() {
  byId("study").value = "";
  tables.clear();
  for (const view of views.values()) if (view.files.length) view.drop();
  outdated();
  byId("result").hidden = true;
  byId("result").replaceChildren();
  byId("sheet").replaceChildren();
  byId("clear").focus();
  say("Ready for the next study.");
}

function startDropping() {
  let resting = null;
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dragging");
    clearTimeout(resting);
    resting = setTimeout(() => document.body.classList.remove("dragging"), 400);
  });
  document.addEventListener("drop", async (event) => {
    document.body.classList.remove("dragging");
    if (!hasFiles(event) || event.defaultPrevented) return;
    event.preventDefault();
    assign(await droppedFiles(event.dataTransfer));
  });
}

async function start() {
  for (const button of document.querySelectorAll("[data-icon]")) button.prepend(icon(button.dataset.icon));
  startTheme(byId("theme"));
  startDialogs();
  startDropping();
  api.askTokenWith(askToken);
  byId("predict").addEventListener("click", predict);
  byId("clear").addEventListener("click", clear);
  byId("print").addEventListener("click", () => print());
  for (const [event, on] of [["beforeprint", true], ["afterprint", false]]) addEventListener(event, () => views.forEach((view) => view.viewer.toPaper(on)));
  byId("study").addEventListener("input", () => rename(byId("study").value.trim()));
  document.addEventListener("keydown", (event) => event.key === "Enter" && event.ctrlKey && predict());
  byId("model").addEventListener("change", () => choose(byId("model").value));
  await connect();
}

async function connect() {
  try {
    [models, writesDicom] = await Promise.all([api.models(), api.writesDicom()]);
    if (!models.length) throw new api.Problem("The service has no model.", "Start it with 'mailnet serve BUNDLE'.");
  } catch (error) {
    showProblem(error);
    byId("problem").append(h("p", { class: "buttons" }, h("button", { type: "button", on: { click: () => (showProblem(null), connect()) } }, "Try again")));
    return;
  }
  byId("model").replaceChildren(...models.map((one) => h("option", { value: one.name }, one.name)));
  byId("model").disabled = models.length === 1;
  choose(models[0].name);
  say("Drop images on their views, or open them with the buttons.");
}

start();
