/* The localization explorer: image, method and threshold give outline, box, IoU and accuracy.
   It draws what tedloc/book/explorer.py computed and embedded as JSON; that file documents the data and the attributes in
   which the element says what it shows. Nothing is loaded. Without an element of its class this script does nothing. */
(() => {
  "use strict";
  const GROUND_TRUTH = "#00c896", PREDICTION = "#ff5a1f", UNDER = "rgba(0, 0, 0, 0.55)"; // as in tedloc/plots.py
  const SIDE = 672; // canvas pixels of the picture's longer side
  const HALF = 0.5;

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const percent = (value) => `${value.toFixed(1)} %`;
  const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

  /* ---- From the stored map to bytes, and from bytes to components: try-it-core.js, the same as for one's own picture ---- */

  // Half-precision floats, little-endian, as numbers.
  function halves(text) {
    const raw = bytes(text), values = new Float64Array(raw.length / 2);
    for (let n = 0; n < values.length; n++) {
      const bits = raw[2 * n] | (raw[2 * n + 1] << 8), exponent = (bits >> 10) & 31, fraction = bits & 1023;
      const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
      values[n] = bits & 0x8000 ? -size : size;
    }
    return values;
  }

  function byteMap(packed, grid) {
    if (!packed.half) return new Uint8Array(grid * grid); // the protocol takes a constant map for empty
    return window.tedlocTryIt.toBytes(halves(packed.half), ...packed.shape, grid);
  }

  /* ---- The protocol's overlap, and the outline of what lies above a level ---- */

  // Both ends of a side count.
  function iou([x0, y0, x1, y1], [u0, v0, u1, v1]) {
    const width = Math.max(Math.min(x1, u1) - Math.max(x0, u0) + 1, 0);
    const height = Math.max(Math.min(y1, v1) - Math.max(y0, v0) + 1, 0);
    const area = (x1 - x0 + 1) * (y1 - y0 + 1), other = (u1 - u0 + 1) * (v1 - v0 + 1);
    return (width * height) / (area + other - width * height);
  }

  // Edges between pixels inside and outside: of the component that has the box, and of all others.
  function outlines(levels, level, box, grid) {
    const { label: part, found } = window.tedlocTryIt.components(levels, grid, level);
    const largest = found.find((own) => own.x0 === box[0] && own.y0 === box[1] &&
      Math.min(own.x1 + 1, grid - 1) === box[2] && Math.min(own.y1 + 1, grid - 1) === box[3])?.id;
    const own = new Path2D(), rest = new Path2D();
    for (let y = 0; y < grid; y++) {
      for (let x = 0; x < grid; x++) {
        const number = part[y * grid + x];
        if (!number) continue;
        const path = number === largest ? own : rest;
        const edge = (inside, x0, y0, x1, y1) => { if (!inside) { path.moveTo(x0, y0); path.lineTo(x1, y1); } };
        edge(x > 0 && part[y * grid + x - 1], x, y, x, y + 1);
        edge(x < grid - 1 && part[y * grid + x + 1], x + 1, y, x + 1, y + 1);
        edge(y > 0 && part[(y - 1) * grid + x], x, y, x + 1, y);
        edge(y < grid - 1 && part[(y + 1) * grid + x], x, y + 1, x + 1, y + 1);
      }
    }
    return { own, rest };
  }

  /* ---- The piece ---- */

  function frame(data, id) {
    const methods = data.methods.map((method, n) => `<option value="${n}">${escaped(method.name)}</option>`).join("");
    const pictures = data.images.map((image, n) => `<label title="${escaped(image.name)}">
      <input type="radio" name="${id}-image" value="${n}"${n ? "" : " checked"}>
      <img src="${image.source}" alt="Image ${n + 1}: ${escaped(image.name)}" width="52" height="52"></label>`).join("");
    return `
      <fieldset class="explorer-images"><legend>Test image</legend><div>${pictures}</div></fieldset>
      <div class="explorer-columns">
        <div class="explorer-left">
          <canvas class="explorer-picture" role="img"></canvas>
          <ul class="explorer-legend" aria-hidden="true">
            <li class="truth">ground truth</li><li class="box">box</li><li class="outline">largest outline</li>
            <li class="others">other outlines</li></ul>
        </div>
        <div class="explorer-right">
          <label class="explorer-row" for="${id}-method">Method
            <select id="${id}-method">${methods}</select></label>
          <div class="explorer-row"><label for="${id}-threshold">Threshold</label>
            <output for="${id}-threshold" class="explorer-threshold"></output>
            <input type="range" id="${id}-threshold" min="0" max="${data.thresholds - 1}" step="1"></div>
          <div class="explorer-jumps"><button type="button" class="oracle"></button>
            <button type="button" class="val"></button></div>
          <label class="explorer-check"><input type="checkbox" class="overlay" checked> Show the score map</label>
          <dl class="explorer-values">
            <div><dt>Box, of ${data.grid} × ${data.grid}</dt><dd class="box"></dd></div><div><dt>IoU</dt><dd class="iou"></dd></div>
            <div><dt>True class</dt><dd class="name"></dd></div><div><dt>Class named</dt><dd class="guess"></dd></div>
            <div><dt>Accuracy, all ${data.count} images</dt><dd class="accuracy"></dd></div></dl>
        </div>
      </div>
      <svg class="explorer-curve" role="img"></svg>
      <p class="explorer-said" role="status"></p>`;
  }

  // Frame of the curve in units of its view box, whose width follows the page so that its letters keep their size.
  const PLOT = { left: 46, top: 14, bottom: 186, height: 230 };

  function start(root, id) {
    const data = JSON.parse(root.querySelector("script").textContent), { grid } = data;
    const body = document.createElement("div");
    body.innerHTML = frame(data, id);
    root.prepend(body);
    document.documentElement.classList.add("explorer-alive"); // the figure for readers without scripts may go
    const find = (selector) => body.querySelector(selector);
    const select = find("select"), slider = find("input[type=range]"), canvas = find("canvas"), curve = find("svg");
    const overlay = bytes(data.overlay), known = new Map(), pictures = data.images.map((image) => {
      const picture = new Image();
      picture.src = image.source;
      picture.onload = () => draw();
      return picture;
    });
    let shown = 0, said = 0, drawn = 0, wide = 0;
    const across = (share) => PLOT.left + share * (wide - 12 - PLOT.left);
    const up = (value) => PLOT.bottom - (value / 100) * (PLOT.bottom - PLOT.top);

    const accuracy = (method, step) => 100 * (method.correct[method.maps ? step : 0] / data.count);
    const method = () => data.methods[Number(select.value)];

    // Byte map and 255 boxes of a method's map, worked out when they are first wanted.
    function unpacked(packed) {
      if (!known.has(packed)) known.set(packed, { levels: byteMap(packed, grid), boxes: bytes(packed.boxes) });
      return known.get(packed);
    }

    function now() {
      const chosen = method(), image = data.images[shown], packed = chosen.maps && chosen.maps[shown];
      const step = Number(slider.value), threshold = step * data.step;
      const level = packed ? Math.floor(threshold * packed.top) : null;
      const box = packed ? Array.from(unpacked(packed).boxes.subarray(4 * level, 4 * level + 4)) : chosen.boxes[shown];
      const overlap = Math.max(...image.targets.map((target) => iou(box, target)));
      return { chosen, image, packed, step, threshold, level, box, overlap, correct: overlap >= HALF,
        guess: chosen.guesses[shown], accuracy: accuracy(chosen, step) };
    }

    function rectangle(context, [x0, y0, x1, y1], colour, dash) {
      const scale = canvas.width / grid, thick = canvas.width / 190, tall = canvas.height / grid;
      const edges = [x0 * scale, y0 * tall, (x1 - x0 + 1) * scale, (y1 - y0 + 1) * tall];
      context.setLineDash([]);
      context.lineWidth = 1.8 * thick; context.strokeStyle = UNDER; context.strokeRect(...edges);
      context.setLineDash(dash.map((part) => part * thick));
      context.lineWidth = thick; context.strokeStyle = colour; context.strokeRect(...edges);
      context.setLineDash([]);
    }

    function paint(state) {
      const [width, height] = state.image.size, longer = Math.max(width, height);
      canvas.width = Math.round((SIDE * width) / longer);
      canvas.height = Math.round((SIDE * height) / longer);
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(pictures[shown], 0, 0, canvas.width, canvas.height);
      if (state.packed) {
        const { levels } = unpacked(state.packed);
        if (find(".overlay").checked) {
          const sheet = document.createElement("canvas");
          sheet.width = sheet.height = grid;
          const colours = sheet.getContext("2d").createImageData(grid, grid);
          levels.forEach((value, n) => colours.data.set(overlay.subarray(4 * value, 4 * value + 4), 4 * n));
          sheet.getContext("2d").putImageData(colours, 0, 0);
          context.drawImage(sheet, 0, 0, canvas.width, canvas.height);
        }
        const edges = outlines(levels, state.level, state.box, grid);
        context.save();
        context.scale(canvas.width / grid, canvas.height / grid);
        for (const [path, under, colour, thin] of [[edges.rest, 1.1, "#d8d8d8", 0.5], [edges.own, 2.2, "#ffffff", 1.1]]) {
          context.lineWidth = under; context.strokeStyle = UNDER; context.stroke(path);
          context.lineWidth = thin; context.strokeStyle = colour; context.stroke(path);
        }
        context.restore();
      }
      state.image.targets.forEach((target) => rectangle(context, target, GROUND_TRUTH, [6, 4]));
      rectangle(context, state.box, PREDICTION, []);
    }

    // Boxes without a map have the same accuracy at any threshold.
    const line = (chosen) => chosen.maps
      ? chosen.correct.map((_, n) => `${n ? "L" : "M"}${across(n * data.step).toFixed(1)} ${up(accuracy(chosen, n)).toFixed(1)}`).join("")
      : `M${PLOT.left} ${up(accuracy(chosen, 0)).toFixed(1)}H${across(1)}`;

    function backdrop() {
      const values = [0, 25, 50, 75, 100].map((value) => `<path class="grid" d="M${PLOT.left} ${up(value)}H${across(1)}"/>
        <text x="${PLOT.left - 8}" y="${up(value) + 4}" text-anchor="end">${value}</text>`);
      const shares = [0, 0.25, 0.5, 0.75, 1].map((share) =>
        `<text x="${across(share)}" y="${PLOT.bottom + 18}" text-anchor="middle">${share}</text>`);
      const others = data.methods.filter((other) => other.maps).map((other) => `<path class="other" d="${line(other)}"/>`);
      return [...values, ...shares, ...others].join("");
    }

    // All that depends on the method only; the marker of the threshold is moved by itself.
    function plot() {
      const chosen = method();
      const mark = (step, shape) => (step === null || step === undefined ? "" :
        shape(across(step * data.step), up(accuracy(chosen, step))));
      wide = Math.max(curve.clientWidth, 240);
      curve.setAttribute("viewBox", `0 0 ${wide} ${PLOT.height}`);
      curve.innerHTML = `${backdrop()}
        <text x="${across(0.5)}" y="${PLOT.height - 4}" text-anchor="middle">threshold, share of the map's maximum</text>
        <text transform="translate(11 ${up(50)}) rotate(-90)" text-anchor="middle">boxes with IoU ≥ 0.5 (%)</text>
        <path class="own" d="${line(chosen)}"/>
        ${chosen.maps ? '<path class="now"/><circle class="now" r="5"/>' : ""}
        ${mark(chosen.oracle, (x, y) => `<circle class="oracle" cx="${x}" cy="${y}" r="5"/>`)}
        ${mark(chosen.val, (x, y) => `<path class="val" d="M${x - 6} ${y - 5}h12l-6 10z"/>`)}`;
      const jump = (name, step, words) => {
        const button = find(`button.${name}`);
        button.hidden = step === null || step === undefined;
        button.textContent = `${words} ${button.hidden ? "" : (step * data.step).toFixed(3)}`;
      };
      jump("oracle", chosen.oracle, "● best on test:");
      jump("val", chosen.val, "▽ from validation:");
      slider.disabled = !chosen.maps;
    }

    function draw() {
      drawn = 0;
      const state = now(), { box } = state;
      if (pictures[shown].complete) paint(state);
      const above = state.packed ? state.threshold.toFixed(3) : "none";
      find(".explorer-threshold").textContent = state.packed ? above : "this method gives a box, no map";
      slider.setAttribute("aria-valuetext", above);
      find("dd.box").textContent = `${box.slice(0, 2).join(", ")} to ${box.slice(2).join(", ")}`;
      find("dd.iou").textContent = `${state.overlap.toFixed(3)} ${state.correct ? "✓ counts" : "✗ does not count"}`;
      find("dd.iou").className = `iou ${state.correct ? "hit" : "miss"}`;
      find("dd.name").textContent = state.image.name;
      const right = state.guess === state.image.name;
      find("dd.guess").textContent = state.guess === null ? "none" : right ? `✓ ${state.guess}` : `✗ ${state.guess}`;
      find("dd.accuracy").textContent = percent(state.accuracy);
      const x = across(state.threshold), marker = curve.querySelector("circle.now");
      if (marker) {
        curve.querySelector("path.now").setAttribute("d", `M${x} ${PLOT.top}V${PLOT.bottom}`);
        marker.setAttribute("cx", x);
        marker.setAttribute("cy", up(state.accuracy));
      }
      const words = `${state.chosen.name}${state.packed ? `, threshold ${above}` : ""}: box from ${box.slice(0, 2).join(", ")} to ` +
        `${box.slice(2).join(", ")}, IoU ${state.overlap.toFixed(3)}, ${state.correct ? "counts" : "does not count"}. ` +
        `Accuracy over all test images ${percent(state.accuracy)}.`;
      canvas.setAttribute("aria-label", `Image ${shown + 1}, a ${state.image.name}. ${words}`);
      curve.setAttribute("aria-label", `Accuracy against threshold. ${words}`);
      clearTimeout(said); // while the slider moves, a screen reader hears its value; the rest when it rests
      said = setTimeout(() => { find(".explorer-said").textContent = words; }, 500);
      Object.assign(root.dataset, { image: state.image.id, method: state.chosen.name, box: box.join(","),
        step: state.packed ? state.step : "", threshold: state.packed ? state.threshold : "",
        level: state.packed ? state.level : "", iou: state.overlap, correct: state.correct, accuracy: state.accuracy,
        mapSum: state.packed ? unpacked(state.packed).levels.reduce((sum, value) => sum + value, 0) : "" });
    }
    const soon = () => { drawn = drawn || requestAnimationFrame(draw); };

    function change() {
      plot();
      draw();
    }
    function jump(step) {
      slider.value = step;
      draw();
    }
    const follow = (event) => {
      const place = (event.clientX - curve.getBoundingClientRect().left) * (wide / curve.clientWidth);
      const share = (place - across(0)) / (across(1) - across(0));
      if (!slider.disabled) { slider.value = Math.round(share / data.step); soon(); }
    };
    select.addEventListener("change", change);
    slider.addEventListener("input", draw);
    find(".overlay").addEventListener("change", draw);
    find("fieldset").addEventListener("change", (event) => { shown = Number(event.target.value); draw(); });
    find("button.oracle").addEventListener("click", () => jump(method().oracle));
    find("button.val").addEventListener("click", () => jump(method().val));
    curve.addEventListener("pointerdown", (event) => { curve.setPointerCapture(event.pointerId); follow(event); });
    curve.addEventListener("pointermove", (event) => { if (curve.hasPointerCapture(event.pointerId)) follow(event); });

    select.value = data.leading;
    slider.value = data.methods[data.leading].oracle ?? 0;
    new ResizeObserver(() => { if (curve.clientWidth !== wide) change(); }).observe(curve);
    change();
  }

  function begin() {
    const roots = document.querySelectorAll(".tedloc-explorer");
    roots.forEach((root, n) => start(root, `explorer-${n}`));
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
