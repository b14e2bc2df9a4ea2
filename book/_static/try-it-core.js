/* What pages compute themselves: a picture's way into the model ("Try it on your image"), and a map's way to components
   and to a box (there and in the localization explorer). Each function does in the browser what the package does in
   Python, pixel for pixel, so that both give one answer. Nothing runs when this file is loaded; try-it.js and explorer.js
   call it through window.tedlocTryIt. */
(() => {
  "use strict";

  /* For every output pixel: the first input pixel it looks at, and its weights, as 22-bit fixed point numbers that sum
     to one. A triangle filter; when it shrinks, it widens with the scale (as Pillow's BILINEAR does). */
  function triangle(from, to) {
    const scale = from / to, reach = Math.max(scale, 1), rows = [];
    for (let i = 0; i < to; i++) {
      const centre = (i + 0.5) * scale;
      const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
      const last = Math.min(Math.trunc(centre + reach + 0.5), from);
      const weights = [];
      for (let k = first; k < last; k++) weights.push(Math.max(0, 1 - Math.abs((k - centre + 0.5) / reach)));
      const sum = weights.reduce((a, b) => a + b, 0);
      rows.push({ first, weights: weights.map((w) => Math.trunc((w / sum) * 4194304 + 0.5)) });
    }
    return rows;
  }

  /* RGBA bytes (width x height) made `size` wide, and `size` high; what becomes of A does not matter. A sum of products
     stays below 2 ** 31, so whole numbers of 32 bits will do, which programs run fastest. */
  function across(rgba, width, height, size) {
    const out = new Uint8Array(4 * size * height);
    const rows = triangle(width, size).map(({ first, weights }) => ({ first, weights: Int32Array.from(weights) }));
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < size; x++) {
        const { first, weights } = rows[x];
        let r = 2097152, g = 2097152, b = 2097152, at = 4 * (y * width + first);
        for (let k = 0; k < weights.length; k++, at += 4) {
          r = (r + Math.imul(rgba[at], weights[k])) | 0;
          g = (g + Math.imul(rgba[at + 1], weights[k])) | 0;
          b = (b + Math.imul(rgba[at + 2], weights[k])) | 0;
        }
        const to = 4 * (y * size + x);
        out[to] = Math.min(255, r >> 22);
        out[to + 1] = Math.min(255, g >> 22);
        out[to + 2] = Math.min(255, b >> 22);
      }
    }
    return out;
  }

  function down(rgba, width, height, size) {
    const row = 4 * width, out = new Uint8Array(row * size), sums = new Int32Array(row);
    triangle(height, size).forEach(({ first, weights }, y) => {
      sums.fill(2097152);
      weights.forEach((weight, k) => {
        const start = (first + k) * row;
        for (let i = 0; i < row; i++) sums[i] += Math.imul(rgba[start + i], weight);
      });
      for (let i = 0; i < row; i++) out[y * row + i] = Math.min(255, sums[i] >> 22);
    });
    return out;
  }

  /* An RGBA picture (Uint8 array, width x height) as RGB bytes of size x size; rounded to bytes between the passes.
     Which pass comes first decides some roundings; the rule is that of Pillow 13. tedloc.backbones.preprocessing. */
  function resize(rgba, width, height, size) {
    const downFirst = height > size && height - size > 2 * (width - size);
    const small = downFirst
      ? across(down(rgba, width, height, size), width, size, size)
      : down(across(rgba, width, height, size), size, height, size);
    return new Uint8Array(3 * size * size).map((_, i) => small[4 * Math.floor(i / 3) + (i % 3)]);
  }

  /* Cubic interpolation (A = -0.75) of n values at `to` places: clamped places and weights. Weights are rounded to 32
     bits after every step because OpenCV computes them so. */
  function cubic(n, to) {
    const f = Math.fround, rows = [];
    for (let i = 0; i < to; i++) {
      const at = f((i + 0.5) * (n / to) - 0.5), floor = Math.floor(at), x = f(at - floor);
      const far = f(x + 1), near = f(1 - x);
      const w = [
        f(f(f(f(f(f(-0.75 * far) + 3.75) * far) - 6) * far) + 3),
        f(f(f(f(f(1.25 * x) - 2.25) * x) * x) + 1),
        f(f(f(f(f(1.25 * near) - 2.25) * near) * near) + 1),
      ];
      w.push(f(f(f(1 - w[0]) - w[1]) - w[2]));
      rows.push({ places: [-1, 0, 1, 2].map((d) => Math.min(n - 1, Math.max(0, floor + d))), w });
    }
    return rows;
  }

  /* A map (h x w) as bytes of a grid x grid map: enlarged, stretched to 0..1, times 255 with the fraction cut off.
     tedloc.metrics.boxes.to_grid and to_bytes. */
  function toBytes(map, h, w, grid) {
    const low = Math.min(...map), high = Math.max(...map), bytes = new Uint8Array(grid * grid);
    if (!(Number.isFinite(low) && Number.isFinite(high)) || low === high) return bytes;
    let values = Float64Array.from(map);
    if (h !== grid || w !== grid) {
      const wide = new Float64Array(h * grid);
      values = new Float64Array(grid * grid);
      cubic(w, grid).forEach(({ places, w: weight }, x) => {
        for (let y = 0; y < h; y++) {
          const at = (k) => map[y * w + places[k]] * weight[k];
          wide[y * grid + x] = at(0) + at(1) + at(2) + at(3);
        }
      });
      cubic(h, grid).forEach(({ places, w: weight }, y) => {
        for (let x = 0; x < grid; x++) {
          const at = (k) => wide[places[k] * grid + x] * weight[k];
          values[y * grid + x] = at(0) + at(1) + at(2) + at(3);
        }
      });
    }
    let least = Infinity, most = -Infinity;
    for (const v of values) { least = Math.min(least, v); most = Math.max(most, v); }
    for (let i = 0; i < values.length; i++) bytes[i] = Math.trunc(((values[i] - least) / (most - least)) * 255);
    return bytes;
  }

  /* Number every 8-connected component of the pixels above `level` (from 1; 0 elsewhere), with its tight box. */
  function components(bytes, grid, level) {
    const label = new Int32Array(grid * grid), found = [], stack = [];
    for (let start = 0; start < label.length; start++) {
      if (bytes[start] <= level || label[start]) continue;
      const one = { id: found.length + 1, x0: grid, y0: grid, x1: -1, y1: -1 };
      found.push(one);
      label[start] = one.id;
      stack.push(start);
      while (stack.length) {
        const p = stack.pop(), x = p % grid, y = (p - x) / grid;
        one.x0 = Math.min(one.x0, x); one.x1 = Math.max(one.x1, x);
        one.y0 = Math.min(one.y0, y); one.y1 = Math.max(one.y1, y);
        for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, grid - 1); v++) {
          for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, grid - 1); u++) {
            const q = v * grid + u;
            if (bytes[q] > level && !label[q]) { label[q] = one.id; stack.push(q); }
          }
        }
      }
    }
    return { label, found };
  }

  /* Twice the area of a component's outer polygon, which runs through pixel centres: of every square of four
     neighbouring pixels one half if three lie in the component or in its holes, all of it if four do. */
  function polygon(label, grid, one) {
    const width = one.x1 - one.x0 + 3, height = one.y1 - one.y0 + 3; // with a frame of one pixel
    const outside = new Uint8Array(width * height), stack = [0];
    const mine = (x, y) => x > 0 && y > 0 && x < width - 1 && y < height - 1
      && label[(y - 1 + one.y0) * grid + x - 1 + one.x0] === one.id;
    outside[0] = 1;
    while (stack.length) {
      const p = stack.pop(), x = p % width, y = (p - x) / width;
      for (const [u, v] of [[x - 1, y], [x + 1, y], [x, y - 1], [x, y + 1]]) {
        if (u < 0 || v < 0 || u >= width || v >= height || outside[v * width + u] || mine(u, v)) continue;
        outside[v * width + u] = 1;
        stack.push(v * width + u);
      }
    }
    let halves = 0;
    for (let y = 1; y < height - 2; y++) {
      for (let x = 1; x < width - 2; x++) {
        const p = y * width + x;
        const inside = 4 - outside[p] - outside[p + 1] - outside[p + width] - outside[p + width + 1];
        halves += Math.max(0, inside - 2);
      }
    }
    return halves;
  }

  /* The protocol's box of a byte map at a threshold: around the contour of largest area, its right and lower edge one
     pixel outside, cut at the border; 0, 0, 0, 0 where nothing is above. tedloc.metrics.boxes.largest_box. */
  function largestBox(bytes, grid, threshold) {
    let top = 0;
    for (const b of bytes) top = Math.max(top, b);
    const { label, found } = components(bytes, grid, Math.trunc(threshold * top));
    let best = null, most = -1;
    for (const one of found) { // in the order of their first pixels; of equals the last counts, as in OpenCV
      if (2 * (one.x1 - one.x0) * (one.y1 - one.y0) < most) continue;
      const halves = polygon(label, grid, one);
      if (halves >= most) { best = one; most = halves; }
    }
    return best ? [best.x0, best.y0, Math.min(best.x1 + 1, grid - 1), Math.min(best.y1 + 1, grid - 1)] : [0, 0, 0, 0];
  }

  function softmax(scores, scale) {
    const top = Math.max(...scores), weights = Array.from(scores, (s) => Math.exp(scale * (s - top)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((w) => w / sum);
  }

  /* The share of values that are lower, from their percentiles 0 to 100. */
  function below(value, percentiles) {
    const next = percentiles.findIndex((one) => one >= value), last = percentiles.length - 1;
    if (next < 1) return next ? 1 : 0;
    const [low, high] = [percentiles[next - 1], percentiles[next]];
    return (next - 1 + (value - low) / (high - low)) / last;
  }

  /* Share of the validation photos that are less usual: by the lower of the ranks of the best score and of the map's
     highest value. tedloc.runs.localizer. */
  function familiarity(scores, map, known) {
    const ranks = [below(Math.max(...scores), known.score), below(Math.max(...map), known.map)];
    return below(Math.min(...ranks), known.both);
  }

  window.tedlocTryIt = { resize, toBytes, components, largestBox, softmax, familiarity };
})();
