/** Mouse, touch and keys on the canvas of a viewer, as viewers of DICOM have them. */

const ACROSS = { ArrowLeft: -1, ArrowRight: 1 };
const DOWN = { ArrowUp: -1, ArrowDown: 1 };

export function listen(canvas, viewer) {
  const pointers = new Map();
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (!viewer.picture) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { at: point(event), moves: event.shiftKey || event.button === 1 || event.button === 2 });
  });
  canvas.addEventListener("pointermove", (event) => {
    viewer.pointer = point(event);
    const held = pointers.get(event.pointerId);
    if (!held) return viewer.changed();
    const [across, down] = viewer.pointer.map((value, k) => value - held.at[k]);
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1].at;
      const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
      viewer.zoomBy(apart(viewer.pointer) / Math.max(apart(held.at), 1), viewer.pointer.map((value, k) => (value + other[k]) / 2));
      viewer.moveBy(across / 2, down / 2);
    } else if (held.moves) viewer.moveBy(across, down);
    else viewer.setWindow(viewer.level + down * viewer.stride, viewer.width + across * viewer.stride * 2);
    held.at = viewer.pointer;
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => {
    viewer.pointer = null;
    viewer.changed();
  });
  canvas.addEventListener("contextmenu", (event) => viewer.picture && event.preventDefault());
  canvas.addEventListener("dblclick", () => viewer.reset());

  let turned = 0; // of a wheel, in pixels, until it is a slice
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!viewer.picture) return;
      event.preventDefault();
      const by = event.deltaMode === 1 ? 33 : event.deltaMode === 2 ? 400 : 1;
      const [across, down] = [event.deltaX * by, event.deltaY * by];
      if (event.shiftKey) viewer.moveBy(-across || -down, across ? -down : 0);
      else if (event.ctrlKey || !viewer.picture.volume) viewer.zoomBy(Math.exp(-down / 400), point(event));
      else {
        turned += down;
        const slices = Math.abs(down) >= 50 ? Math.sign(down) : Math.trunc(turned / 30);
        if (slices) turned = 0;
        viewer.goTo(viewer.plane + slices);
      }
    },
    { passive: false },
  );

  canvas.addEventListener("keydown", (event) => {
    if (!viewer.picture || event.ctrlKey || event.metaKey || event.altKey) return;
    if (act(event.key, event.shiftKey, viewer)) event.preventDefault();
  });
}

/** Do what a key says; false where it says nothing. */
function act(key, shift, viewer) {
  const [across, down] = [ACROSS[key] || 0, DOWN[key] || 0];
  if (across || down) {
    if (shift) viewer.moveBy(-24 * across, -24 * down);
    else viewer.setWindow(viewer.level + 8 * down * viewer.stride, viewer.width + 16 * across * viewer.stride);
  } else if (key === "+" || key === "=") viewer.zoomBy(1.25);
  else if (key === "-" || key === "_") viewer.zoomBy(0.8);
  else if (key === "0") viewer.reset();
  else if (["f", "m"].includes(key.toLowerCase())) viewer.setWhole(key.toLowerCase() === "f");
  else if (key.toLowerCase() === "i") {
    viewer.inverted = !viewer.inverted;
    viewer.redraw(true);
  } else if (key.toLowerCase() === "h" && viewer.heat) {
    viewer.heatShown = !viewer.heatShown;
    viewer.redraw();
  } else if (viewer.picture.volume && ["PageUp", "PageDown", "Home", "End"].includes(key)) {
    const places = { PageUp: viewer.plane - 1, PageDown: viewer.plane + 1, Home: 0, End: viewer.picture.depth - 1 };
    viewer.goTo(places[key]);
  } else return false;
  return true;
}
