"use strict";

// Petroff's ten colors, safe for any color vision; more categories get hues of their own.
const PALETTE = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"];
const SCALE = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis
const NOTHING = "none"; // a category as quiet as unknown values
const RESULTS = 120, THUMBNAILS = 250, MAX_ZOOM = 400;

document.querySelectorAll(".browser").forEach(start);

function start(root) {
  const data = JSON.parse(root.parentElement.querySelector("script[type='application/json']").textContent);
  const numbers = (text, Kind) => new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const { names, side, sheetColumns } = data, n = names.length;
  const places = numbers(data.places, Float32Array);
  const near = numbers(data.near, Int32Array), far = numbers(data.far, Int32Array);
  const count = near.length / n;
  const neighbors = (all, row) => Array.from(all.subarray(row * count, (row + 1) * count));
  const columns = data.columns.map((column) => ({ ...column, values: numbers(column.values, column.categories ? Int32Array : Float32Array) }));
  const order = shuffled(n);
  let column = columns[0], colors = [], chosen = new Set(), found = null, selected = -1, hovered = -1;
  let view = { x: 0.5, y: 0.5, zoom: 1 }, reach = 14;

  // --- elements ---------------------------------------------------------------------------------

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }
  const select = make("select", {}, ...columns.map((each, i) => make("option", { value: i, textContent: each.name })));
  const input = make("input", { type: "search", placeholder: "Search by name", ariaLabel: "Search by name" });
  const status = make("span", { className: "muted status", role: "status" });
  const canvas = make("canvas", { tabIndex: 0, role: "application", ariaLabel: `Map of ${n} images. Arrow keys go to the next image, plus and minus zoom.` });
  const tip = make("div", { className: "tip", hidden: true });
  const button = (text, label, onclick) => make("button", { type: "button", textContent: text, title: label, ariaLabel: label, onclick });
  const zoomButtons = make("div", { className: "zoom" },
    button("+", "Zoom in", () => zoomBy(1.6)), button("−", "Zoom out", () => zoomBy(1 / 1.6)), button("⤢", "Show all", showAll));
  const plot = make("div", { className: "plot" }, canvas, tip, zoomButtons);
  const detail = make("div", { className: "detail", ariaLive: "polite" }), results = make("div", { className: "results" });
  const legend = make("div", { className: "legend" });
  const hint = make("p", { className: "hint", textContent: "Click an image to see the most and the least similar ones. Drag to move; Ctrl and wheel, + and − zoom. On the map, arrow keys go from image to image, 0 shows all, Esc clears; / searches." });
  root.append(
    make("div", { className: "controls" }, make("label", {}, "Color by ", select), input, status),
    make("div", { className: "stage" }, make("div", {}, plot, legend), make("aside", {}, detail, results)));
  const context = canvas.getContext("2d");

  // --- thumbnails -------------------------------------------------------------------------------

  const sheets = [];
  function sheetOf(row) {
    const number = Math.floor(row / sheetColumns ** 2);
    if (!sheets[number]) {
      const image = sheets[number] = new Image();
      image.loaded = new Promise((done) => { image.onload = () => { image.ready = true; done(); redraw(); }; });
      image.src = "data:image/webp;base64," + data.sheets[number];
    }
    return sheets[number];
  }
  function drawThumbnail(target, row, x, y, width) {
    const sheet = sheetOf(row), place = row % sheetColumns ** 2;
    if (sheet.ready) target.drawImage(sheet, (place % sheetColumns) * side, Math.floor(place / sheetColumns) * side, side, side, x, y, width, width);
    return sheet;
  }
  function thumbnail(row, scale = 1) {
    const picture = make("canvas", { width: side * scale, height: side * scale, role: "img", ariaLabel: names[row] });
    const draw = () => drawThumbnail(picture.getContext("2d"), row, 0, 0, side * scale);
    draw().loaded.then(draw);
    return picture;
  }

  // --- colors -----------------------------------------------------------------------------------

  function categoryColor(number) {
    if (number < 0 || column.categories[number] === NOTHING) return muted();
    const categories = column.categories.length;
    return categories <= PALETTE.length ? PALETTE[number] : `hsl(${(number * 137.508) % 360} 65% ${[42, 55, 68][number % 3]}%)`;
  }
  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const muted = () => style("--line");
  function scoreColor(share) {
    const at = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1), i = Math.min(Math.floor(at), SCALE.length - 2);
    return `rgb(${SCALE[i].map((value, c) => Math.round(value + (SCALE[i + 1][c] - value) * (at - i))).join(" ")})`;
  }
  const short = (value) => Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
  function recolor() {
    legend.replaceChildren();
    if (column.categories) {
      const palette = column.categories.map((_, number) => categoryColor(number)), unknown = categoryColor(-1);
      colors = Array.from(column.values, (number) => number < 0 ? unknown : palette[number]);
      const sizes = new Array(column.categories.length).fill(0);
      column.values.forEach((number) => { if (number >= 0) sizes[number]++; });
      column.categories.forEach((name, number) => {
        const swatch = make("span", { className: "swatch" });
        swatch.style.background = palette[number];
        const key = make("button", { type: "button", ariaPressed: String(chosen.has(number)), title: "Show only chosen ones" }, swatch, name, make("span", { className: "muted", textContent: sizes[number] }));
        key.onclick = () => {
          chosen.has(number) ? chosen.delete(number) : chosen.add(number);
          key.ariaPressed = String(chosen.has(number));
          redraw();
        };
        legend.append(key);
      });
    } else {
      const known = Array.from(column.values).filter(Number.isFinite).sort((a, b) => a - b);
      const low = known[Math.floor(0.01 * known.length)] ?? 0, high = known[Math.ceil(0.99 * known.length) - 1] ?? 1;
      colors = Array.from(column.values, (value) => Number.isFinite(value) ? scoreColor((value - low) / (high - low || 1)) : muted());
      const scale = make("span", { className: "scale" });
      scale.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(scoreColor).join(", ")})`;
      legend.append(make("span", { textContent: short(low) }), scale, make("span", { textContent: short(high) }));
      if (known.length < n) {
        const swatch = make("span", { className: "swatch" });
        swatch.style.background = muted();
        legend.append(swatch, make("span", { className: "muted", textContent: `unknown: ${n - known.length}` }));
      }
    }
    redraw();
  }
  const value = (each, row) => each.categories ? each.categories[each.values[row]] ?? "unknown" : Number.isFinite(each.values[row]) ? short(each.values[row]) : "unknown";

  // --- drawing ----------------------------------------------------------------------------------

  const size = () => ({ width: plot.clientWidth, height: plot.clientHeight });
  function scaleOf({ width, height }) { return Math.min(width, height) * 0.92 * view.zoom; }
  function project(row, box, scale) {
    return [(places[2 * row] - view.x) * scale + box.width / 2, (view.y - places[2 * row + 1]) * scale + box.height / 2];
  }
  const isActive = (row) => (!found || found.has(row)) && (!chosen.size || chosen.has(column.values[row]));
  let pending = false;
  function redraw() {
    if (!pending) { pending = true; requestAnimationFrame(() => { pending = false; draw(); }); }
  }
  function draw() {
    const box = size(), scale = scaleOf(box), ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(box.width * ratio) || canvas.height !== Math.round(box.height * ratio)) {
      canvas.width = Math.round(box.width * ratio);
      canvas.height = Math.round(box.height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, box.width, box.height);
    const filtered = found || chosen.size, visible = [];
    const quiet = column.categories ? column.categories.indexOf(NOTHING) : -1;
    const loudLast = quiet < 0 ? order : [...order.filter((row) => column.values[row] === quiet), ...order.filter((row) => column.values[row] !== quiet)];
    for (const row of loudLast) {
      const [x, y] = project(row, box, scale);
      if (x > -40 && y > -40 && x < box.width + 40 && y < box.height + 40) visible.push([row, x, y]);
    }
    const area = box.width * box.height;
    if (visible.length <= THUMBNAILS) {
      const width = Math.max(20, Math.min(side, Math.sqrt(area / Math.max(visible.length, 1)) * 0.5));
      reach = width * 0.75;
      for (const [row, x, y] of visible) {
        context.globalAlpha = filtered && !isActive(row) ? 0.15 : 1;
        context.fillStyle = colors[row];
        context.fillRect(x - width / 2 - 2, y - width / 2 - 2, width + 4, width + 4);
        drawThumbnail(context, row, x - width / 2, y - width / 2, width);
      }
    } else {
      const radius = Math.max(1.5, Math.min(6, Math.sqrt(area / visible.length) * 0.2));
      reach = 14;
      for (const pass of filtered ? [false, true] : [true]) {
        context.globalAlpha = pass ? 0.9 : 0.12;
        for (const [row, x, y] of visible) {
          if (filtered && isActive(row) !== pass) continue;
          context.fillStyle = colors[row];
          context.beginPath();
          context.arc(x, y, radius, 0, 2 * Math.PI);
          context.fill();
        }
      }
    }
    context.globalAlpha = 1;
    if (selected >= 0) {
      neighbors(far, selected).forEach((row) => ring(row, box, scale, 7, 1.5, [3, 3]));
      neighbors(near, selected).forEach((row) => ring(row, box, scale, 7, 2, []));
      ring(selected, box, scale, 11, 3.5, []);
    }
    if (hovered >= 0) ring(hovered, box, scale, 8, 1.5, []);
  }
  function ring(row, box, scale, radius, width, dash) {
    const [x, y] = project(row, box, scale);
    for (const [color, extra] of [[style("--page"), 2], [style("--ink"), 0]]) {
      context.strokeStyle = color;
      context.lineWidth = width + extra;
      context.setLineDash(extra ? [] : dash);
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.stroke();
    }
    context.setLineDash([]);
  }

  // --- selection and search ---------------------------------------------------------------------

  function pick(row, { center = false, focus = false } = {}) {
    selected = row;
    hover(-1);
    const box = size(), [x, y] = row < 0 ? [0, 0] : project(row, box, scaleOf(box));
    if (row >= 0 && (center || x < 20 || y < 20 || x > box.width - 20 || y > box.height - 20)) {
      view.x = places[2 * row];
      view.y = places[2 * row + 1];
    }
    detail.replaceChildren(hint);
    if (row >= 0) {
      detail.replaceChildren(
        thumbnail(row, 2), make("p", { className: "name", textContent: names[row] }),
        make("dl", {}, ...columns.map((each) => make("div", {}, make("dt", { textContent: each.name }), make("dd", { textContent: value(each, row) })))),
        make("h3", { textContent: "Near (most similar first)" }), gallery(neighbors(near, row)),
        make("h3", { textContent: "Far (least similar first)" }), gallery(neighbors(far, row)));
      detail.parentElement.scrollTop = 0;
    }
    if (focus) canvas.focus({ preventScroll: true });
    redraw();
  }
  function gallery(rows) {
    return make("div", { className: "images" }, ...rows.map((row) =>
      make("button", { type: "button", title: names[row], ariaLabel: names[row], onclick: () => pick(row) }, thumbnail(row))));
  }
  function search() {
    const text = input.value.trim().toLowerCase();
    const rows = text ? names.flatMap((name, row) => name.toLowerCase().includes(text) ? [row] : []) : [];
    found = text ? new Set(rows) : null;
    hover(-1);
    status.textContent = text ? `${rows.length} of ${n} images` : `${n} images`;
    results.replaceChildren();
    if (text) {
      const title = rows.length > RESULTS ? `The first ${RESULTS} of ${rows.length} images found` : `${rows.length} ${rows.length === 1 ? "image" : "images"} found`;
      results.append(make("h3", { textContent: title }), gallery(rows.slice(0, RESULTS)));
    }
    redraw();
  }
  function clear() {
    input.value = "";
    chosen.clear();
    pick(-1);
    search();
    recolor();
  }

  // --- moving -----------------------------------------------------------------------------------

  function zoomBy(factor, px, py) {
    const box = size(), [x, y] = [px ?? box.width / 2, py ?? box.height / 2], before = scaleOf(box);
    view.zoom = Math.min(Math.max(view.zoom * factor, 0.5), MAX_ZOOM);
    const after = scaleOf(box), change = 1 / before - 1 / after;
    view.x += (x - box.width / 2) * change;
    view.y -= (y - box.height / 2) * change;
    redraw();
  }
  function showAll() { view = { x: 0.5, y: 0.5, zoom: 1 }; redraw(); }
  function nearest(x, y, allowed, limit = Infinity) {
    const box = size(), scale = scaleOf(box);
    let best = -1, least = limit ** 2;
    for (let row = 0; row < n; row++) {
      const [px, py] = project(row, box, scale), distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least && allowed(row, px - x, py - y)) { least = distance; best = row; }
    }
    return best;
  }
  function step(dx, dy) {
    const box = size();
    if (selected < 0) return pick(nearest(box.width / 2, box.height / 2, isActive));
    const [x, y] = project(selected, box, scaleOf(box));
    const ahead = (row, px, py) => row !== selected && isActive(row) && px * dx + py * dy > Math.abs(px * dy - py * dx);
    const next = nearest(x, y, ahead);
    if (next >= 0) pick(next);
  }
  function hover(row, x, y) {
    if (row === hovered) return;
    hovered = row;
    tip.hidden = row < 0;
    if (row >= 0) {
      tip.replaceChildren(thumbnail(row, 128 / side), make("div", { textContent: names[row] }), make("div", { className: "muted", textContent: `${column.name}: ${value(column, row)}` }));
      const box = size();
      tip.style.left = `${Math.min(x + 16, Math.max(0, box.width - 160))}px`;
      tip.style.top = `${y > box.height / 2 ? Math.max(0, y - 200) : y + 16}px`;
    }
    redraw();
  }

  const pointers = new Map();
  let moved = 0;
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (pointers.size === 1) moved = 0;
  };
  canvas.onpointermove = (event) => {
    const at = [event.offsetX, event.offsetY], before = pointers.get(event.pointerId);
    if (!before) return event.pointerType === "mouse" ? hover(nearest(...at, isActive, reach), ...at) : undefined;
    const others = [...pointers.entries()].filter(([id]) => id !== event.pointerId);
    const scale = scaleOf(size());
    const share = 1 / (others.length + 1);
    view.x -= (at[0] - before[0]) / scale * share;
    view.y += (at[1] - before[1]) / scale * share;
    moved += Math.hypot(at[0] - before[0], at[1] - before[1]);
    if (others.length) {
      const [, [x, y]] = others[0];
      zoomBy(Math.hypot(at[0] - x, at[1] - y) / Math.max(1, Math.hypot(before[0] - x, before[1] - y)), (at[0] + x) / 2, (at[1] + y) / 2);
    }
    pointers.set(event.pointerId, at);
    if (moved > 4) hover(-1);
    redraw();
  };
  canvas.onpointerup = (event) => {
    const alone = pointers.size === 1;
    pointers.delete(event.pointerId);
    if (alone && moved < 5) pick(nearest(event.offsetX, event.offsetY, isActive, reach));
  };
  canvas.onpointercancel = (event) => pointers.delete(event.pointerId);
  canvas.onpointerleave = () => hover(-1);
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== canvas) return; // the page scrolls
    event.preventDefault();
    zoomBy(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 100) / 300), event.offsetX, event.offsetY);
  }, { passive: false });
  const keys = {
    ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
    "+": () => zoomBy(1.6), "=": () => zoomBy(1.6), "-": () => zoomBy(1 / 1.6), 0: showAll, Escape: clear,
  };
  canvas.onkeydown = (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
    if (act) { event.preventDefault(); act(); }
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); input.focus(); }
  });
  input.oninput = search;
  input.onkeydown = (event) => {
    const [first] = found ?? [];
    if (event.key === "Enter" && first !== undefined) pick(first, { center: true, focus: true });
    if (event.key === "Escape") { input.value = ""; search(); }
  };
  select.onchange = () => { column = columns[select.value]; chosen.clear(); recolor(); };

  // Images elsewhere on the page are found on the map by their names.
  const rows = new Map(names.map((name, row) => [name, row]));
  document.querySelectorAll(".strip figure").forEach((figure) => {
    const row = rows.get(figure.querySelector("figcaption").textContent.split("\n")[0]);
    if (row === undefined) return;
    const show = () => { pick(row, { center: true, focus: true }); root.scrollIntoView({ block: "start" }); };
    figure.className = "known";
    Object.assign(figure, { tabIndex: 0, role: "button", title: "Show on the map", onclick: show });
    figure.onkeydown = (event) => { if (event.key === "Enter") show(); };
  });

  new ResizeObserver(redraw).observe(plot);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor);
  clear();
}

function shuffled(n) { // the same on each visit; no category hides the others
  const rows = Array.from({ length: n }, (_, row) => row);
  let state = 1;
  for (let i = n - 1; i > 0; i--) {
    state = (state * 48271) % 2147483647;
    const j = state % (i + 1);
    [rows[i], rows[j]] = [rows[j], rows[i]];
  }
  return rows;
}
