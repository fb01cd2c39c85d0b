// Asks once a second how everything is, and shows it. Texts of others only ever become text nodes.

import { chart, draw, graph, inOrder, MINUTES } from "/charts.js";

const KEPT = MINUTES * 60;
const LATEST = 3;
const byId = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Make the children of an element those of a list: made once for each key, updated every time, in order.
function keyed(parent, items, keyOf, make) {
  const known = (parent.known ??= new Map());
  const keys = new Set(items.map(keyOf));
  for (const [key, view] of known) {
    if (!keys.has(key)) {
      view.element.remove();
      known.delete(key);
    }
  }
  items.forEach((item, index) => {
    const key = keyOf(item);
    if (!known.has(key)) known.set(key, make(item));
    const view = known.get(key);
    if (parent.children[index] !== view.element) parent.insertBefore(view.element, parent.children[index] ?? null);
    view.update(item);
  });
}

// -- figures ----------------------------------------------------------------------------------------------------------

const KINDS = {
  RUNNING: "good", HEALTHY: "good", DEPLOY_FAILED: "bad", UNHEALTHY: "bad", DEPLOYING: "busy", UPDATING: "busy",
  STARTING: "busy", STOPPING: "busy", DELETING: "busy", UPSCALING: "busy", DOWNSCALING: "busy",
};
const kindOf = (status) => KINDS[status] ?? "";

function status(element, text) {
  say(element, text);
  element.className = `status ${kindOf(text)}`;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (Number.isInteger(value) && value < 1000) return String(value);
  if (value >= 1000) return Math.round(value).toLocaleString("en");
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

const milliseconds = (value) => (value === null ? "–" : value >= 1000 ? `${number(value / 1000)} s` : `${number(value)} ms`);

const mean = (points, value) => (points.length ? points.reduce((sum, point) => sum + value(point), 0) / points.length : 0);

// What the last seconds of something were like.
function figures(points) {
  const latest = points.slice(-5);
  const answered = latest.filter((point) => point.p50 !== null);
  const last = points.at(-1);
  return {
    requests: mean(latest, (point) => point.requests),
    errors: mean(latest, (point) => point.errors),
    p50: answered.length ? mean(answered, (point) => point.p50) : null,
    p99: answered.length ? Math.max(...answered.map((point) => point.p99)) : null,
    ongoing: last ? last.ongoing : 0,
    queued: last ? last.queued : 0,
  };
}

// -- charts of the last minutes ---------------------------------------------------------------------------------------

const history = new Map();
let now = 0;

function remember(thing, points) {
  const known = history.get(thing) ?? [];
  for (const [time, requests, errors, p50, p99, ongoing, queued] of points) {
    known.push({ time, requests, errors, p50, p99, ongoing, queued });
  }
  known.splice(0, Math.max(0, known.length - KEPT));
  history.set(thing, known);
  return known;
}

const RATES = [
  { kind: "", area: true, value: (point) => point.requests },
  { kind: "bad", area: true, value: (point) => point.errors },
];
const LATENCIES = [
  { kind: "", value: (point) => point.p50 },
  { kind: "second", value: (point) => point.p99 },
];

function chartPanel(title, keys, lines, unit) {
  const drawing = chart(title);
  const top = el("span");
  const element = el(
    "figure", {},
    el("figcaption", {}, el("span", {}, ...keys.flatMap(([kind, name]) => [el("span", { class: `key ${kind}` }, name), " "])), top),
    drawing,
    el("div", { class: "ends", "aria-hidden": "true" }, el("span", {}, `${MINUTES} min ago`), el("span", {}, "now")),
  );
  const update = (points) => {
    const most = draw(drawing, points, lines, now);
    say(top, `up to ${unit(most)}`);
    const last = points.at(-1);
    const values = last ? lines.map((line, index) => `${keys[index][1]} ${unit(line.value(last))}`).join(", ") : "nothing yet";
    drawing.setAttribute("aria-label", `${title}, last ${MINUTES} minutes, up to ${unit(most)}; now ${values}`);
  };
  return { element, update };
}

// -- parts of an application ------------------------------------------------------------------------------------------

function figurePanel() {
  const names = { requests: "requests/s", errors: "errors/s", p50: "p50", p99: "p99", ongoing: "ongoing", queued: "in line" };
  const values = Object.fromEntries(Object.keys(names).map((name) => [name, el("dd", { "data-figure": name })]));
  const element = el("dl", { class: "figures" }, ...Object.entries(names).map(([name, text]) => el("div", {}, el("dt", {}, text), values[name])));
  const update = (found) => {
    for (const name of Object.keys(names)) {
      say(values[name], name === "p50" || name === "p99" ? milliseconds(found[name]) : number(found[name]));
    }
  };
  return { element, update };
}

function message(label) {
  const text = el("pre", { tabindex: "0", "aria-label": label });
  const element = el("div", { class: "message", role: "group", "aria-label": label, hidden: "" }, text);
  return { element, update: (content) => { say(text, content); element.hidden = !content; } };
}

function table(caption, heads) {
  const body = el("tbody");
  const cells = heads.map(([name, kind]) => el("th", { scope: "col", class: kind ?? "" }, name));
  const element = el("div", { class: "scroll" }, el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...cells)), body));
  return { element, body };
}

