// Small drawings in SVG: lines over the last minutes, and the graph of an application's deployments.

const SVG = "http://www.w3.org/2000/svg";
export const MINUTES = 5;

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// The points of one line as a path; a gap where there is no value.
function path(points, value, top, end, closed) {
  const begin = end - MINUTES * 60;
  let text = "";
  let open = null;
  let last = 0;
  const x = (point) => (((point.time - begin) / (end - begin)) * 300).toFixed(1);
  for (const point of points) {
    const y = value(point);
    if (y === null || point.time < begin) {
      if (closed && open !== null) text += `L${last},60Z`;
      open = null;
      continue;
    }
    last = x(point);
    const height = (60 - (Math.min(y, top) / top) * 58).toFixed(1);
    if (open === null) text += closed ? `M${last},60L${last},${height}` : `M${last},${height}`;
    else text += `L${last},${height}`;
    open = point;
  }
  if (closed && open !== null) text += `L${last},60Z`;
  return text;
}

// Draw lines into an SVG element. Each has a value of a point, a class, and may be an area.
export function draw(element, points, lines, end) {
  const seen = points.flatMap((point) => lines.map((line) => line.value(point) ?? 0));
  const top = Math.max(1e-9, ...seen);
  const drawn = lines.flatMap((line) => {
    const parts = [];
    if (line.area) parts.push(svg("path", { class: `area ${line.kind}`, d: path(points, line.value, top, end, true) }));
    parts.push(svg("path", { class: `line ${line.kind}`, d: path(points, line.value, top, end, false) }));
    return parts;
  });
  element.replaceChildren(...drawn);
  return Math.max(0, ...seen);
}

export function chart(label, small = false) {
  return svg("svg", {
    class: small ? "spark" : "chart", viewBox: "0 0 300 62", preserveAspectRatio: "none", role: "img", "aria-label": label,
  });
}

let tips = 0;
const WIDTH = 190;
const HEIGHT = 58;

// The deployments, callers before those they call.
export function inOrder(deployments, ingress) {
  const depth = depths(new Map(deployments.map((each) => [each.name, each])), ingress);
  return [...deployments].sort((a, b) => depth.get(a.name) - depth.get(b.name));
}

// How far each deployment is from the ingress, by its longest way; a circle is cut where it closes.
function depths(nodes, ingress) {
  const depth = new Map();
  const visit = (name, level, above) => {
    if (!nodes.has(name) || above.has(name)) return;
    if ((depth.get(name) ?? -1) >= level) return;
    depth.set(name, level);
    for (const next of nodes.get(name).uses) visit(next, level + 1, new Set([...above, name]));
  };
  visit(ingress, 1, new Set());
  for (const name of nodes.keys()) if (!depth.has(name)) visit(name, 1, new Set());
  return depth;
}

function box(x, y, kind, title, small) {
  const lines = [svg("text", { x: x + 12, y: y + 24 }, title.length > 24 ? `${title.slice(0, 23)}…` : title)];
  if (small) lines.push(svg("text", { x: x + 12, y: y + 43, class: "small" }, small));
  return svg(
    "g", { class: kind },
    svg("title", {}, small ? `${title}: ${small}` : title),
    svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 8 }),
    ...lines,
  );
}

// Who calls whom. Nodes: name -> {uses, kind, small}.
export function graph(nodes, ingress, route) {
  const depth = depths(nodes, ingress);
  const columns = new Map();
  for (const [name, level] of depth) columns.set(level, [...(columns.get(level) ?? []), name]);
  const place = new Map();
  const shift = route === null ? 1 : 0;
  for (const [level, names] of columns) {
    names.forEach((name, row) => place.set(name, [8 + (level - shift) * (WIDTH + 60), 8 + row * (HEIGHT + 18)]));
  }
  const parts = [];
  const tip = `tip-${(tips += 1)}`;
  let lowest = 0;
  const arrow = ([x1, y1], [x2, y2]) => {
    let line;
    if (y1 === y2 && (x2 - x1 > WIDTH + 70 || x2 <= x1)) {
      // past what stands between, below it
      const [ax, bx, y] = [x1 + WIDTH * 0.7, x2 + WIDTH * 0.3, y1 + HEIGHT];
      const depth = y + 34;
      lowest = Math.max(lowest, depth);
      line = `M${ax},${y}C${ax},${depth} ${bx},${depth} ${bx},${y + 3}`;
    } else {
      const [ax, ay, bx, by] = [x1 + WIDTH, y1 + HEIGHT / 2, x2 - 3, y2 + HEIGHT / 2];
      const bend = Math.max(30, Math.abs(bx - ax) / 2);
      line = `M${ax},${ay}C${ax + bend},${ay} ${bx - bend},${by} ${bx},${by}`;
    }
    parts.push(svg("path", { d: line, "marker-end": `url(#${tip})` }));
  };
  const edges = [];
  if (route !== null && place.has(ingress)) {
    arrow([8, 8], place.get(ingress));
    parts.push(box(8, 8, "clients", "clients", route));
  }
  for (const [name, node] of nodes) {
    for (const used of node.uses) {
      if (!place.has(used)) continue;
      arrow(place.get(name), place.get(used));
      edges.push(`${name} calls ${used}`);
    }
  }
  for (const [name, node] of nodes) parts.push(box(...place.get(name), node.kind, name, node.small));
  const width = Math.max(...[...place.values()].map(([x]) => x)) + WIDTH + 10;
  const height = Math.max(lowest, ...[...place.values()].map(([, y]) => y + HEIGHT)) + 10;
  const label = `Deployments: ${[...nodes.keys()].join(", ")}. ${edges.join("; ") || "None calls another"}.`;
  return svg(
    "svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
    svg(
      "defs", {},
      svg("marker", { id: tip, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" },
        svg("path", { d: "M0,0L8,4L0,8z" })),
    ),
    ...parts,
  );
}
