/** The answer to a study: bars, sets, words, warnings, and what it would be without each modality. */

import { confidence, h, icon, list, percent, sentences } from "./dom.js";

/** Return the elements of a result. @param {object} answer Of /v1/predict. @param {object} model Of /v1/models. */
export function showResult(answer, model) {
  const { study, alpha } = answer;
  const tasks = Object.entries(study.tasks);
  return [
    h("h2", {}, "Result"),
    h("p", { class: "stale" }, icon("warn"), "The inputs have changed since. Predict again."),
    warnings(study, model),
    ...tasks.map(([name, task]) => h("article", { class: "task", "aria-label": name }, ...answerOf(name, task, model.tasks[name], alpha, model.calibrated !== false), without(name, task, answer.without, model))),
  ];
}

/** One sentence for the status line and screen readers. */
export function inWords(answer, model) {
  const parts = Object.entries(answer.study.tasks).map(([name, task]) =>
    task.answered === false ? `${name}: the model abstains` : `${name}: ${named(task, model.tasks[name])}${single(model.tasks[name]) ? `, ${percent(task.probabilities[task.predicted])}` : ""}`,
  );
  const alarms = foreign(answer.study).map(([name]) => name);
  return `${parts.join(". ")}.${alarms.length ? ` Warning: ${list(alarms, "and")} unlike the training data.` : ""}`;
}

const single = (spec) => spec.kind !== "multilabel";
const foreign = (study) => Object.entries(study.foreign || {}).filter(([, one]) => one.alarm);
const named = (task, spec) => (single(spec) ? task.predicted : list(task.predicted.split("|").filter(Boolean), "and") || "none of the labels");

function warnings(study, model) {
  const found = foreign(study).map(([name, one]) => [
    `${name} is unlike what the model was trained on (p = ${one.p < 0.001 ? "< 0.001" : one.p.toFixed(3)}).`,
    [...(one.findings || []).map((text) => h("span", { class: "finding" }, sentences([text]))), "The answer may be wrong without looking unsure."],
  ]);
  // What is odd besides, as a category that training has not seen, or headers of two patients.
  const shown = new Set(foreign(study).flatMap(([name, one]) => (one.findings || []).map((text) => `${name}: ${text}`)));
  for (const text of study.warnings || []) if (!shown.has(text)) found.push([`${text}.`, ""]);
  const { absent } = study;
  if (absent.length) found.push([`${list(absent, "and")} ${absent.length > 1 ? "are" : "is"} absent.`, "The model answers from the rest."]);
  if (Object.keys(model.modalities).length === absent.length) found.push(["Nothing was given.", "The answer is no more than how often each class occurred in training."]);
  return h("div", { class: "warnings" }, ...found.map(([what, more]) => h("div", { class: "warning" }, icon("warn"), h("p", {}, h("strong", {}, what), " ", more))));
}

function answerOf(name, task, spec, alpha, calibrated) {
  const abstains = task.answered === false;
  const said = named(task, spec);
  const sure = single(spec) ? percent(task.probabilities[task.predicted]) : "";
  const headline = abstains
    ? [h("p", { class: "answer abstains" }, h("span", { class: "flag" }, "abstains"), "No answer"), h("p", {}, `The model is not sure enough to answer. ${single(spec) ? `Most likely is ${said} (${sure}), which should not be relied on.` : "The labels below should not be relied on."}`)]
    : [h("p", { class: "answer" }, said, sure ? h("span", { class: "sure" }, sure) : null)];
  return [h("h3", {}, name), ...headline, bars(name, task, spec, alpha), calibrated ? null : uncalibrated(), setInWords(task, spec, alpha)];
}

/** Which mark a class has: its word, and whether the set holds it. */
function mark(label, task, spec) {
  if (task.set == null) return ["", false];
  if (single(spec)) return task.set.includes(label) ? ["in set", true] : ["", false];
  if (task.set.present.includes(label)) return ["present", true];
  return task.set.undecided.includes(label) ? ["undecided", true] : ["absent", false];
}

