/*
 * Raw maps to pixels, by the service's own arithmetic: bilinear between the centres of cells, then normalised by the
 * map's own range. What is drawn here is what `output=heatmap` draws.
 */

/** A map as the API sends it → {height, width, signed, values}: per cell one value, or three of a signed map of colours. */
export function decode(body) {
  const bytes = Uint8Array.from(atob(body.data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const all = Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  const [height, width, channels = 1] = body.shape;
  if (channels === 1) return { height, width, signed: false, values: all };
  const differs = all.some((value, i) => value !== all[i - (i % 3)]);
  if (differs) return { height, width, signed: true, values: all };
  return { height, width, signed: false, values: all.filter((_, i) => i % 3 === 0) };
}

/** The cells on both sides of a position, and the share of the second. */
function neighbours(position, cells) {
  const below = Math.floor(position);
  const clamp = (cell) => Math.min(Math.max(cell, 0), cells - 1);
  return { first: clamp(below), second: clamp(below + 1), share: position - below };
}

/** A channel of the map between four cells: row and column are `neighbours`. */
function mixed(map, channel, row, column) {
  const channels = map.signed ? 3 : 1;
  const [top, bottom] = [row.first * map.width, row.second * map.width];
  const at = (cell) => map.values[cell * channels + channel];
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

/**
 * A map on a canvas that shows the whole picture.
 *
 * map: of `decode`. region: x0, y0, x1, y1 of what the model saw, in the picture's pixels. picture, canvas: their
 * {width, height}. Returns {levels, covered}: levels from 0 to 255 (of a signed map three a pixel, 128 for zero), and
 * 255 where the map covers the pixel, else 0.
 */
export function place(map, region, picture, canvas) {
  const channels = map.signed ? 3 : 1;
  const columns = covering(canvas.width, picture.width, region[0], region[2], map.width);
  const rows = covering(canvas.height, picture.height, region[1], region[3], map.height);
  const levels = new Uint8ClampedArray(canvas.width * canvas.height * channels);
  const covered = new Uint8ClampedArray(canvas.width * canvas.height);
  const { scale, offset } = map.signed ? centred(map.values) : stretched(map.values);
  for (const row of rows) {
    for (const column of columns) {
      const pixel = row.pixel * canvas.width + column.pixel;
      covered[pixel] = 255;
      for (let channel = 0; channel < channels; channel++) {
        levels[pixel * channels + channel] = mixed(map, channel, row.cells, column.cells) * scale + offset;
      }
    }
  }
  return { levels, covered };
}

function stretched(values) {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const scale = high > low ? 255 / (high - low) : 0;
  return { scale, offset: -low * scale };
}

function centred(values) {
  const strongest = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return { scale: strongest ? 127 / strongest : 0, offset: 128 };
}

/**
 * Levels as RGBA pixels.
 *
 * palette: 256 colours, RGB. opaque: whether every pixel that the map covers hides what is below it; else a pixel's
 * opacity is its level, and a signed map's is even.
 */
export function paint({ levels, covered }, signed, palette, opaque) {
  const pixels = new Uint8ClampedArray(covered.length * 4);
  for (let pixel = 0; pixel < covered.length; pixel++) {
    if (!covered[pixel]) continue;
    const [table, start] = signed ? [levels, 3 * pixel] : [palette, 3 * levels[pixel]];
    for (let band = 0; band < 3; band++) pixels[4 * pixel + band] = table[start + band];
    pixels[4 * pixel + 3] = opaque || signed ? 255 : levels[pixel];
  }
  return pixels;
}

/** The map's value at x, y of the picture, interpolated as it is drawn: one number or three; none outside of the map. */
export function valueAt(map, region, x, y) {
  const column = ((x - region[0]) / (region[2] - region[0])) * map.width;
  const row = ((y - region[1]) / (region[3] - region[1])) * map.height;
  if (column < 0 || row < 0 || column > map.width || row > map.height) return [];
  const [down, across] = [neighbours(row - 0.5, map.height), neighbours(column - 0.5, map.width)];
  return (map.signed ? [0, 1, 2] : [0]).map((channel) => mixed(map, channel, down, across));
}
