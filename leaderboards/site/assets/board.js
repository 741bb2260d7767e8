// Sorting and filtering of tables, kept in the address so that a view can be linked to. Rows are never made here, only
// ordered and taken out of the page, so nothing of a submission is ever parsed as HTML.
"use strict";
(() => {
  const SHOWN_AT_FIRST = 100;

  const textOf = (row, column) => row.cells[column].textContent.trim().toLowerCase();

  // Missing values come last in both directions.
  const keyOf = (row, column, numeric) => {
    if (!numeric) return textOf(row, column) || null;
    const value = row.cells[column].dataset.v;
    return value === undefined ? null : Number(value);
  };

  const collator = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => (typeof a === "number" ? a - b : collator.compare(a, b));

  const setUp = (section, permanent) => {
    const table = section.querySelector("table.sortable");
    const form = section.querySelector("form.filters");
    const status = section.querySelector("[role=status]");
    const more = section.querySelector("button.more");
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...body.rows];
    const original = rows.slice();
    const text = rows.map((row) => row.textContent.toLowerCase());
    const place = new Map(rows.map((row, index) => [row, index]));
    const state = { sort: null, direction: null, all: false };
    let order = rows;

    const wanted = () => (form ? Object.fromEntries(new FormData(form)) : {});

    const matches = (row, filter) => {
      for (const key of ["contrast", "factor", "training", "badge", "track"]) {
        if (filter[key] && row.dataset[key] !== filter[key]) return false;
      }
      if (filter.parameters) {
        const most = Number(filter.parameters) * 1e6;
        if (row.dataset.parameters === undefined || Number(row.dataset.parameters) > most) return false;
      }
      return !filter.q || filter.q.toLowerCase().split(/\s+/).every((word) => text[place.get(row)].includes(word));
    };

    const remember = () => {
      if (!permanent) return;
      const found = new URLSearchParams(Object.entries(wanted()).filter(([, value]) => value !== ""));
      if (state.sort !== null) found.set("sort", `${state.sort}:${state.direction}`);
      const hash = found.toString();
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    };

    const show = () => {
      const filter = wanted();
      const fitting = order.filter((row) => matches(row, filter));
      const matching = fitting.length;
      const shown = state.all ? matching : Math.min(matching, SHOWN_AT_FIRST);
      body.replaceChildren(...fitting.slice(0, shown));
      const byRank = state.sort === null || heads[state.sort].classList.contains("rank");
      table.classList.toggle("ungrouped", !byRank || matching < rows.length);
      status.textContent = `${shown} of ${rows.length} rows shown` + (matching > shown ? `, ${matching} match` : "");
      more.hidden = matching <= shown;
      more.textContent = `Show all ${matching}`;
    };

    const sort = () => {
      heads.forEach((head, index) => {
        if (index === state.sort) head.setAttribute("aria-sort", state.direction);
        else head.removeAttribute("aria-sort");
      });
      if (state.sort === null) {
        order = original;
      } else {
        const numeric = heads[state.sort].classList.contains("num");
        const sign = state.direction === "ascending" ? 1 : -1;
        const keyed = original.map((row) => [keyOf(row, state.sort, numeric), row]);
        keyed.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return sign * compare(a, b);
        });
        order = keyed.map(([, row]) => row);
      }
    };

    heads.forEach((head, index) => {
      const button = head.querySelector("button.sort");
      if (!button) return;
      button.addEventListener("click", () => {
        const opposite = state.direction === "ascending" ? "descending" : "ascending";
        state.direction = state.sort === index ? opposite : button.dataset.first;
        state.sort = index;
        sort();
        show();
        remember();
      });
    });
    more.addEventListener("click", () => {
      state.all = true;
      show();
    });
    if (form) {
      form.hidden = false;
      let waiting = 0;
      form.addEventListener("input", () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => {
          show();
          remember();
        }, 80);
      });
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("reset", () => {
        setTimeout(() => {
          show();
          remember();
        }, 0);
      });
    }

    if (permanent) {
      const asked = new URLSearchParams(location.hash.slice(1));
      for (const [key, value] of asked) {
        const field = form && form.elements.namedItem(key);
        if (field) field.value = value;
      }
      const [column, direction] = (asked.get("sort") || "").split(":");
      if (/^\d+$/.test(column) && heads[Number(column)] && ["ascending", "descending"].includes(direction)) {
        state.sort = Number(column);
        state.direction = direction;
        sort();
      }
    }
    show();
  };

  const sections = [...document.querySelectorAll("section.board")];
  for (const section of sections) setUp(section, section.querySelector("form.filters") !== null);

  // Points of a plot lead to the method for those who point; the table has the same links for everybody.
  for (const mark of document.querySelectorAll("svg [data-href]")) {
    mark.addEventListener("click", () => location.assign(mark.dataset.href));
  }
})();