function bars(name, task, spec, alpha) {
  const rows = spec.classes.map((label) => {
    const p = task.probabilities[label];
    const [word, held] = mark(label, task, spec);
    const top = single(spec) ? label === task.predicted : p > 0.5;
    return h(
      "tr",
      { class: `${top ? "top " : ""}${held ? "held" : ""}` },
      h("th", { scope: "row" }, String(label)),
      h("td", { class: "track" }, bar(p)),
      h("td", { class: "number" }, percent(p)),
      task.set == null ? null : h("td", { class: "mark" }, held ? icon("check") : null, single(spec) ? h("span", { class: "word" }, word) : word),
    );
  });
  const head = ["class", "", "probability", ...(task.set == null ? [] : [alpha == null ? "set" : `${confidence(alpha)} set`])];
  return h(
    "table",
    { class: `bars${task.answered === false ? " unsure" : ""}${single(spec) ? "" : " labels"}` },
    h("caption", { class: "hidden" }, `${name}: probabilities of the classes`),
    h("thead", {}, h("tr", {}, ...head.map((text) => (text ? h("th", { scope: "col" }, text) : h("td", {}))))),
    h("tbody", {}, ...rows),
  );
}

function bar(p, reference = null) {
  const fill = h("span", { class: "fill" });
  fill.style.width = `${100 * p}%`;
  const parts = [fill];
  if (reference !== null) {
    parts.push(h("span", { class: "reference" }));
    parts[1].style.left = `${100 * reference}%`;
  }
  return h("span", { class: "bar", "aria-hidden": "true" }, ...parts);
}

function uncalibrated() {
  return h("p", { class: "words" }, h("span", { class: "flag" }, "not calibrated"), h("span", { class: "quiet" }, " The model may be right more or less often than these numbers say."));
}

function setInWords(task, spec, alpha) {
  if (task.set == null || alpha == null) return h("p", { class: "quiet" }, "This model has no prediction sets: how far it may be wrong is not known.");
  const often = `Such sets hold the truth for at least ${confidence(alpha)} of new patients, if these are like those of calibration.`;
  return h("p", { class: "words" }, `${setSays(task.set, spec)} `, h("span", { class: "quiet" }, often));
}

function setSays(set, spec) {
  if (!single(spec)) {
    const parts = [set.present.length ? `Present: ${list(set.present, "and")}.` : "No label is surely present.", set.undecided.length ? `Undecided: ${list(set.undecided, "and")}.` : ""];
    return parts.join(" ").trim();
  }
  if (set.length === 0) return "No class fits well enough: the set is empty.";
  if (set.length === 1) return `Only ${set[0]} remains in the set.`;
  if (set.length === spec.classes.length) return "All classes remain in the set: the model can exclude none.";
  return `${list(set, "and")} remain in the set; the rest is excluded.`;
}

function without(name, task, all, model) {
  const present = Object.keys(all || {});
  if (!present.length) return null;
  const spec = model.tasks[name];
  const label = single(spec) ? task.predicted : spec.classes.reduce((a, b) => (task.probabilities[b] > task.probabilities[a] ? b : a));
  const full = task.probabilities[label];
  const rows = present.map((modality) => {
    const probabilities = all[modality][name];
    const p = probabilities[label];
    const answer = spec.classes.reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a));
    const change = Math.round(1000 * (p - full)) / 10;
    const other = single(spec) && answer !== label ? h("span", { class: "flag" }, `then ${answer}`) : null;
    const words = change === 0 ? "no change" : `${change > 0 ? "+" : "−"}${Math.abs(change).toFixed(1)} points`;
    return h("tr", {}, h("th", { scope: "row" }, modality), h("td", { class: "track" }, bar(p, full)), h("td", { class: "number" }, percent(p)), h("td", { class: "mark" }, words, other));
  });
  return h(
    "table",
    { class: "bars without" },
    h("caption", {}, `${label}, were a modality left out`),
    h("thead", {}, h("tr", {}, ...["without", "", "probability", "change"].map((text) => (text ? h("th", { scope: "col" }, h("span", { class: "hidden" }, text)) : h("td", {}))))),
    h("tbody", {}, ...rows),
  );
}
