/* The page "Try it on your image": runs an exported model on a picture, in the reader's browser, also from file://.
   Data and state are those that tedloc/book/try_it.py documents. Models and runtime are scripts that are loaded when
   the first picture for them is chosen: from the disk a page may load nothing but scripts. */
(() => {
  "use strict";
  const STATIC = new URL(".", document.currentScript.src);
  const LARGEST = 2048; // pixels, longer side: larger photos are first made smaller by the canvas, which is quick

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function loadScript(path) {
    return new Promise((resolve, reject) => {
      const script = element("script", { src: new URL(path, STATIC).href });
      script.onload = resolve;
      script.onerror = () => reject(new Error(`missing ${path}`));
      document.head.append(script);
    });
  }

  /* What a script of book/_ext/page_assets.py brings, unpacked. */
  async function asset(path) {
    await loadScript(path);
    const packed = Uint8Array.from(atob(window.tedlocAssets[path]), (c) => c.charCodeAt(0));
    delete window.tedlocAssets[path];
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /* ONNX Runtime. The WebAssembly is handed over as bytes, its module as a blob: nothing is fetched. The module asks
     for files relative to its own address, and a blob's is none that others could be relative to; its threads start
     from that address itself. A page may have threads where its server isolates it from other sites. */
  async function openRuntime() {
    if (typeof DecompressionStream === "undefined") {
      throw new Error("This browser is too old to unpack the model; one from 2023 or later can.");
    }
    let wasm, module;
    try {
      await loadScript("runtime/onnxruntime.js");
      [wasm, module] = await Promise.all([asset("runtime/wasm.js"), asset("runtime/mjs.js")]);
    } catch (error) {
      throw new Error("ONNX Runtime is not part of this build of the book, because npm was missing when it was made. "
        + "The figure below shows what the model says of the sample pictures.");
    }
    const { env } = window.ort;
    env.wasm.numThreads = window.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
    env.wasm.proxy = false;
    env.wasm.wasmBinary = wasm.buffer;
    const code = new TextDecoder().decode(module).replace(/(new Worker\(new URL\()?import\.meta\.url/g,
      (own, thread) => (thread ? own : JSON.stringify(STATIC.href)));
    env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([code], { type: "text/javascript" })) };
    return window.ort;
  }

  /* A model, ready: run once, since a program's first run is slow. */
  async function openModel(ort, model) {
    const session = await ort.InferenceSession.create(await asset(model.path), { executionProviders: ["wasm"] });
    await network(session, new Float32Array(3 * model.size ** 2), model.size);
    return session;
  }

  function network(session, input, size) {
    return session.run({ image: new window.ort.Tensor("float32", input, [1, 3, size, size]) });
  }

  /* A file or image as its pixels, upright, over white. */
  async function pixelsOf(source) {
    const bitmap = await createImageBitmap(source, { imageOrientation: "from-image" });
    const shrink = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * shrink)));
    const canvas = element("canvas", { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0, width, height);
    bitmap.close();
    return { canvas, width, height, rgba: context.getImageData(0, 0, width, height).data };
  }

  async function run(session, model, picture) {
    const core = window.tedlocTryIt, { size, grid } = model;
    const rgb = core.resize(picture.rgba, picture.width, picture.height, size);
    const input = new Float32Array(rgb.length);
    for (let i = 0; i < size * size; i++) for (let c = 0; c < 3; c++) input[c * size * size + i] = rgb[3 * i + c] / 255;
    const began = performance.now();
    const out = await network(session, input, size);
    const alone = performance.now() - began;
    const [, h, w] = out.map.dims;
    const bytes = core.toBytes(out.map.data, h, w, grid);
    const onGrid = core.largestBox(bytes, grid, model.threshold);
    const box = onGrid.map((edge, i) => (edge * (i % 2 ? picture.height : picture.width)) / grid);
    const shares = core.softmax(out.scores.data, model.scale);
    const order = Array.from(shares.keys()).sort((a, b) => out.scores.data[b] - out.scores.data[a] || a - b);
    const familiarity = model.familiar.both ? core.familiarity(out.scores.data, out.map.data, model.familiar) : null;
    const unlike = familiarity !== null && familiarity < model.unlike;
    return { bytes, onGrid, box, order, shares, scores: out.scores.data, familiarity, unlike, network: alone };
  }

  /* The picture, the map over it and the box, in the colours of the book's figures. */
  function draw(canvas, grid, colours, picture, answer) {
    const scale = Math.min(1200 / Math.max(picture.width, picture.height), Math.max(1, 640 / picture.width));
    canvas.width = Math.round(picture.width * scale);
    canvas.height = Math.round(picture.height * scale);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = scale < 1;
    context.drawImage(picture.canvas, 0, 0, canvas.width, canvas.height);
    const layer = element("canvas", { width: grid, height: grid });
    const paint = new ImageData(grid, grid);
    answer.bytes.forEach((byte, i) => {
      const colour = colours[Math.round((byte / 255) * (colours.length - 1))];
      for (let c = 0; c < 4; c++) paint.data[4 * i + c] = 255 * colour[c];
    });
    layer.getContext("2d").putImageData(paint, 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(layer, 0, 0, canvas.width, canvas.height);
    const outline = (box, colour, dash) => {
      const [x0, y0, x1, y1] = box.map((edge) => edge * scale);
      for (const [style, width] of [["rgba(0, 0, 0, 0.55)", 6], [colour, 3.5]]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.setLineDash(dash);
        context.strokeRect(x0, y0, x1 - x0, y1 - y0);
      }
    };
    if (picture.target) outline(picture.target.map((edge, i) => edge + (i > 1)), "#00c896", [12, 8]);
    outline(answer.box, "#ff5a1f", answer.unlike ? [3, 6] : []);
  }

  function start(root) {
    const data = JSON.parse(root.querySelector("script").textContent);
    const samplesBy = data.models[0], ownBy = data.models.at(-1), apart = ownBy !== samplesBy;
    const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
    const sessions = new Map(); // by model; of what failed nothing stays, so that the next choice tries again
    let runtime = null, latest = 0;

    const open = (model) => {
      if (!sessions.has(model)) {
        runtime ??= openRuntime();
        sessions.set(model, runtime.then((ort) => openModel(ort, model)));
      }
      return sessions.get(model);
    };

    const thing = ownBy.synthetic ? "picture" : "photo";
    const input = element("input", { type: "file", accept: "image/*", id: "try-it-file" });
    const drop = element("label", { class: "try-it-drop", for: "try-it-file" },
      element("strong", {}, `Choose a ${thing}`), element("span", {}, ", drop it here, or paste it"), input);
    const camera = element("input", { type: "file", accept: "image/*", capture: "environment", id: "try-it-camera" });
    const shoot = element("label", { class: "try-it-camera", for: "try-it-camera" }, "Take a photo", camera);
    const knows = element("p", { class: "try-it-knows" },
      `It knows ${ownBy.classes.length} ${ownBy.synthetic ? "kinds of drawn bird" : "things"}: `
      + `${ownBy.classes.join(", ")}.`);
    const row = element("div", { class: "try-it-samples", role: "group", "aria-label": "Sample pictures" });
    const status = element("p", { class: "try-it-status", role: "status" },
      `The first ${thing} loads the model (${ownBy.megabytes} MB) and the runtime; after that each takes an instant.`);
    const canvas = element("canvas", { role: "img", "aria-label": "No picture yet" });
    const words = element("div", { class: "try-it-words" });
    const legend = element("figcaption");
    const result = element("div", { class: "try-it-result", hidden: "" }, element("figure", {}, canvas, legend), words);
    const offer = apart
      ? `No photo at hand? These birds are drawn, and a model of their own knows them (${samplesBy.megabytes} MB):`
      : "Or one of these, which the model was not trained on:";
    root.append(drop, shoot, knows, element("p", { class: "try-it-or" }, offer), row, status, result);

    data.samples.forEach((sample, i) => {
      const button = element("button", { type: "button", "aria-pressed": "false" },
        element("img", { src: sample.src, alt: sample.caption, width: 72, height: 72 }));
      button.title = sample.caption;
      button.addEventListener("click", () => show(button.firstChild, samplesBy, i));
      row.append(button);
    });

    async function show(source, model, number) {
      const mine = ++latest; // a later choice makes this one void
      try {
        root.dataset.state = "loading";
        status.textContent = sessions.has(model) ? "Looking …" : "Loading the model and the runtime …";
        const ready = await open(model), start = performance.now();
        let picture;
        try {
          picture = await pixelsOf(source);
        } catch (error) {
          if (mine !== latest) return;
          root.dataset.state = "ready";
          status.textContent = "The browser cannot read this file as a picture; try a JPEG, PNG or WebP.";
          return;
        }
        picture.name = source.name ?? "";
        picture.target = number === undefined ? null : data.samples[number].target;
        const answer = await run(ready, model, picture);
        answer.ms = performance.now() - start;
        if (mine === latest) tell(model, picture, answer, number);
      } catch (error) {
        root.dataset.state = "failed";
        status.textContent = error.message;
        sessions.clear();
        runtime = null;
      }
    }

    function tell(model, picture, answer, number) {
      const best = answer.order[0], sample = data.samples[number];
      result.hidden = false;
      draw(canvas, model.grid, data.colours, picture, answer);
      const rounded = answer.box.map((edge) => edge.toFixed(1));
      canvas.setAttribute("aria-label", `The picture with the score map and a box from ${rounded[0]}, ${rounded[1]} `
        + `to ${rounded[2]}, ${rounded[3]}`);
      legend.textContent = `Bright: where the model sees the object. ${answer.unlike ? "Dotted" : "Solid"}: its box.`
        + (picture.target ? " Dashed: the true box." : "");
      const heads = ["class", "score", "softmax"].map((name) => element("th", { scope: "col" }, name));
      const caption = answer.unlike ? "Its guesses, best first" : "Its classes, best first";
      const table = element("table", {}, element("caption", {}, caption),
        element("thead", {}, element("tr", {}, ...heads)));
      const body = element("tbody");
      for (const k of answer.order.slice(0, 5)) {
        const bar = element("span", { class: "try-it-bar", "aria-hidden": "true" });
        bar.style.width = `${100 * answer.shares[k]}%`;
        body.append(element("tr", {}, element("th", { scope: "row" }, model.classes[k], bar),
          element("td", {}, answer.scores[k].toFixed(2)), element("td", {}, percent(answer.shares[k]))));
      }
      table.append(body);
      const facts = element("dl");
      const fact = (name, text) => facts.append(element("dt", {}, name), element("dd", {}, text));
      const [ms, network] = [answer.ms, answer.network].map((time) => time.toFixed(0));
      fact("Box, in pixels", `${rounded[0]}, ${rounded[1]} to ${rounded[2]}, ${rounded[3]} `
        + `of ${picture.width} × ${picture.height}`);
      fact("Time", `${ms} ms, of which the network ${network} ms`);
      if (answer.familiarity !== null) {
        fact("Familiar", `more than ${percent(answer.familiarity)} of the pictures that it was validated on`);
      }
      if (sample) {
        const same = answer.onGrid.join() === sample.pytorch.grid.join() && best === sample.pytorch.class;
        fact("It is", sample.caption);
        fact("PyTorch’s answer", same ? "the same box, the same class" : "another box or class");
      }
      const notice = element("p", { class: "try-it-unlike" }, element("strong", {}, "Unlike anything it knows."),
        ` ${percent(1 - answer.familiarity)} of the pictures that it was validated on are more familiar to it: box and `
        + "classes are guesses.");
      words.replaceChildren(...(answer.unlike ? [notice] : []), table, facts);
      if (!sample) {
        words.append(element("p", {}, "Whatever the picture shows, it gives one box and names one of the "
          + `${model.classes.length} classes that it knows, and nothing else.`));
      }
      row.querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", String(i === number)));
      status.textContent = answer.unlike
        ? `Unlike anything it knows; its best guess is ${model.classes[best]}. Found in ${ms} ms.`
        : `${model.classes[best]}, softmax ${percent(answer.shares[best])}; box found in ${ms} ms.`;
      Object.assign(root.dataset, { state: "ready", sample: sample ? number : "own", file: picture.name,
        model: model.path, box: answer.box.join(), grid: answer.onGrid.join(), class: best, score: answer.scores[best],
        familiarity: answer.familiarity ?? "", unlike: answer.unlike, ms: answer.ms.toFixed(1) });
    }

    const isPicture = (file) => file && (file.type.startsWith("image/") || !file.type);
    for (const each of [input, camera]) {
      each.addEventListener("change", () => { if (each.files[0]) show(each.files[0], ownBy); });
    }
    for (const name of ["dragenter", "dragover"]) {
      root.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
    }
    root.addEventListener("dragleave", () => drop.classList.remove("over"));
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      const file = event.dataTransfer.files[0];
      if (isPicture(file)) show(file, ownBy);
      else status.textContent = "That was no picture; drop an image file.";
    });
    document.addEventListener("paste", (event) => {
      const file = Array.from(event.clipboardData.files).find(isPicture);
      if (file) show(file, ownBy);
    });
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".try-it").forEach(start));
})();
