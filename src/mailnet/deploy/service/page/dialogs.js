/** What the page asks in a dialog: the token, and where files belong. */

import { byId, h } from "./dom.js";

export function startDialogs() {
  byId("help").addEventListener("click", () => byId("help-dialog").showModal());
}

/** Show a dialog and return the value of the button that closed it; "" for Escape. */
function answerOf(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

let asking = null; // several requests that are refused at once ask once

/** Ask for the token; null where the user will not give one. */
export function askToken(refused) {
  asking = asking || ask(refused).finally(() => (asking = null));
  return asking;
}

async function ask(refused) {
  const input = byId("token");
  input.value = "";
  const title = byId("token-title");
  title.textContent = refused ? "That token was refused" : "This service asks for a token";
  const answer = await answerOf(byId("token-dialog"));
  const given = input.value.trim();
  input.value = "";
  return answer === "ok" && given ? given : null;
}

/** Ask to which modality files belong; null where the user will not say. */
export async function askWhere(files, names) {
  const shown = files.slice(0, 3).map((file) => file.name).join(", ");
  byId("where-note").textContent = files.length > 3 ? `${shown} and ${files.length - 3} more` : shown;
  byId("where-choices").replaceChildren(...names.map((name) => h("button", { type: "submit", value: `to ${name}` }, name)), h("button", { type: "submit", value: "" }, "Cancel"));
  const answer = await answerOf(byId("where-dialog"));
  return answer ? new Map([[answer.slice(3), files]]) : null;
}
