/* The anchors explorer: cosines between class names' embeddings, before and after orthogonalization.
   It draws what tedloc/book/anchors_explorer.py computed and embedded as JSON; attributes of the element say what it shows
   (tedloc/book/explorer.py lists them). Nothing is loaded. Without an element of its class this script does nothing. */
(() => {
  "use strict";
  const SIDE = 640; // canvas pixels of a matrix

  const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const dark = () => document.documentElement.dataset.theme === "dark";
  const hex = (colour) => [1, 3, 5].map((n) => parseInt(colour.slice(n, n + 2), 16));
  const number = (value, decimals) => value.toFixed(decimals).replace("-", "−");

  function frame(data, id) {
    const options = (names) => names.map((name, n) => `<option value="${n}">${escaped(name)}</option>`).join("");
    const kinds = (text) => text.kinds.map((kind, n) =>
      `<option value="${n}"${kind.refused ? " disabled" : ""}>${escaped(kind.label)}${kind.refused ? ": not possible here" : ""}</option>`).join("");
    const matrix = (name, title) => `<figure><figcaption>${title}</figcaption>
      <canvas class="${name}" width="${SIDE}" height="${SIDE}" tabindex="0" role="application"
        aria-roledescription="matrix of cosines; arrow keys choose a pair"></canvas><p class="${name}-summary"></p></figure>`;
    return `
      <div class="anchors-choices">
        <label>Text encoder <select class="text">${options(data.texts.map((text) => text.name))}</select></label>
        <label>Orthogonalization <select class="kind">${kinds(data.texts[0])}</select></label>
        <label>Class, row <select class="first">${options(data.names.map((name, n) => `${n + 1}  ${name}`))}</select></label>
        <label>Class, column <select class="second">${options(data.names.map((name, n) => `${n + 1}  ${name}`))}</select></label>
      </div>
      <p class="anchors-pair" role="status"></p>
      <div class="anchors-matrices">${matrix("before", "Before: text as it is")}${matrix("after", "After")}</div>
      <div class="anchors-scale" aria-hidden="true"><span>−1</span><canvas class="scale" width="256" height="1"></canvas>
        <span>1</span><span class="words">cosine</span></div>`;
  }

  function start(root) {
    const data = JSON.parse(root.querySelector("script").textContent), size = data.names.length;
    const body = document.createElement("div");
    body.innerHTML = frame(data);
    root.prepend(body);
    document.documentElement.classList.add("explorer-alive"); // the figure for readers without scripts may go
    const find = (selector) => body.querySelector(selector);
    const [texts, kinds, rows, columns] = ["text", "kind", "first", "second"].map((name) => find(`select.${name}`));
    const ends = data.ends.map(hex);

    // Pairs i < j stand row by row.
    function cosine(kind, i, j) {
      if (i === j) return 1;
      const [low, high] = i < j ? [i, j] : [j, i];
      return kind.cosines[(low * (2 * size - low - 1)) / 2 + high - low - 1];
    }

    // From blue by a ground near the page's own to vermilion.
    function colour(value) {
      const middle = dark() ? [38, 42, 48] : ends[1], end = value < 0 ? ends[0] : ends[2], share = Math.min(Math.abs(value), 1);
      return middle.map((part, n) => Math.round(part + share * (end[n] - part)));
    }

    function paint(canvas, kind, first, second) {
      const context = canvas.getContext("2d"), cell = SIDE / size;
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) {
          context.fillStyle = `rgb(${colour(cosine(kind, i, j))})`;
          context.fillRect(Math.floor(j * cell), Math.floor(i * cell), Math.ceil(cell), Math.ceil(cell));
        }
      }
      const line = dark() ? "#ffffff" : "#111111";
      context.strokeStyle = line; // the row and the column of the pair, and the pair itself
      context.lineWidth = 1.2;
      context.strokeRect(0, first * cell, SIDE, cell);
      context.strokeRect(second * cell, 0, cell, SIDE);
      context.lineWidth = 5;
      context.strokeRect(second * cell, first * cell, cell, cell);
    }

    function draw() {
      const text = data.texts[Number(texts.value)], before = text.kinds[0], after = text.kinds[Number(kinds.value)];
      const first = Number(rows.value), second = Number(columns.value);
      const pair = [before, after].map((kind) => cosine(kind, first, second));
      paint(find("canvas.before"), before, first, second);
      paint(find("canvas.after"), after, first, second);
      find(".anchors-matrices figure:last-child figcaption").textContent = `After: ${after.label}`;
      [["before", before], ["after", after]].forEach(([name, kind], n) => {
        find(`.${name}-summary`).textContent = `all ${text.classes} classes: mean |cos| ${number(kind.mean, 3)}, largest ${number(kind.coherence, 3)}`;
        find(`canvas.${name}`).setAttribute("aria-label", `Cosines, ${kind.label}. Row ${data.names[first]}, column ${data.names[second]}: ${number(pair[n], 3)}`);
      });
      find(".anchors-pair").innerHTML = `<span>${escaped(data.names[first])} <em>and</em> ${escaped(data.names[second])}</span>
        <strong>${number(pair[0], 3)} before, ${number(pair[1], 3)} after</strong>`;
      Object.assign(root.dataset, { text: text.name, kind: after.name, first: data.names[first],
        second: data.names[second], before: pair[0], after: pair[1] });
    }

    function scale() {
      const context = find("canvas.scale").getContext("2d");
      for (let n = 0; n < 256; n++) {
        context.fillStyle = `rgb(${colour((2 * n) / 255 - 1)})`;
        context.fillRect(n, 0, 1, 1);
      }
    }

    function choose(first, second) {
      const within = (n) => Math.min(Math.max(n, 0), size - 1);
      rows.value = within(first);
      columns.value = within(second);
      draw();
    }
    const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    for (const name of ["before", "after"]) {
      const canvas = find(`canvas.${name}`);
      const point = (event) => {
        const { left, top, width, height } = canvas.getBoundingClientRect();
        choose(Math.floor(((event.clientY - top) / height) * size), Math.floor(((event.clientX - left) / width) * size));
      };
      canvas.addEventListener("pointermove", point);
      canvas.addEventListener("pointerdown", point);
      canvas.addEventListener("keydown", (event) => {
        const step = STEPS[event.key];
        if (!step) return;
        event.preventDefault();
        choose(Number(rows.value) + step[0], Number(columns.value) + step[1]);
      });
    }
    texts.addEventListener("change", () => { // what cannot be had from one text may be had from another
      data.texts[Number(texts.value)].kinds.forEach((kind, n) => { kinds.options[n].disabled = Boolean(kind.refused); });
      if (kinds.selectedOptions[0].disabled) kinds.value = data.texts[0].kinds.findIndex((kind) => kind.name === "qr_rows");
      draw();
    });
    for (const select of [kinds, rows, columns]) select.addEventListener("change", draw);
    new MutationObserver(() => { scale(); draw(); }).observe(document.documentElement, { attributeFilter: ["data-theme"] });

    kinds.value = data.texts[0].kinds.findIndex((kind) => kind.name === "qr_rows");
    const closest = data.texts[0].kinds[0].cosines; // the pair to begin with: the two names most alike
    let best = [0, 1];
    for (let i = 0; i < size; i++) {
      for (let j = i + 1; j < size; j++) {
        if (cosine({ cosines: closest }, i, j) > cosine({ cosines: closest }, ...best)) best = [i, j];
      }
    }
    scale();
    choose(...best);
  }

  const begin = () => document.querySelectorAll(".tedloc-anchors").forEach((root) => start(root));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
