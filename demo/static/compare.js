// Two films in step on one canvas. The value is a JSON string: a list of runs, newest first, each
// with the address of a sheet of all its frames (see shelf.py). Nothing is asked of the server.
const find = (name) => element.querySelector(".lc-" + name);
const texts = props.texts || {};
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const canvas = find("canvas");
const sides = { a: null, b: null };   // {run, image}
let runs = [];
let playing = !calm.matches;
let mode = "wipe";
let started = performance.now();
let position = 0;   // seconds into the films
let shown = "";

for (const name of ["lead", "hint", "swap", "name-wipe", "name-frame", "name-column"]) {
  find(name).textContent = texts[name.replace("name-", "")] || "";
}
canvas.setAttribute("aria-label", texts.canvas || "");
for (const side of ["a", "b"]) {
  find("slice-" + side).setAttribute("aria-label", texts.slice.replace("{side}", side.toUpperCase()));
}

const seconds = (side) => side.run.frames / side.run.fps;
const total = () => Math.max(seconds(sides.a), seconds(sides.b));
const frameAt = (side, time) => Math.min(side.run.frames - 1, Math.floor(time * side.run.fps + 1e-6));
const tile = (side, index) => [
  (index % side.run.columns) * side.run.width, Math.floor(index / side.run.columns) * side.run.height,
];

function drawFrame(pen, side, index, target, clip) {
  const { width, height } = side.run;
  const [left, top] = tile(side, index);
  pen.save();
  pen.beginPath();
  pen.rect(...clip);
  pen.clip();
  pen.imageSmoothingQuality = "high";
  pen.drawImage(side.image, left, top, width, height, ...target);
  pen.restore();
}

function draw() {
  const { a, b } = sides;
  const wide = mode === "side";
  const scale = 640 / Math.max(a.run.width, a.run.height);
  const width = Math.round(a.run.width * scale), height = Math.round(a.run.height * scale);
  const full = wide ? 2 * width + 8 : width;
  if (canvas.width !== full || canvas.height !== height) { canvas.width = full; canvas.height = height; }
  const pen = canvas.getContext("2d");
  const wipe = (Number(find("wipe").value) / 1000) * width;
  const right = wide ? width + 8 : 0;
  drawFrame(pen, a, frameAt(a, position), [0, 0, width, height], [0, 0, wide ? width : wipe, height]);
  drawFrame(pen, b, frameAt(b, position), [right, 0, width, height], [wide ? right : wipe, 0, width, height]);
  pen.fillStyle = "#fff8ee";
  if (!wide) pen.fillRect(wipe - 1, 0, 2, height);
  const x = (Number(find("column").value) / 1000) * width;
  pen.globalAlpha = 0.75;
  for (const start of wide ? [0, right] : [0]) {
    for (let y = 0; y < height; y += 14) pen.fillRect(start + x, y, 1, 7);
  }
  pen.globalAlpha = 1;
  find("frame").value = String(frameAt(a, position));
  element.firstElementChild.dataset.frames = frameAt(a, position) + "," + frameAt(b, position);
}

// One pixel column over time: rows are the picture's rows, columns are frames.
function slice(name) {
  const side = sides[name];
  const { frames, width, height } = side.run;
  const target = find("slice-" + name);
  target.width = frames;
  target.height = height;
  const pen = target.getContext("2d", { willReadFrequently: true });
  const x = Math.min(width - 1, Math.floor((Number(find("column").value) / 1000) * width));
  for (let i = 0; i < frames; i++) {
    const [left, top] = tile(side, i);
    pen.drawImage(side.image, left + x, top, 1, height, i, 0, 1, height);
  }
  const pixels = pen.getImageData(0, 0, frames, height).data;
  let change = 0;
  for (let y = 0; y < height; y++) {
    for (let i = 1; i < frames; i++) {
      const at = 4 * (y * frames + i);
      for (let c = 0; c < 3; c++) change += Math.abs(pixels[at + c] - pixels[at + c - 4]);
    }
  }
  const mean = frames > 1 ? change / (3 * height * (frames - 1)) : 0;
  find("flicker-" + name).textContent = texts.flicker
    .replace("{side}", name.toUpperCase()).replace("{value}", mean.toFixed(1));
}

