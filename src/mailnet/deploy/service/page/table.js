/** Inputs for the columns of tables. What is left empty is unknown to the model. */

import { h, problem } from "./dom.js";
import { Problem } from "./api.js";

const MOST = 40; // inputs of one table; a longer one is given as a file

export class Tables {
  /**
   * @param {HTMLFormElement} form
   * @param {() => void} changed
   */
  constructor(form, changed) {
    Object.assign(this, { form, changed, values: new Map(), columns: [] });
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Show the tables of a model; what was entered of a column that the new one has too stays. */
  show(modalities) {
    const tables = Object.entries(modalities).filter(([, modality]) => modality.kind === "tabular");
    this.columns = tables.flatMap(([, modality]) => modality.columns || []);
    const names = new Set(this.columns.map((column) => column.name));
    for (const name of [...this.values.keys()]) if (!names.has(name)) this.values.delete(name);
    this.form.hidden = !tables.length;
    this.form.replaceChildren(...tables.map(([name, { columns = [] }]) => (columns.length > MOST ? this.fromFile(name, columns) : this.inputs(name, columns))));
  }

  clear() {
    this.values.clear();
    this.form.reset();
    for (const note of this.form.querySelectorAll("[data-count]")) note.textContent = "";
  }

  /** The values as /v1/predict takes them, or null where nothing was entered. */
  body() {
    const bad = this.form.querySelector("[aria-invalid=true]");
    if (bad) {
      bad.focus();
      throw new Problem(`"${bad.value}" is not a number.`, `Mend '${bad.name}', or leave it empty where it is unknown.`);
    }
    return this.values.size ? Object.fromEntries(this.values) : null;
  }

  inputs(name, columns) {
    const fields = columns.map((column) => h("label", { class: "field" }, h("span", {}, column.name), this.input(column)));
    return h("fieldset", {}, h("legend", {}, name), h("div", { class: "fields" }, ...fields), h("p", { class: "quiet screen" }, "Leave empty what is unknown."));
  }

  input(column) {
    const known = this.values.get(column.name);
    const set = (value) => {
      if (value === "" || value === null) this.values.delete(column.name);
      else this.values.set(column.name, value);
      this.changed();
    };
    if (column.kind === "categorical" && (column.categories || []).length) {
      const select = h("select", { name: column.name, on: { change: () => set(select.value === "" ? "" : column.categories[Number(select.value)]) } }, h("option", { value: "" }, "unknown"));
      select.append(...column.categories.map((category, k) => h("option", { value: String(k) }, String(category))));
      if (known !== undefined) select.value = String(column.categories.indexOf(known));
      return select;
    }
    const numeric = column.kind !== "categorical";
    const read = () => {
      const text = input.value.trim();
      const value = numeric && text !== "" ? Number(text.replace(",", ".")) : text;
      const bad = numeric && text !== "" && !Number.isFinite(value);
      input.setAttribute("aria-invalid", String(bad));
      set(bad ? "" : value);
    };
    const input = h("input", { type: "text", name: column.name, inputMode: numeric ? "decimal" : "text", autocomplete: "off", spellcheck: false, placeholder: "unknown", on: { input: read } });
    if (known !== undefined) input.value = String(known);
    return input;
  }

  fromFile(name, columns) {
    const known = new Map(columns.map((column) => [column.name, column]));
    const count = h("p", { class: "quiet", role: "status", data: { count: name } });
    const file = h("input", { type: "file", accept: ".json,.csv,.tsv,.txt", "aria-label": `File with the values of ${name}` });
    file.addEventListener("change", async () => {
      if (!file.files.length) return;
      try {
        const given = parse(await file.files[0].text(), known);
        let found = 0;
        for (const column of known.keys()) this.values.delete(column);
        for (const [key, value] of given) {
          const column = known.get(key);
          if (!column || value === "" || value === null) continue;
          this.values.set(key, column.kind === "categorical" ? String(value) : numberOf(value, key));
          found += 1;
        }
        if (!found) throw new Problem("The file has none of the model's columns.", `It needs names such as '${columns[0].name}', as a JSON object or as CSV.`);
        count.replaceChildren(`${found} of ${columns.length} columns given`);
      } catch (error) {
        for (const column of known.keys()) this.values.delete(column);
        count.replaceChildren(problem(error instanceof Problem ? error : new Problem("The file cannot be read.", "Give a JSON object (column: value), or CSV with a line of names and a line of values.")));
      }
      file.value = ""; // the same file may be opened again
      this.changed();
    });
    return h("fieldset", {}, h("legend", {}, name), h("p", {}, `${columns.length} columns, from a file: JSON, or CSV with a line of names and one of values.`), file, count);
  }
}

function numberOf(value, name) {
  const number = Number(value);
  if (!Number.isFinite(number)) throw new Problem(`'${value}' is not a number.`, `Mend '${name}' in the file, or leave it empty where it is unknown.`);
  return number;
}

/** Return [column, value] pairs of a JSON object, of CSV with a line of names, or of lines of name and value. */
function parse(text, known) {
  if (text.trim().startsWith("{")) return Object.entries(JSON.parse(text));
  const rows = text.trim().split(/\r?\n/).map((line) => line.split(/[\t;,]/).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1")));
  const count = (names) => names.filter((name) => known.has(name)).length;
  return rows.length === 2 && count(rows[0]) > count(rows.map(([name]) => name)) ? rows[0].map((name, k) => [name, rows[1][k] ?? ""]) : rows.map(([name, value = ""]) => [name, value]);
}
