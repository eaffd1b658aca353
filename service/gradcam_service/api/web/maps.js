/*
 * Raw maps to pixels, by the service's own arithmetic: bilinear between the centres of cells, an unsigned map normalised
 * by the range of what is drawn of it, a signed one about 0. What is drawn here is what `output=heatmap` draws.
 */

import { bytesOf } from "./api.js";

const CLIP = 0.995; // share of a signed map's |values| within its scale, the service's default
const ZERO = 128; // the level of 0 in a signed map

/**
 * An explanation as the API sends it → {height, width, kind, channels, values}: per cell one value, or of signed colours
 * three.
 */
export function decode({ kind, map: body }) {
  const bytes = bytesOf(body.data);
  const view = new DataView(bytes.buffer);
  const all = Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  const [height, width, bands = 1] = body.shape;
  const channels = kind === "signed_colour" ? 3 : 1;
  if (bands === channels) return { height, width, kind, channels, values: all };
  const band = (channel) => (channel < bands && bands >= channels ? channel : 0);
  const picked = (_, i) => all[Math.floor(i / channels) * bands + band(i % channels)];
  return { height, width, kind, channels, values: Float32Array.from({ length: height * width * channels }, picked) };
}

/** The value at the upper end of a map's own scale. */
export function highest({ kind, values }) {
  if (kind === "unsigned") return values.reduce((a, b) => Math.max(a, b), 0);
  const strengths = Float32Array.from(values, Math.abs).sort();
  return strengths[Math.ceil(CLIP * strengths.length) - 1] || strengths[strengths.length - 1];
}

/** The cells on both sides of a position, and the share of the second. */
function neighbours(position, cells) {
  const below = Math.floor(position);
  const clamp = (cell) => Math.min(Math.max(cell, 0), cells - 1);
  return { first: clamp(below), second: clamp(below + 1), share: position - below };
}

/** A channel of the map between four cells: row and column are `neighbours`. */
function mixed(map, channel, row, column) {
  const [top, bottom] = [row.first * map.width, row.second * map.width];
  const at = (cell) => map.values[cell * map.channels + channel];
  const above = at(top + column.first) * (1 - column.share) + at(top + column.second) * column.share;
  const below = at(bottom + column.first) * (1 - column.share) + at(bottom + column.second) * column.share;
  return above * (1 - row.share) + below * row.share;
}

/** The pixels along one side of a canvas whose centres the map covers, each with its neighbours in the map. */
function covering(pixels, original, low, high, cells) {
  const found = [];
  for (let pixel = 0; pixel < pixels; pixel++) {
    const place = ((pixel + 0.5) * original) / pixels;
    if (place < low || place >= high) continue;
    found.push({ pixel, cells: neighbours(((place - low) / (high - low)) * cells - 0.5, cells) });
  }
  return found;
}

/** A map's values at these rows and columns of `covering`, of each pixel those of its channels. */
function sample(map, rows, columns) {
  const sampled = new Float32Array(rows.length * columns.length * map.channels);
  let next = 0;
  for (const row of rows) {
    for (const column of columns) {
      for (let channel = 0; channel < map.channels; channel++) sampled[next++] = mixed(map, channel, row.cells, column.cells);
    }
  }
  return sampled;
}

/** A map of one channel stretched over all of a canvas of so many pixels. */
export function stretched(map, width, height) {
  return sample(map, covering(height, height, 0, height, map.height), covering(width, width, 0, width, map.width));
}

/**
 * A map on a canvas that shows the whole picture.
 *
 * map: of `decode`. region: x0, y0, x1, y1 of what the model saw, in the picture's pixels. picture, canvas: their
 * {width, height}. Returns {levels, covered}: levels from 0 to 255 (of a signed map 128 for zero; of signed colours three
 * a pixel), and 255 where the map covers the pixel, else 0.
 */
export function place(map, region, picture, canvas) {
  const { channels } = map;
  const columns = covering(canvas.width, picture.width, region[0], region[2], map.width);
  const rows = covering(canvas.height, picture.height, region[1], region[3], map.height);
  const levels = new Uint8ClampedArray(canvas.width * canvas.height * channels);
  const covered = new Uint8ClampedArray(canvas.width * canvas.height);
  const sampled = sample(map.kind === "unsigned" ? map : centred(map), rows, columns);
  const { scale, offset } = map.kind === "unsigned" ? stretch(sampled) : { scale: 127, offset: ZERO };
  let next = 0;
  for (const row of rows) {
    for (const column of columns) {
      const pixel = row.pixel * canvas.width + column.pixel;
      covered[pixel] = 255;
      for (let channel = 0; channel < channels; channel++) {
        levels[pixel * channels + channel] = sampled[next++] * scale + offset;
      }
    }
  }
  return { levels, covered };
}

/** From the lowest of the values that are drawn, level 0, to the highest, level 255. */
function stretch(values) {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const scale = high > low ? 255 / (high - low) : 0;
  return { scale, offset: high > low ? -low * scale : 0 };
}

function centred(map) {
  const high = highest(map) || 1;
  return { ...map, values: map.values.map((value) => Math.min(Math.max(value / high, -1), 1)) };
}

/** 256 colours spread over levels 1 to 255, so that 128 has the very middle of them. */
export function centredPalette(colours) {
  return Uint8ClampedArray.from({ length: 768 }, (_, i) => {
    const place = (Math.max(Math.floor(i / 3) - 1, 0) * 255) / 254;
    const below = Math.min(Math.floor(place), 254);
    const share = place - below;
    const [first, second] = [colours[3 * below + (i % 3)], colours[3 * below + 3 + (i % 3)]];
    return first * (1 - share) + second * share;
  });
}

/**
 * Levels as RGBA pixels.
 *
 * palette: {unsigned, signed}, each 256 colours, RGB; signed colours are their own. opaque: whether every pixel that the
 * map covers hides what is below it; else a pixel's opacity is its level, of a signed map its distance from zero, and
 * that of signed colours is even.
 */
export function paint({ levels, covered }, kind, palette, opaque) {
  const pixels = new Uint8ClampedArray(covered.length * 4);
  const colours = kind === "signed_colour";
  for (let pixel = 0; pixel < covered.length; pixel++) {
    if (!covered[pixel]) continue;
    const [table, start] = colours ? [levels, 3 * pixel] : [palette[kind], 3 * levels[pixel]];
    for (let band = 0; band < 3; band++) pixels[4 * pixel + band] = table[start + band];
    const opacity = kind === "signed" ? (Math.abs(levels[pixel] - ZERO) / 127) * 255 : levels[pixel];
    pixels[4 * pixel + 3] = opaque || colours ? 255 : opacity;
  }
  return pixels;
}

/** The map's value at x, y of the picture, interpolated as it is drawn: one number or three; none outside of the map. */
export function valueAt(map, region, x, y) {
  const column = ((x - region[0]) / (region[2] - region[0])) * map.width;
  const row = ((y - region[1]) / (region[3] - region[1])) * map.height;
  if (column < 0 || row < 0 || column > map.width || row > map.height) return [];
  const [down, across] = [neighbours(row - 0.5, map.height), neighbours(column - 0.5, map.width)];
  return Array.from({ length: map.channels }, (_, channel) => mixed(map, channel, down, across));
}
