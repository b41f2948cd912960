// The stage's script. Gradio runs it once, as a function of (element, trigger, props, watch).
// Every new value is a JSON string; see StageState in stage.py for its fields.
const find = (name) => element.querySelector(".ls-" + name);
const stage = find("stage");
const screen = find("screen");
const canvas = find("canvas");
const video = find("video");
const stillsBox = find("stills");
const track = find("track");
const texts = props.texts || {};
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

const BUSY = new Set(["loading", "queued", "encoding", "running", "decoding"]);
const FADE_MS = 220;
const SHORT_SIDE = 512;

let now = {};            // the value on show
let current = null;      // {image, frames, stills, width, height}: the strip on show
let previous = null;     // the strip before it, while the new one fades in
let fadeStart = 0;
let drawnFrame = -1;
let wanted = null;       // the newest strip, perhaps still being read
let strips = 0;          // how many strips have been shown; the page tests read it

stage.setAttribute("aria-label", texts.label || "");
find("idle").textContent = texts.idle || "";
canvas.setAttribute("aria-label", texts.clip || "");
video.setAttribute("aria-label", texts.clip || "");
track.setAttribute("aria-label", texts.progress || "");
find("reuse").textContent = texts.reuse || "";

function resize(target, width, height) {
  const scale = SHORT_SIDE / Math.min(width, height);
  const w = Math.round(width * scale);
  const h = Math.round(height * scale);
  if (target.width !== w || target.height !== h) {
    target.width = w;
    target.height = h;
  }
}

// Latents are few: scaled up in one go they show the grid of the interpolation. Doubling them
// three times first rounds it off. Returns a sheet with the tiles side by side.
function soften(strip, image) {
  const count = strip.frames + strip.stills;
  const times = strip.width < 48 ? 3 : 0;
  const width = strip.width << times;
  const height = strip.height << times;
  const sheet = document.createElement("canvas");
  sheet.width = width * count;
  sheet.height = height;
  const pen = sheet.getContext("2d");
  for (let i = 0; i < count; i++) {
    let tile = copyOf(image, i * strip.width, strip.width, strip.height, 1);
    for (let k = 0; k < times; k++) tile = copyOf(tile, 0, tile.width, tile.height, 2);
    pen.drawImage(tile, i * width, 0);
  }
  return { ...strip, image: sheet, width, height };
}

function copyOf(source, left, width, height, scale) {
  const copy = document.createElement("canvas");
  copy.width = width * scale;
  copy.height = height * scale;
  const pen = copy.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(source, left, 0, width, height, 0, 0, copy.width, copy.height);
  return copy;
}

function drawTile(target, strip, index, alpha) {
  const context = target.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.globalAlpha = alpha;
  context.drawImage(strip.image, index * strip.width, 0, strip.width, strip.height,
    0, 0, target.width, target.height);
}

function drawAt(time) {
  if (!current) return;
  const fade = calm.matches ? 1 : Math.min(1, (time - fadeStart) / FADE_MS);
  const fading = previous !== null;
  if (current.frames > 0) {
    const frame = calm.matches
      ? Math.floor(current.frames / 2)
      : Math.floor((time / 1000) * (now.fps || 8)) % current.frames;
    if (fading || frame !== drawnFrame) {
      if (fading) drawTile(canvas, previous, Math.min(frame, previous.frames - 1), 1);
      drawTile(canvas, current, frame, fade);
      drawnFrame = frame;
      stage.dataset.frame = String(frame);
    }
  }
  if (fading) drawStills(fade);
  if (fade >= 1) previous = null;
}

function drawStills(alpha) {
  stillsBox.querySelectorAll("canvas").forEach((still, i) => {
    if (i < current.stills) drawTile(still, current, current.frames + i, alpha);
  });
}

function tick(time) {
  if (!element.isConnected) return;
  if (!document.hidden && video.hidden) drawAt(time);
  requestAnimationFrame(tick);
}
requestAnimationFrame(tick);

