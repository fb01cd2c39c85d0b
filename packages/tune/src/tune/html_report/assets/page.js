"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // figures, in the colours of the page

  const themed = (layout) => {
    const axis = (given) => ({ ...given, gridcolor: css("--grid"), linecolor: css("--line"), tickcolor: css("--line") });
    const modebar = { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--accent") };
    const colours = { modebar, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: css("--fg"), size: 13, family: getComputedStyle(document.body).fontFamily } };
    const hover = { hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { color: css("--fg") }, align: "left" } };
    return { ...layout, ...colours, ...hover, autosize: true, ...(layout.xaxis && { xaxis: axis(layout.xaxis) }), ...(layout.yaxis && { yaxis: axis(layout.yaxis) }) };
  };
  const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage"]] };
  const draw = () => {
    for (const [name, figure] of Object.entries(data.figures)) {
      Plotly.react(`plot-${name}`, structuredClone(figure.data), themed(structuredClone(figure.layout)), options);
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  // the table

  const table = document.querySelector("#trials table");
  const { titles, rows, errors, hidden, sort } = data.table;
  const STEP = 50;
  const numeric = titles.map((_, column) => rows.some((row) => typeof row[column] === "number"));
  let [sortedBy, order] = [sort[0], sort[1] === "max" ? -1 : 1];
  let limit = STEP;
  const make = (tag, text, parent) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    parent?.append(made);
    return made;
  };
  const shown = (value) => (value === null ? "" : typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value));
  const compare = (a, b) => {
    const [left, right] = [a[sortedBy], b[sortedBy]];
    if (left === null || left === "") return right === null || right === "" ? 0 : 1;
    if (right === null || right === "") return -1;
    if (typeof left === "number" && typeof right === "number") return order * (left - right);
    return order * String(left).localeCompare(String(right), undefined, { numeric: true });
  };

  const head = make("tr", undefined, table.tHead);
  const heads = titles.map((title, column) => {
    const cell = make("th", undefined, head);
    cell.scope = "col";
    if (numeric[column]) cell.style.textAlign = "right";
    const button = make("button", title, cell);
    button.type = "button";
    button.addEventListener("click", () => {
      order = sortedBy === column ? -order : 1;
      sortedBy = column;
      fill();
    });
    return cell;
  });
  const fill = () => {
    const wanted = document.getElementById("filter").value.toLowerCase();
    const found = rows.filter((row) => !wanted || row.some((value) => shown(value).toLowerCase().includes(wanted)) || (errors[row[0]]?.title ?? "").toLowerCase().includes(wanted));
    found.sort(compare);
    heads.forEach((cell, column) => (column === sortedBy ? cell.setAttribute("aria-sort", order > 0 ? "ascending" : "descending") : cell.removeAttribute("aria-sort")));
    const body = document.createElement("tbody");
    for (const row of found.slice(0, limit)) {
      const line = make("tr", undefined, body);
      row.forEach((value, column) => {
        const cell = make("td", column === 2 ? undefined : shown(value), line);
        if (column === 2) make("span", value, cell).className = `state s-${value}`;
        else if (numeric[column]) cell.className = "number";
      });
      const error = errors[row[0]];
      if (error) {
        const under = make("tr", undefined, body);
        under.className = "error";
        const cell = make("td", undefined, under);
        cell.colSpan = titles.length;
        const details = make("details", undefined, cell);
        make("summary", error.count > 1 ? `${error.title} (failed ${error.count} times)` : error.title, details);
        make("pre", error.text || "no traceback", details);
      }
    }
    table.tBodies[0].replaceWith(body);
    const first = Math.min(limit, found.length);
    document.getElementById("shown").textContent = `${first} of ${found.length} trials` + (hidden ? `; ${hidden} more of the sweep are not on this page` : "");
    document.getElementById("more").hidden = found.length <= limit;
  };
  document.getElementById("filter").addEventListener("input", fill);
  document.getElementById("more").addEventListener("click", () => {
    limit += 2 * STEP;
    fill();
  });
  fill();

  // a page of a running sweep loads itself again

  if (data.running) {
    const box = document.getElementById("reload");
    const remember = (what) => { try { sessionStorage.setItem("reload", what); } catch { /* not every browser lets a file do so */ } };
    try { box.checked = sessionStorage.getItem("reload") !== "no"; } catch { /* as above */ }
    box.addEventListener("change", () => remember(box.checked ? "yes" : "no"));
    setInterval(() => { if (box.checked && !document.hidden) location.reload(); }, data.reload * 1000);
  }
  document.body.dataset.drawn = "yes";
})();
