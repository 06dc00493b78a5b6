/** A canvas that shows a picture under a window, zoomed and moved, with a heat map over it. */

import { listen } from "./gestures.js";

const LARGEST = 32; // zoom
const PAPER = 480; // width of a printed picture in CSS pixels

export class Viewer {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {() => void} changed Called whenever something to be written beside the canvas has changed.
   */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.sheet = document.createElement("canvas"); // the plane at its own size
    this.picture = null;
    this.heat = null;
    this.heatShown = true;
    this.opacity = 0.6;
    this.reset();
    new ResizeObserver(() => this.redraw()).observe(canvas);
    listen(canvas, this);
  }

  /** Show another picture, or none. */
  show(picture) {
    this.picture = picture;
    this.heat = null;
    if (picture) Object.assign(this.sheet, { width: picture.width, height: picture.height });
    this.plane = picture ? picture.depth >> 1 : 0;
    this.reset();
  }

  /** Put a heat map over the picture, or take it off; of a volume the plane where it is warmest is shown. */
  showHeat(heat) {
    this.heat = heat;
    this.heatShown = true;
    if (heat && this.picture && this.picture.volume) {
      const [start, end] = heat.place(this.picture)[0];
      this.goTo(Math.floor((start + heat.warmest() * (end - start)) * this.picture.depth));
    }
    this.redraw();
  }

  /** Window, zoom and place as at first. */
  reset() {
    this.window = this.picture ? this.picture.firstWindow() : [0, 1];
    this.inverted = false;
    this.zoom = 1;
    this.move = [0, 0];
    this.redraw(true);
  }

  get level() {
    return (this.window[0] + this.window[1]) / 2;
  }

  get width() {
    return this.window[1] - this.window[0];
  }

  /** The steps in which a window moves: a share of the values that the picture has. */
  get step() {
    return this.picture ? Math.max(this.picture.most - this.picture.least, this.picture.window[1] - this.picture.window[0]) / 400 : 1;
  }

  /** How far a window moves by a pixel of the mouse: finer the narrower it is, as brain and bone are apart by width. */
  get stride() {
    return Math.min(this.step, Math.max(this.width / 250, this.step / 25));
  }

  setWindow(level, width) {
    const least = this.step / 4;
    const half = Math.max(width, least) / 2;
    this.window = [level - half, level + half];
    this.redraw(true);
  }

  /** Show all values that the picture has, or those between which the model looks. */
  setWhole(whole) {
    this.window = whole ? this.picture.whole() : [...this.picture.window];
    this.redraw(true);
  }

  goTo(plane) {
    if (!this.picture) return;
    this.plane = Math.min(Math.max(Math.round(plane), 0), this.picture.depth - 1);
    this.redraw(true);
  }

  /** Zoom by a factor about a point of the canvas in CSS pixels, else its middle. */
  zoomBy(factor, point = null) {
    const { clientWidth: wide, clientHeight: tall } = this.canvas;
    const zoom = Math.min(Math.max(this.zoom * factor, 0.5), LARGEST);
    const about = point ? [point[0] - wide / 2, point[1] - tall / 2] : [0, 0];
    this.move = this.move.map((shift, k) => about[k] - ((about[k] - shift) * zoom) / this.zoom);
    this.zoom = zoom;
    this.redraw();
  }

  moveBy(across, down) {
    const { clientWidth: wide, clientHeight: tall } = this.canvas;
    const most = [wide, tall].map((size) => (size * (this.zoom + 0.5)) / 2); // a part stays in sight
    this.move = [across, down].map((by, k) => Math.min(Math.max(this.move[k] + by, -most[k]), most[k]));
    this.redraw();
  }

  /** Where the picture lies on the canvas, in CSS pixels: left, top, width, height. */
  box([wide, tall] = this.size()) {
    const { width, height, aspect } = this.picture;
    const scale = this.zoom * Math.min(wide / width, tall / (height * aspect));
    const [w, t] = [width * scale, height * aspect * scale];
    return [(wide - w) / 2 + this.move[0], (tall - t) / 2 + this.move[1], w, t];
  }

  size() {
    return [this.canvas.clientWidth, this.canvas.clientHeight];
  }

  /** What lies under a point of the canvas, as text; empty beside the picture. */
  read([across, down]) {
    if (!this.picture) return "";
    const [left, top, wide, tall] = this.box();
    const x = Math.floor(((across - left) / wide) * this.picture.width);
    const y = Math.floor(((down - top) / tall) * this.picture.height);
    if (x < 0 || y < 0 || x >= this.picture.width || y >= this.picture.height) return "";
    return `${x}, ${y}: ${this.picture.at(this.plane, x, y)}`;
  }

  /** Draw at the next frame. `fresh`: the plane or its window has changed. */
  redraw(fresh = false) {
    this.fresh = this.fresh || fresh;
    if (this.waiting || this.paper) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
      this.changed();
    });
  }

  /** Draw for paper, where the picture's own shape is wanted rather than that of the window; or for the screen again. */
  toPaper(on) {
    if (!this.picture) return;
    this.paper = on;
    const { zoom, move } = this;
    const { width, height, aspect } = this.picture;
    const size = [PAPER, Math.round(PAPER * Math.min(Math.max((height * aspect) / width, 0.4), 1.6))];
    // What lies in the middle stays there.
    if (on) this.move = move.map((by) => (by * this.box(size)[2]) / this.box()[2]);
    if (on) {
      // As pixels: else browsers print what was drawn, scaled in their own way, and coarse heat maps become squares.
      const page = document.createElement("canvas");
      const context = page.getContext("2d", { willReadFrequently: true });
      this.paint(context, size, 2);
      Object.assign(this.canvas, { width: page.width, height: page.height });
      this.canvas.getContext("2d").putImageData(context.getImageData(0, 0, page.width, page.height), 0, 0);
    } else this.draw();
    Object.assign(this, { zoom, move });
  }

  draw() {
    this.paint(this.canvas.getContext("2d"), this.size(), devicePixelRatio);
  }

  /** Paint into a canvas as if it had the size `room` in CSS pixels. */
  paint(context, room, scale) {
    const { canvas } = context;
    const [wide, tall] = room.map((size) => Math.max(1, Math.round(size * scale)));
    if (canvas.width !== wide || canvas.height !== tall) Object.assign(canvas, { width: wide, height: tall });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, wide, tall);
    if (!this.picture) return;
    if (this.fresh) this.picture.draw(this.sheet.getContext("2d"), this.plane, this.window, this.inverted);
    this.fresh = false;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.imageSmoothingQuality = "high";
    const box = this.box(room);
    context.imageSmoothingEnabled = box[2] / this.picture.width < 6; // beyond that its pixels are what is looked at
    context.drawImage(this.sheet, ...box);
    if (this.heat && this.heatShown) this.drawHeat(context, box);
  }

  drawHeat(context, [left, top, wide, tall]) {
    const [deep, rows, columns] = this.heat.place(this.picture);
    const share = ((this.plane + 0.5) / this.picture.depth - deep[0]) / (deep[1] - deep[0]);
    if (share < 0 || share >= 1) return;
    context.save();
    context.beginPath();
    context.rect(left, top, wide, tall); // not what was padded
    context.clip();
    context.imageSmoothingEnabled = true;
    context.globalAlpha = this.opacity;
    const plane = this.heat.plane(Math.floor(share * this.heat.depth));
    context.drawImage(plane, left + columns[0] * wide, top + rows[0] * tall, (columns[1] - columns[0]) * wide, (rows[1] - rows[0]) * tall);
    context.restore();
  }
}