function deploymentRow(app) {
  return () => {
    const name = el("th", { scope: "row" });
    const state = el("span");
    const count = el("td", { class: "number" });
    const spark = chart("", true);
    const shown = ["requests", "errors", "p50", "p99", "ongoing", "queued"].map((figure) => [figure, el("td", { class: "number" })]);
    const element = el("tr", {}, name, el("td", {}, state), count, ...shown.map(([, cell]) => cell), el("td", {}, spark));
    const update = (deployment) => {
      say(name, deployment.revision === null ? deployment.name : `${deployment.name} (revision ${deployment.revision})`);
      status(state, deployment.status);
      const running = deployment.replicas.filter((replica) => replica.state === "RUNNING").length;
      say(count, `${running} of ${deployment.wanted}`);
      const points = history.get(`${app}#${deployment.name}`) ?? [];
      const found = figures(points);
      for (const [figure, cell] of shown) say(cell, figure === "p50" || figure === "p99" ? milliseconds(found[figure]) : number(found[figure]));
      draw(spark, points, RATES, now);
      spark.setAttribute("aria-label", `requests a second of ${deployment.name}: ${number(found.requests)} now`);
    };
    return { element, update };
  };
}

function replicaRow() {
  const [name, state] = [el("th", { scope: "row", class: "id" }), el("span")];
  const [pid, ongoing, models] = [el("td", { class: "number" }), el("td", { class: "number" }), el("td", { class: "id" })];
  const button = el("button", { type: "button" }, "Log");
  const element = el("tr", {}, name, el("td", {}, state), pid, ongoing, models, el("td", {}, button));
  let shown = "";
  button.addEventListener("click", () => openLog(shown));
  const update = (replica) => {
    shown = replica.id;
    say(name, replica.id);
    status(state, replica.state);
    element.className = replica.state === "ENDED" ? "gone" : "";
    say(pid, replica.pid === null ? "–" : String(replica.pid));
    say(ongoing, replica.state === "ENDED" ? "–" : String(replica.ongoing));
    say(models, replica.models.join(", "));
    button.hidden = !replica.log;
    button.setAttribute("aria-label", `Log of ${replica.id}`);
  };
  return { element, update };
}

function failureView(failure) {
  const lines = failure.text.trimEnd().split("\n");
  const what = lines.filter((line) => line && !line.startsWith(" ")).at(-1) ?? "";
  const when = new Date(failure.time * 1000).toLocaleTimeString();
  const element = el(
    "details", {},
    el("summary", {}, el("span", { class: "what" }, what), ` ${when}, ${failure.route || "call"} in ${failure.replica}`),
    el("p", { class: "quiet" }, `request ${failure.request_id || "–"}`),
    el("pre", { tabindex: "0", "aria-label": "Traceback" }, failure.text),
  );
  return { element, update: () => {} };
}

