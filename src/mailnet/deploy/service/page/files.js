/** Files that are dropped: also folders, and to which modality they belong where nobody said so. */

const MOST = 20000; // files of one drop; a folder by mistake must not hang the page

/** Whether something that is dragged holds files, rather than text. */
export const hasFiles = (event) => Boolean(event.dataTransfer) && [...event.dataTransfer.types].includes("Files");

/** Return the files of a drop, those of folders too, ordered by path; hidden files and DICOMDIRs are left out. */
export async function droppedFiles(transfer) {
  // Entries must be taken before the event ends.
  const entries = [...transfer.items].map((item) => (item.kind === "file" && item.webkitGetAsEntry ? item.webkitGetAsEntry() : null));
  const plain = [...transfer.files];
  if (!entries.some((entry) => entry && entry.isDirectory)) return kept(plain);
  const found = [];
  for (const entry of entries) if (entry) await walk(entry, found);
  found.sort((a, b) => (a.path < b.path ? -1 : 1));
  return kept(found.map((one) => one.file));
}

/** Leave out what lies beside images in folders. */
export function kept(files) {
  return [...files].filter((file) => !file.name.startsWith(".") && !/^(dicomdir|thumbs\.db|desktop\.ini)$/i.test(file.name));
}

async function walk(entry, found) {
  if (found.length >= MOST) return;
  if (entry.isFile) {
    found.push({ path: entry.fullPath, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
}

/**
 * Say which files belong to which modality by their names, or null where that is not plain.
 * @param {File[]} files
 * @param {string[]} names Of the image modalities.
 * @returns {Map<string, File[]>|null}
 */
export function byName(files, names) {
  if (names.length === 1) return new Map([[names[0], files]]);
  const found = new Map();
  for (const file of files) {
    const words = file.name.toLowerCase().split(/[^a-z0-9]+/);
    const fit = names.filter((name) => file.name.toLowerCase().includes(name.toLowerCase()) && (name.length > 2 || words.includes(name.toLowerCase())));
    if (fit.length !== 1) return null;
    found.set(fit[0], [...(found.get(fit[0]) || []), file]);
  }
  return found;
}
