/** The pixels of a preview, and how a window makes greys of them. */

const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * An image or volume as the service prepared it for display.
 * `values` has D planes of H rows of W pixels of C channels; `value = slope * stored + intercept` in the file's unit.
 */
export class Picture {
  /** @param {object} answer One of `images` of /v1/preview. */
  constructor(answer) {
    const { shape, channels = 1, bits, window } = answer;
    [this.depth, this.height, this.width] = shape.length === 3 ? shape : [1, ...shape];
    this.volume = shape.length === 3;
    this.channels = channels;
    this.values = decode(answer.values, bits);
    const expected = this.depth * this.height * this.width * channels;
    if (this.values.length !== expected) throw new Error(`the preview holds ${this.values.length} values instead of ${expected}`);
    this.aspect = answer.aspect || 1; // height of a pixel by its width
    this.covers = answer.covers || null; // what the network sees of it, see heat.js
    const [slope, intercept] = answer.rescale || [1, 0];
    Object.assign(this, { slope, intercept, unit: answer.unit || "" });
    this.window = window[1] > window[0] ? [...window] : [window[0], window[0] + 1];
    [this.least, this.most] = range(this.values).map((value) => slope * value + intercept);
  }

  /** A window of all values. */
  whole() {
    return this.most > this.least ? [this.least, this.most] : [this.least, this.least + 1];
  }

  /** What the model looks at, unless one could see hardly anything of it: files of 16 bits may use few of them. */
  firstWindow() {
    return this.flat ? this.whole() : [...this.window];
  }

  /** Whether the window of the model is so wide that all of the picture is nearly one grey. */
  get flat() {
    return (this.most - this.least) * 8 < this.window[1] - this.window[0];
  }

  /** The value at a pixel as text; of a colour image its three. */
  at(plane, x, y) {
    const start = ((plane * this.height + y) * this.width + x) * this.channels;
    const values = [...this.values.subarray(start, start + this.channels)].map((value) => Number((this.slope * value + this.intercept).toPrecision(6)));
    return `${values.join(", ")}${this.unit ? ` ${this.unit}` : ""}`;
  }

  /**
   * Draw a plane at its own size.
   * @param {CanvasRenderingContext2D} context Of a canvas of `width` x `height`.
   * @param {number} plane
   * @param {number[]} window Values that become black and white.
   * @param {boolean} inverted
   */
  draw(context, plane, [low, high], inverted) {
    const size = this.width * this.height;
    const image = context.createImageData(this.width, this.height);
    const shades = this.shades(low, high, inverted);
    const start = plane * size * this.channels;
    const values = this.values.subarray(start, start + size * this.channels);
    const out = new Uint32Array(image.data.buffer);
    if (this.channels === 1) {
      for (let k = 0; k < size; k++) out[k] = shades[values[k]] * 0x010101 + 0xff000000;
    } else {
      for (let k = 0, c = 0; k < size; k++, c += 3) {
        const [r, g, b] = [shades[values[c]], shades[values[c + 1]], shades[values[c + 2]]];
        out[k] = LITTLE ? r + g * 0x100 + b * 0x10000 + 0xff000000 : r * 0x1000000 + g * 0x10000 + b * 0x100 + 0xff;
      }
    }
    if (!LITTLE && this.channels === 1) for (let k = 0; k < size; k++) out[k] = (out[k] << 8) | 0xff;
    context.putImageData(image, 0, 0);
  }

  // A table of all stored values is far quicker than arithmetic for every pixel.
  shades(low, high, inverted) {
    const table = new Uint8ClampedArray(this.values.BYTES_PER_ELEMENT === 1 ? 256 : 65536);
    const scale = 255 / Math.max(high - low, 1e-9);
    for (let k = 0; k < table.length; k++) {
      const shade = (this.slope * k + this.intercept - low) * scale;
      table[k] = inverted ? 255 - Math.min(Math.max(shade, 0), 255) : shade;
    }
    return table;
  }
}

function decode(text, bits) {
  const binary = atob(text);
  const raw = new Uint8Array(binary.length);
  for (let k = 0; k < raw.length; k++) raw[k] = binary.charCodeAt(k);
  if (bits === 8) return raw;
  if (LITTLE) return new Uint16Array(raw.buffer);
  const view = new DataView(raw.buffer);
  return Uint16Array.from({ length: raw.length / 2 }, (_, k) => view.getUint16(2 * k, true));
}

function range(values) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return [least, most];
}
