/* The box around what the model looked at, by the service's own arithmetic: it is that of `boxes` and `threshold`. */

import { stretched } from "./maps.js";

const ROUNDING = 1e-6; // pixels; an edge this close to a whole pixel is on it

/**
 * A finder of boxes in one map: threshold → x0, y0, x1, y1 in whole pixels of the picture; null where there is none.
 *
 * The box is that of the largest connected area, corners included, where the map has at least `threshold` times its
 * maximum once it is stretched to the model's input. map: of `decode`. region: x0, y0, x1, y1 of what the model saw, in
 * the picture's pixels. picture, input: their {width, height}.
 */
export function boxes(map, region, picture, input) {
  const { width, height } = input;
  const heat = stretched(strengths(map), width, height);
  const peak = heat.reduce((a, b) => Math.max(a, b), 0);
  if (!peak) return () => null;
  return (threshold) => {
    const [x0, y0, x1, y1] = largest(heat, width, threshold * peak);
    const [left, right] = span(x0, x1, region[0], (region[2] - region[0]) / width, picture.width);
    const [top, bottom] = span(y0, y1, region[1], (region[3] - region[1]) / height, picture.height);
    return left < right && top < bottom ? [left, top, right, bottom] : null;
  };
}

/** One value a cell: of signed colours, how much in all. */
function strengths(map) {
  if (map.channels === 1) return map;
  const sum = (_, i) => map.values.subarray(3 * i, 3 * i + 3).reduce((all, value) => all + Math.abs(value), 0);
  return { ...map, channels: 1, values: Float32Array.from({ length: map.width * map.height }, sum) };
}

/** The edges of the largest area of at least `least`, in pixels: x0, y0, x1, y1, the last two exclusive. */
function largest(heat, width, least) {
  const isNew = Uint8Array.from(heat, (value) => value >= least);
  let found = { size: 0 };
  for (let start = 0; start < heat.length; start++) {
    if (!isNew[start]) continue;
    const area = spread(isNew, width, start);
    if (area.size > found.size) found = area;
  }
  return found.edges;
}

function spread(isNew, width, start) {
  const edges = [Infinity, Infinity, 0, 0];
  const waiting = [start];
  isNew[start] = 0;
  let size = 0;
  while (waiting.length) {
    const pixel = waiting.pop();
    const [x, y] = [pixel % width, Math.floor(pixel / width)];
    size++;
    [x, y].forEach((at, i) => {
      edges[i] = Math.min(edges[i], at);
      edges[i + 2] = Math.max(edges[i + 2], at + 1);
    });
    for (let row = y - 1; row <= y + 1; row++) {
      for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, width - 1); column++) {
        const next = row * width + column;
        if (!isNew[next]) continue;
        isNew[next] = 0;
        waiting.push(next);
      }
    }
  }
  return { size, edges };
}

/** Pixels of the input as whole pixels of the picture, rounded outwards. */
function span(first, last, origin, scale, length) {
  const [start, end] = [Math.floor(origin + first * scale + ROUNDING), Math.ceil(origin + last * scale - ROUNDING)];
  return [Math.max(start, 0), Math.min(end, length)];
}
