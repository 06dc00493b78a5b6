/** Requests to the service that this page came from, and nowhere else. The token lives in this module's memory. */

/** An error that tells the user what to do. */
export class Problem extends Error {
  constructor(message, remedy = "") {
    super(message);
    this.remedy = remedy;
  }
}

let token = null;
let ask = async () => null;

/** Say how a token is asked for: a function of "the last one was refused" that gives a token, or null. */
export function askTokenWith(asking) {
  ask = asking;
}

async function send(path, options = {}) {
  for (;;) {
    const used = token;
    let answer;
    try {
      answer = await fetch(new URL(path, document.baseURI), {
        ...options,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        headers: token === null ? {} : { Authorization: `Bearer ${token}` },
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The service does not answer.", "See that 'mailnet serve' is still running and that the files are not larger than it allows, then try again.");
    }
    if (answer.status !== 401) return answer;
    if (used !== token) continue; // another request has asked meanwhile
    const given = await ask(used !== null);
    if (given === null) throw new Problem("The service needs a token.", "Ask whoever runs it; press the button again to enter it.");
    token = given;
  }
}

async function problemOf(answer) {
  const values = await answer.json().catch(() => null);
  if (values && values.error) return new Problem(values.error.message, values.error.remedy || "");
  if (answer.status === 413) return new Problem("The files are larger than this service takes.", "Send fewer or smaller files, or let its operator raise the limit.");
  if (answer.status === 429 || answer.status === 503) return new Problem("The service is busy.", "Try again in a moment.");
  return new Problem(`The service answered ${answer.status} ${answer.statusText}.`, "Its log says more.");
}

async function json(path, options) {
  const answer = await send(path, options);
  if (!answer.ok) throw await problemOf(answer);
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service's answer cannot be read.", "Load the page again: it may be of another version than the service.");
  }
}

/** Whether the service writes DICOM. */
export async function writesDicom() {
  const answer = await send("openapi.json").catch(() => null);
  const known = answer && answer.ok ? await answer.json().catch(() => null) : null;
  return Boolean(known && known.paths && known.paths["/v1/dicom"]);
}

export async function dicom(body, { model }) {
  const answer = await send(`v1/dicom?${query({ model })}`, { method: "POST", body });
  if (!answer.ok) throw await problemOf(answer);
  return answer.blob();
}

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined)).toString();

export const models = async () => (await json("v1/models")).models;
export const predict = (body, { model, without, signal }) => json(`v1/predict?${query({ model, without: without ? "true" : undefined })}`, { method: "POST", body, signal });
export const preview = (body, { model, signal }) => json(`v1/preview?${query({ model })}`, { method: "POST", body, signal });
export const explain = (body, { model, task, method, target, signal }) => json(`v1/explain?${query({ model, task, method, target })}`, { method: "POST", body, signal });
