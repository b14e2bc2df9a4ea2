/* Sortable tables: every column header of a table of ours becomes a button.

   First press: numbers from large to small, words from A to Z; second press: the other way; third: as computed.
   What is not a number (a dash, "not run here") stays last. A table whose rows are joined by rowspan is left alone. */
(() => {
  "use strict";

  const NUMBER = /^([+\u2212-]?\d[\d\s\u2009\u202f]*(?:\.\d+)?)\s*%?\s*(?:\u00b1.*|\(.*\)|to .*)?$/;

  function shown(cell) {
    return cell.textContent.replace(/\u200b/g, "").trim();
  }

  function numberIn(text) {
    const found = NUMBER.exec(text);
    return found ? Number(found[1].replace("\u2212", "-").replace(/[\s\u2009\u202f]/g, "")) : NaN;
  }

  /* The lowest header cell of each column that belongs to it alone and says something. */
  function headers(head) {
    const lowest = [];
    for (const row of head.rows) {
      let column = 0;
      for (const cell of row.cells) {
        if (cell.colSpan === 1 && shown(cell)) lowest[column] = cell;
        column += cell.colSpan;
      }
    }
    return lowest;
  }

  function compare(a, b, numeric) {
    return numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
  }

  function prepare(table) {
    const body = table.tBodies[0];
    if (!table.tHead || !body || body.rows.length < 3) return;
    const rows = [...body.rows];
    if (rows.some((row) => [...row.cells].some((cell) => cell.rowSpan > 1 || cell.colSpan > 1))) return;

    /* A label that repeats the one above is blank as computed; in any other order every row shows its own. */
    const original = rows.map((row) => row.cells[0].textContent);
    const labels = [];
    rows.forEach((row, i) => labels.push(shown(row.cells[0]) || (i ? labels[i - 1] : "")));

    function text(i, column) {
      return column ? shown(rows[i].cells[column]) : labels[i];
    }

    const buttons = [];
    headers(table.tHead).forEach((header, column) => {
      if (column >= rows[0].cells.length) return;
      const all = rows.map((row, i) => text(i, column));
      const aside = rows.map((row, i) => all[i] === "" || all[i] === "\u2013"
        || row.cells[column].classList.contains("aside"));
      const numeric = all.some((_, i) => !aside[i]) && all.every((value, i) => aside[i] || !isNaN(numberIn(value)));
      const keys = numeric ? all.map(numberIn) : all;
      const first = numeric ? "descending" : "ascending";
      const button = document.createElement("button");
      button.type = "button";
      button.className = "tedloc-sort";
      button.append(...header.childNodes);
      header.append(button);
      buttons.push(header);
      button.addEventListener("click", () => {
        const now = header.getAttribute("aria-sort");
        const next = !now ? first : now !== first ? "" : first === "ascending" ? "descending" : "ascending";
        buttons.forEach((other) => other.removeAttribute("aria-sort"));
        const order = rows.map((_, i) => i);
        if (next) {
          header.setAttribute("aria-sort", next);
          const sign = next === "ascending" ? 1 : -1;
          order.sort((a, b) => aside[a] - aside[b] || (aside[a] ? a - b : sign * compare(keys[a], keys[b], numeric)) || a - b);
        }
        order.forEach((i) => {
          if (original[i] !== labels[i]) rows[i].cells[0].textContent = next ? labels[i] : original[i];
          body.append(rows[i]);
        });
      });
    });
    table.classList.add("tedloc-sortable");
  }

  /* On a phone a row of words becomes a card under its first cell: the others then say which column they are of, and
     those that say little stand side by side. */
  function label(table) {
    const names = headers(table.tHead).map(shown);
    for (const row of table.tBodies[0].rows) {
      [...row.cells].forEach((cell, column) => {
        if (column && cell.tagName === "TD" && names[column]) cell.dataset.label = names[column];
        cell.classList.toggle("short", column > 0 && shown(cell).length < 13);
      });
    }
  }

  /* Whether a table shows all of its columns, and else whether there are more to the right. */
  function look(about) {
    const box = about.querySelector(".tedloc-scroll");
    about.classList.remove("fits");
    const hidden = box.scrollWidth - box.clientWidth;
    about.classList.toggle("fits", hidden < 2);
    about.toggleAttribute("data-scrolls", hidden >= 2);
    about.toggleAttribute("data-more", hidden - box.scrollLeft >= 2);
  }

  function start() {
    document.querySelectorAll(".tedloc-table table").forEach(prepare);
    document.querySelectorAll(".tedloc-table.words table").forEach((table) => table.tHead && label(table));
    /* So do a page's own tables, which are of words, where two columns and more stand beside the first. */
    document.querySelectorAll(".pst-scrollable-table-container > table.table").forEach((table) => {
      if (!table.tHead || !table.tBodies[0] || table.tHead.rows[0].cells.length < 3) return;
      table.parentElement.classList.add("tedloc-cards");
      label(table);
      table.querySelectorAll("td").forEach((cell) => cell.classList.toggle("nothing", shown(cell) === "\u2013"));
    });
    const tables = [...document.querySelectorAll(".tedloc-table:has(> .tedloc-scroll)")];
    tables.forEach((about) => about.querySelector(".tedloc-scroll").addEventListener("scroll", () => look(about)));
    const all = () => tables.forEach(look);
    new ResizeObserver(all).observe(document.body);
    document.addEventListener("toggle", all, true); // a folded cell opens
    all();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
