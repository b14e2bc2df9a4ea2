/* What every page does beside what it shows. */
(() => {
  "use strict";

  /* A page opened from the disk may read no other page, so a search there shows titles alone: for the lines around a
     finding it would ask once for every result, each time in vain. */
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  /* Paper is white, whatever the screen was. */
  const root = document.documentElement;
  let theme = null;
  addEventListener("beforeprint", () => { theme = root.dataset.theme; root.dataset.theme = "light"; });
  addEventListener("afterprint", () => { root.dataset.theme = theme; });

  /* A box that scrolls sideways is a stop of the Tab key for as long as it does, so that arrow keys can move it. */
  const BOXES = ".cell_output, .tedloc-scroll, .pst-scrollable-table-container, .diagram-frame, .output, div.math";
  function reach(box) {
    const scrolls = box.scrollWidth > box.clientWidth && ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
    if (scrolls) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
  addEventListener("load", () => {
    const boxes = document.querySelectorAll(`.bd-article :is(${BOXES})`);
    new ResizeObserver(() => boxes.forEach(reach)).observe(document.body);
  });
})();