function tick() {
  if (!element.isConnected) return;
  requestAnimationFrame(tick);
  if (!sides.a || !sides.b || !playing || !canvas.offsetParent) return;
  position = ((performance.now() - started) / 1000) % total();
  const now = frameAt(sides.a, position) + "," + frameAt(sides.b, position);
  if (now !== shown) { shown = now; draw(); }
}

function play(on) {
  playing = on;
  find("play").textContent = on ? texts.pause : texts.play;
  started = performance.now() - position * 1000;
}

function facts() {
  const rows = sides.a.run.rows.map(([name, value], i) => {
    const other = sides.b.run.rows[i][1];
    const row = document.createElement("tr");
    row.hidden = !value && !other;
    row.dataset.same = value === other ? "yes" : "no";
    for (const [tag, text] of [["th", name], ["td", value], ["td", other]]) {
      const cell = document.createElement(tag);
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  });
  const head = document.createElement("tr");
  for (const text of ["", "A", "B"]) {
    const cell = document.createElement("th");
    cell.textContent = text;
    head.append(cell);
  }
  find("facts").querySelector("tbody").replaceChildren(head, ...rows);
  links();
}

function links() {
  const folder = "studio/compare/" + sides.a.run.key + "/" + sides.b.run.key + "/";
  const column = Number(find("column").value) / 1000;
  const files = [["compare.mp4", texts.mp4], ["slices.png?x=" + column, texts.png], ["compare.csv", texts.csv]];
  find("links").replaceChildren(...files.map(([name, label]) => {
    const link = document.createElement("a");
    link.href = folder + name;
    link.download = name.split("?")[0];
    link.textContent = label;
    return link;
  }));
}

function show() {
  shown = "";
  draw();
  slice("a");
  slice("b");
  facts();
  find("frame").max = String(sides.a.run.frames - 1);
}

function load(name, key) {
  const run = runs.find((one) => one.key === key);
  if (!run) return;
  find(name).value = key;
  const image = new Image();
  image.onload = () => {
    if (find(name).value !== key) return;
    sides[name] = { run, image };
    if (!sides.a || !sides.b) return;
    find("body").hidden = false;
    show();
  };
  image.src = run.sheet;
}

function option(run) {
  const made = document.createElement("option");
  made.value = run.key;
  made.textContent = run.label;
  return made;
}

function render() {
  runs = JSON.parse(props.value || "[]");
  const [wantedA, wantedB] = window.latteCompare || [];
  for (const [name, wanted, spare] of [["a", wantedA, runs[1]], ["b", wantedB, runs[0]]]) {
    const kept = [wanted, sides[name]?.run.key].find((key) => runs.some((run) => run.key === key));
    find(name).replaceChildren(...runs.map(option));
    const key = kept || (spare || runs[0])?.key;
    if (key && key !== sides[name]?.run.key) load(name, key);
    else if (key) find(name).value = key;
  }
  find("lead").hidden = runs.length > 1;
  if (!runs.length) { find("body").hidden = true; sides.a = sides.b = null; }
}

for (const name of ["a", "b"]) {
  find(name).addEventListener("change", () => { window.latteCompare = null; load(name, find(name).value); });
}
find("swap").addEventListener("click", () => {
  const [a, b] = [find("a").value, find("b").value];
  window.latteCompare = null;
  load("a", b);
  load("b", a);
});
find("play").addEventListener("click", () => play(!playing));
find("mode").addEventListener("click", () => {
  mode = mode === "wipe" ? "side" : "wipe";
  element.firstElementChild.dataset.mode = mode;
  find("mode").textContent = mode === "wipe" ? texts.side : texts.wiped;
  if (sides.a && sides.b) draw();
});
find("wipe").addEventListener("input", draw);
find("column").addEventListener("input", () => { draw(); slice("a"); slice("b"); links(); });
find("frame").addEventListener("input", () => {
  position = Number(find("frame").value) / sides.a.run.fps;
  play(false);
  draw();
});
canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); drag(event); });
canvas.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
function drag(event) {
  const box = canvas.getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  if (mode === "wipe") find("wipe").value = String(1000 * share);
  else find("column").value = String(1000 * ((2 * share) % 1));
  find(mode === "wipe" ? "wipe" : "column").dispatchEvent(new Event("input"));
}
document.addEventListener("latte-compare", render);
find("mode").textContent = texts.side;
play(playing);
watch("value", render);
render();
requestAnimationFrame(tick);
