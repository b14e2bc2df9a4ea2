// What a reader's eye would notice and Chromium can measure; evaluated in the page by test_pages.py.
(() => {
  const shown = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const say = (element) =>
    `<${element.tagName.toLowerCase()} class="${element.getAttribute("class") || ""}"> ${(element.textContent || "").trim().slice(0, 40)}`;

  // Any CSS colour as [r, g, b, a] with a in [0, 1]: drawn on one pixel, so that every notation is understood.
  const pixel = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const colour = (css) => {
    if (!known.has(css)) {
      pixel.clearRect(0, 0, 1, 1);
      pixel.fillStyle = css;
      pixel.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
      known.set(css, [r, g, b, a / 255]);
    }
    return known.get(css);
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };

  // The colour behind an element: its own and its ancestors' backgrounds, the topmost last; null over a picture.
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.backgroundImage !== "none") return null;
      layers.push(colour(style.backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };

  // WCAG 2, 1.4.3 (AA): 4.5 to 1, or 3 to 1 for text from 24 px, or from 18.66 px in bold.
  const lowContrast = () => {
    const found = new Map();
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || element.closest("mjx-container, script, style, :disabled, [aria-hidden=true]") || !shown(element)) continue;
      const style = getComputedStyle(element);
      const ground = behind(element);
      if (!ground) continue;
      const [r, g, b, a] = colour(element.closest("svg") ? style.fill : style.color);
      let opacity = a;
      for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
      const [x, y] = [luminance(over([r, g, b, opacity], ground)), luminance(ground)];
      const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5) - 0.005) found.set(`${style.color} on rgb(${ground.slice(0, 3).map(Math.round)})`, `${ratio.toFixed(2)} ${say(element)}`);
    }
    return [...found].map(([colours, where]) => `${colours}: ${where}`);
  };

  // Elements that stick out of the page on the right, where nothing around them scrolls.
  const wider = () => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const out = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1 && shown(e));
    return [`${root.scrollWidth} px of ${root.clientWidth}`, ...out.filter((e) => !out.includes(e.parentElement)).slice(0, 5).map(say)];
  };

  // Headings that a reader meets, as [level, text].
  const headings = () =>
    [...document.querySelectorAll("main :is(h1, h2, h3, h4, h5, h6)")].filter(shown).map((h) => [Number(h.tagName[1]), h.textContent]);

  // Pictures; one outside the text may say by an empty description that the words beside it suffice.
  const pictures = () =>
    [...document.querySelectorAll("img:not(.toggler)")].map((i) => ({ src: i.currentSrc.slice(-60), alt: i.alt, loaded: i.complete && i.naturalWidth > 0, decorative: i.getAttribute("alt") === "" && !i.closest("article") }));

  // Text that a formula or a reference left behind: TeX that was not typeset, a citation without its entry.
  const leftovers = () => {
    const found = [];
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const { data, parentElement } = walker.currentNode;
      if (/\$\$|\\begin\{|\\\(|\\\[|\[\?\]/.test(data) && !parentElement.closest("pre, code, script, style")) found.push(data.trim().slice(0, 80));
    }
    return [...found, ...[...document.querySelectorAll(".problematic, .system-message, mjx-merror")].map(say)];
  };

  const rawFormulas = () =>
    [...document.querySelectorAll("main .math")].filter((f) => !f.querySelector("mjx-container svg")).map(say);

  return {
    lang: document.documentElement.lang, title: document.title, theme: document.documentElement.dataset.theme,
    lowContrast: lowContrast(), wider: wider(), headings: headings(), pictures: pictures(), leftovers: leftovers(), rawFormulas: rawFormulas(),
  };
})()
