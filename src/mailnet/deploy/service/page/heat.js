/**
 * Heat maps and their colours. One scale holds for all modalities of a study.
 *
 * What speaks for a class only: inferno, a perceptually uniform scale, without its darkest part. What speaks for and
 * against: vermilion and blue of one lightness, which differ for every kind of colour blindness. What is worth nothing
 * leaves the image as it is, so opacity rises with the value.
 */

const SCALE = "6a176e741a6e7c1d6d84206b8c23699326679d2964a52c60ad305db43359bc3754c43c4ecb4149d24644d84c3ede5238e45a31e9612bed6925f1711ff47918f78410f98c0afb9606fc9f07fca80dfcb418fbbe23f9c72ff7d13df5db4cf2e661f1ef75";
const ANCHORS = SCALE.match(/.{6}/g).map(rgb);
const [FOR, AGAINST] = ["e8590c", "1c7ed6"].map(rgb);
const RISE = 0.8; // below 1, so that faint places are still seen on a dark image

function rgb(text) {
  return [0, 2, 4].map((k) => parseInt(text.slice(k, k + 2), 16));
}

/** The colour (r, g, b) and opacity of a share of the scale, in [-1, 1]. */
export function colour(share, isSigned) {
  const opacity = Math.abs(share) ** RISE;
  if (isSigned) return [...(share < 0 ? AGAINST : FOR), opacity];
  const place = Math.min(Math.max(share, 0), 1) * (ANCHORS.length - 1);
  const k = Math.min(Math.floor(place), ANCHORS.length - 2);
  return [...ANCHORS[k].map((value, c) => value + (place - k) * (ANCHORS[k + 1][c] - value)), opacity];
}

/** The scale as stops of a CSS gradient, as it looks on a black image. */
export function gradient(isSigned) {
  const stops = Array.from({ length: 33 }, (_, k) => (isSigned ? k / 16 - 1 : k / 32));
  const colours = stops.map((share) => {
    const [r, g, b, opacity] = colour(share, isSigned);
    return `rgb(${[r, g, b].map((value) => Math.round(value * (isSigned ? opacity : 1))).join(" ")})`;
  });
  return `linear-gradient(to right, ${colours.join(", ")})`;
}

/** A map of one modality: grey levels of (D, H, W), between `low` and `high` of the answer. */
export class HeatMap {
  constructor(levels, shape, low, high) {
    [this.depth, this.height, this.width] = shape.length === 3 ? shape : [1, ...shape];
    Object.assign(this, { levels, low, high, signed: low < 0, top: Math.max(Math.abs(low), Math.abs(high)) });
    this.canvas = Object.assign(document.createElement("canvas"), { width: this.width, height: this.height });
    this.drawn = null;
    this.colours = Uint8ClampedArray.from({ length: 1024 }, (_, k) => {
      if (!this.top) return 0;
      const found = colour(this.value(k >> 2) / this.top, this.signed);
      return k % 4 === 3 ? 255 * found[3] : found[k % 4];
    });
  }

  /** @param {object} answer One of `maps` of /v1/explain; planes of a volume lie below one another in its picture. */
  static async read({ shape, low, high, png }) {
    const raw = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([raw], { type: "image/png" }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const [depth, height, width] = shape.length === 3 ? shape : [1, ...shape];
    if (bitmap.width !== width || bitmap.height !== depth * height) throw new Error(`the heat map has the size ${bitmap.width} x ${bitmap.height}`);
    const levels = new Uint8Array(depth * height * width);
    const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
    for (let plane = 0; plane < depth; plane++) {
      context.drawImage(bitmap, 0, -plane * height);
      const { data } = context.getImageData(0, 0, width, height);
      for (let k = 0; k < height * width; k++) levels[plane * height * width + k] = data[4 * k];
    }
    bitmap.close();
    return new HeatMap(levels, shape, low, high);
  }

  /** The value of a grey level. */
  value(level) {
    return this.low + (level / 255) * (this.high - this.low);
  }

  /** The plane with the most heat, as a share of the depth in [0, 1]. */
  warmest() {
    const size = this.height * this.width;
    const sums = Array.from({ length: this.depth }, (_, plane) =>
      this.levels.subarray(plane * size, (plane + 1) * size).reduce((sum, level) => sum + Math.max(this.value(level), 0), 0),
    );
    return (sums.indexOf(Math.max(...sums)) + 0.5) / this.depth;
  }

  /** Return a canvas with one plane in colours. */
  plane(number) {
    if (this.drawn === number) return this.canvas;
    const size = this.height * this.width;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(this.width, this.height);
    for (let k = 0; k < size; k++) image.data.set(this.colours.subarray(4 * this.levels[number * size + k], 4 * this.levels[number * size + k] + 4), 4 * k);
    context.putImageData(image, 0, 0);
    this.drawn = number;
    return this.canvas;
  }

  /**
   * Where the map lies on a picture: per axis (D, H, W) start and end as shares of the picture's own. What the service
   * says (`covers`) holds. Else the network is taken to see the whole picture, padded to the map's shape where the two
   * differ; planes are taken to be all there.
   */
  place(picture) {
    if (picture.covers) return picture.covers.length === 3 ? picture.covers : [[0, 1], ...picture.covers];
    const wide = this.width / this.height / (picture.width / (picture.height * picture.aspect));
    const padded = (ratio) => [0.5 - ratio / 2, 0.5 + ratio / 2];
    return [[0, 1], padded(Math.max(1, 1 / wide)), padded(Math.max(1, wide))];
  }
}