function splitView() {
  const element = el("li");
  const update = (split) => {
    element.style.flexGrow = String(Math.max(split.weight, 0.02));
    const rules = [split.header && `header ${split.header}`, split.shadow && "shadow: gets copies"].filter(Boolean);
    say(element, [`revision ${split.revision}: ${(split.weight * 100).toFixed(split.weight * 100 % 1 ? 1 : 0)} %`, ...rules].join(", "));
  };
  return { element, update };
}

let titles = 0;

function applicationView(app) {
  const titleId = `application-${(titles += 1)}`; // not its name: that may have spaces
  const [title, state, route, revision] = [el("h2", { id: titleId }), el("span"), el("code"), el("span", { class: "quiet" })];
  const [shown, trouble] = [figurePanel(), message("What is wrong")];
  const rates = chartPanel("Requests a second", [["", "requests/s"], ["bad", "errors/s"]], RATES, number);
  const latencies = chartPanel("Latency", [["", "p50"], ["second", "p99"]], LATENCIES, milliseconds);
  const graphPlace = el("div", { class: "scroll" });
  const splits = el("ul", { class: "splits" });
  const splitPart = el("div", { hidden: "" }, el("h3", {}, "Traffic"), splits);
  const deployments = table("Deployments", [
    ["name"], ["status"], ["replicas", "number"], ["requests/s", "number"], ["errors/s", "number"], ["p50", "number"],
    ["p99", "number"], ["ongoing", "number"], ["in line", "number"], [`last ${MINUTES} min`],
  ]);
  const replicas = table("Replicas", [["id"], ["state"], ["pid", "number"], ["ongoing", "number"], ["models"], ["log"]]);
  const failures = el("div", { class: "failures" });
  const earlier = el("button", { type: "button", hidden: "" });
  earlier.addEventListener("click", () => failures.classList.toggle("all"));
  const failurePart = el("div", { hidden: "" }, el("h3", {}, "Exceptions of requests"), failures, earlier);
  const revisions = el("p", { class: "revisions" });
  const element = el(
    "section", { class: "panel", "aria-labelledby": titleId },
    el("div", { class: "title" }, title, state, route, revision),
    trouble.element, shown.element,
    el("div", { class: "charts" }, rates.element, latencies.element),
    splitPart,
    el("h3", {}, "Who calls whom"), graphPlace,
    el("div", { class: "tables" }, deployments.element, replicas.element),
    failurePart,
    el("h3", {}, "Revisions"), revisions,
  );
  let drawn = "";
  const update = (found) => {
    const ingress = history.get(`${found.name}#${found.ingress}`) ?? [];
    const clients = found.route === null ? ingress : history.get(found.name) ?? [];
    say(title, found.name);
    status(state, found.status);
    say(route, found.route ?? "handles only");
    say(revision, `revision ${found.revision}`);
    trouble.update(found.message);
    shown.update({ ...figures(clients), ongoing: figures(ingress).ongoing, queued: figures(ingress).queued });
    rates.update(clients);
    latencies.update(clients);
    splitPart.hidden = !found.splits.length;
    keyed(splits, found.splits, (split) => split.revision, splitView);
    drawn = drawGraph(graphPlace, found, drawn);
    const ordered = inOrder(found.deployments, found.ingress);
    keyed(deployments.body, ordered, (each) => `${each.revision}#${each.name}`, deploymentRow(found.name));
    const processes = ordered.flatMap((each) => each.replicas);
    replicas.element.hidden = !processes.length;
    keyed(replicas.body, processes, (replica) => replica.id, replicaRow);
    const ended = found.deployments.filter((each) => each.revision === null).flatMap((each) => each.failures);
    ended.sort((a, b) => b.time - a.time);
    failurePart.hidden = !ended.length;
    keyed(failures, ended, (each) => `${each.time} ${each.request_id} ${each.replica}`, failureView);
    earlier.hidden = ended.length <= LATEST;
    say(earlier, failures.classList.contains("all") ? "Latest only" : `${ended.length - LATEST} earlier`);
    say(revisions, found.revisions.map(([of, at]) => (at ? `${of}: ${new Date(at * 1000).toLocaleString()}` : `${of}`)).join(" · "));
  };
  return { element, update };
}