function showStrip(strip) {
  const image = new Image();
  wanted = strip;
  image.onload = () => {
    if (wanted !== strip) return;   // a newer one came while this one was read
    const next = soften(strip, image);
    const same = current && current.frames === next.frames && current.stills === next.stills
      && current.width === next.width && current.height === next.height;
    previous = same && !calm.matches ? current : null;
    current = next;
    fadeStart = performance.now();
    drawnFrame = -1;
    resize(canvas, strip.width, strip.height);
    stage.style.setProperty("--aspect", String(strip.width / strip.height));
    setStillCount(strip.stills);
    drawStills(previous ? 0 : 1);
    strips += 1;
    stage.dataset.strips = String(strips);
    stage.dataset.painted = "yes";
  };
  image.src = strip.image;
}

function setStillCount(count) {
  while (stillsBox.children.length > count) stillsBox.lastChild.remove();
  while (stillsBox.children.length < count) {
    const figure = document.createElement("figure");
    const still = document.createElement("canvas");
    still.setAttribute("role", "img");
    still.setAttribute("aria-label",
      (texts.still || "{number}").replace("{number}", stillsBox.children.length + 1));
    figure.append(still);
    stillsBox.append(figure);
  }
  for (const still of stillsBox.querySelectorAll("canvas")) resize(still, current.width, current.height);
  stillsBox.hidden = count === 0;
  stillsBox.dataset.count = String(count);
}

function showVideo(address) {
  if (!address) {
    if (video.hidden && !video.getAttribute("src")) return;
    video.hidden = true;
    video.pause();
    video.removeAttribute("src");
    video.load();
    return;
  }
  if (video.getAttribute("src") === address) return;
  video.onloadeddata = () => { video.hidden = false; };
  video.autoplay = !calm.matches;
  video.controls = true;
  video.src = address;
}

function showStillFiles(addresses) {
  stillsBox.querySelectorAll("figure").forEach((figure, i) => {
    const old = figure.querySelector("img");
    if (!addresses[i]) {
      if (old) old.remove();
      return;
    }
    if (old && old.getAttribute("src") === addresses[i]) return;
    const picture = old || document.createElement("img");
    picture.alt = (texts.still || "{number}").replace("{number}", i + 1);
    picture.src = addresses[i];
    if (!old) figure.append(picture);
  });
}

function setText(name, text) {
  const target = find(name);
  target.textContent = text || "";
  if (name === "note") target.hidden = !text;
}

function showResult(value) {
  const known = value.seed !== null && value.seed !== undefined;
  find("result").hidden = !known;
  if (!known) return;
  setText("seed", (texts.seed || "{seed}").replace("{seed}", value.seed));
  setText("facts", value.facts);
  find("links").replaceChildren(...value.links.map((link) => {
    const anchor = document.createElement("a");
    anchor.href = link.url;
    anchor.download = link.name;
    anchor.textContent = link.label;
    return anchor;
  }));
}

function showProgress(value) {
  const known = typeof value.progress === "number";
  const percent = known ? Math.round(value.progress * 100) : 0;
  find("fill").style.transform = "scaleX(" + (known ? value.progress : 0) + ")";
  track.classList.toggle("ls-wait", BUSY.has(value.state) && !known);
  if (known) track.setAttribute("aria-valuenow", String(percent));
  else track.removeAttribute("aria-valuenow");
}

function render() {
  let value;
  try {
    value = JSON.parse(props.value || "{}");
  } catch (error) {
    console.error("The stage got a value that it cannot read.", error);
    return;
  }
  const changed = value.state !== now.state;
  const busy = BUSY.has(value.state);
  now = value;
  stage.dataset.state = value.state;
  stage.dataset.mode = value.mode;
  document.body.classList.toggle("ls-busy", busy);
  setText("status", value.text);
  setText("detail", value.detail);
  setText("note", value.note);
  if (changed) find("live").textContent = [value.text, value.note].filter(Boolean).join(" ");
  showProgress(value);
  showResult(value);
  if (busy) {
    showVideo("");
    showStillFiles([]);
  }
  if (value.strip) showStrip(value.strip);
  if (value.state === "finished") {
    showVideo(value.video);
    showStillFiles(value.stills);
  }
}

find("reuse").addEventListener("click", () => trigger("reuse", { seed: now.seed }));
screen.addEventListener("dblclick", () => { if (!video.hidden) video.requestFullscreen?.(); });
watch("value", render);
render();