function drawGraph(place, app, drawn) {
  const nodes = new Map();
  for (const each of inOrder(app.deployments, app.ingress)) {
    const name = each.revision === null ? each.name : `${each.name} (revision ${each.revision})`;
    const running = each.replicas.filter((replica) => replica.state === "RUNNING").length;
    const found = figures(history.get(`${app.name}#${each.name}`) ?? []);
    const small = `${running} of ${each.wanted}, ${number(found.requests)}/s`;
    nodes.set(name, { uses: each.uses, kind: kindOf(each.status), small });
  }
  const wanted = JSON.stringify([[...nodes], app.ingress, app.route]);
  if (wanted !== drawn && nodes.size) place.replaceChildren(graph(nodes, app.ingress, app.route));
  return wanted;
}

// -- logs -------------------------------------------------------------------------------------------------------------

let logOf = "";

async function openLog(name) {
  logOf = name;
  say(byId("log-title"), name);
  say(byId("log-text"), "");
  byId("log").showModal();
  await readLog();
}

async function readLog() {
  if (!byId("log").open) return;
  const text = byId("log-text");
  const answer = await fetch(`/api/serve/logs?lines=500&name=${encodeURIComponent(logOf)}`);
  say(text, answer.ok ? (await answer.text()) || "(nothing yet)" : "This log is gone.");
  if (byId("log-follow").checked) text.scrollTop = text.scrollHeight;
}

byId("log-close").addEventListener("click", () => byId("log").close());

// -- asking -----------------------------------------------------------------------------------------------------------

function proxyView() {
  const [name, state] = [el("span", { class: "id" }), el("span")];
  const button = el("button", { type: "button" }, "Log");
  const element = el("li", {}, name, state, button);
  let shown = "";
  button.addEventListener("click", () => openLog(shown));
  const update = (proxy) => {
    shown = proxy.name;
    say(name, proxy.name);
    status(state, proxy.state);
    button.hidden = !proxy.log;
    button.setAttribute("aria-label", `Log of ${proxy.name}`);
  };
  return { element, update };
}

const place = el("div");
byId("applications").append(place);
let controller = "";
let since = 0;

function show(live) {
  if (live.controller !== controller) {
    controller = live.controller;
    history.clear();
  }
  now = live.time;
  for (const app of live.applications) {
    remember(app.name, app.points);
    const seen = new Set();
    for (const each of app.deployments) {
      if (!seen.has(each.name)) remember(`${app.name}#${each.name}`, each.points);
      seen.add(each.name);
    }
  }
  since = Math.max(0, ...[...history.values()].map((points) => points.at(-1)?.time ?? 0));
  byId("nothing").hidden = live.applications.length > 0;
  keyed(place, live.applications, (app) => app.name, applicationView);
  byId("proxies").hidden = !live.proxies.length;
  keyed(byId("proxy-list"), live.proxies, (proxy) => proxy.name, proxyView);
  const bad = live.applications.filter((app) => kindOf(app.status) === "bad").length;
  document.title = bad ? `(${bad}) Skate Serve` : "Skate Serve";
}

async function ask() {
  const connection = byId("connection");
  try {
    const answer = await fetch(`/api/serve/live?since=${since}`, { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const live = await answer.json();
    if (live.controller !== controller && since) {
      since = 0; // another controller: its history is asked for from the beginning
      history.clear();
      controller = live.controller;
      return;
    }
    show(live);
    await readLog();
    say(connection, "live");
    connection.className = "";
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException || error.message.startsWith("status"))) throw error;
    say(connection, "Serve does not answer; trying again");
    connection.className = "lost";
  } finally {
    setTimeout(ask, document.hidden ? 5000 : 1000);
  }
}

ask();
