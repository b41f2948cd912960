// The stage's script. Gradio runs it once, as a function of (element, trigger, props, watch).
// Every new value is a JSON string; see StageState in stage.py for its fields.
const find = (name) => element.querySelector(".ls-" + name);
const stage = find("stage");
const canvas = find("canvas");
const video = find("video");
const stillsBox = find("stills");
const track = find("track");
const steps = find("steps");     // denoising time: 0 is the noise, the last is the finished film
const frames = find("frames");   // video time
const play = find("play");
const texts = props.texts || {};
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

const BUSY = new Set(["loading", "queued", "encoding", "running", "decoding"]);
const FADE_MS = 220;
const SHORT_SIDE = 512;
const MELT_MS = 170;     // a step of the recorded run
const REST_MS = 4500;    // its finished film, before it melts again
const NUDGE_MS = 2000;   // without an answer to a click
const RELEASE_MS = 6000; // and after that

let now = {};            // the value on show
let reel = [];           // [{step, strip}]: every step of the run on the stage, for the scrubber
let total = 0;           // how many steps that run has
let files = null;        // {video, stills}: what the run left, once it has ended
let following = true;    // the newest step is shown as it comes
let recorded = null;     // the recorded run, until a real one starts
let current = null;      // {image, frames, stills, width, height}: the strip on show
let previous = null;     // the strip before it, while the new one fades in
let fadeStart = 0;
let drawnFrame = -1;
let wanted = null;       // the newest strip, perhaps still being read
let patience = 0;        // the timer of an answer that has not come
let strips = 0;          // how many strips have been shown; the page tests read it
let playing = !calm.matches;
let frame = 0;           // the frame on show; playing, it moves from where it was `playStart` ago
let playFrom = 0;
let playStart = 0;

const say = (key, values) =>
  (texts[key] || "").replace(/\{(\w+)\}/g, (whole, name) => values?.[name] ?? whole);

stage.setAttribute("aria-label", say("label"));
for (const picture of [canvas, video]) picture.setAttribute("aria-label", say("clip"));
track.setAttribute("aria-label", say("progress"));
steps.setAttribute("aria-label", say("steps"));
frames.setAttribute("aria-label", say("frames"));
for (const [name, key] of [["idle", "idle"], ["reuse", "reuse"], ["from", "noise"], ["to", "film"]]) {
  find(name).textContent = say(key);
}

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
    if (playing) frame = playFrom + Math.floor(((time - playStart) / 1000) * (now.fps || 8));
    frame %= current.frames;
    if (fading || frame !== drawnFrame) {
      if (fading) drawTile(canvas, previous, Math.min(frame, previous.frames - 1), 1);
      drawTile(canvas, current, frame, fade);
      drawnFrame = frame;
      showFrame(current.frames);
    }
  }
  if (fading) drawStills(fade);
  if (fade >= 1) {
    previous = null;
    stage.dataset.shown = String(current.step);   // the page tests wait for it
  }
}

function drawStills(alpha) {
  stillsBox.querySelectorAll("canvas").forEach((still, i) => {
    if (i < current.stills) drawTile(still, current, current.frames + i, alpha);
  });
}

function showFrame(count) {
  stage.dataset.frame = String(frame);
  frames.max = String(Math.max(1, count - 1));
  frames.value = String(frame);
  frames.disabled = play.disabled = count < 2;
  const words = count ? say("frame", { frame: frame + 1, total: count }) : "";
  find("count").textContent = words;
  frames.setAttribute("aria-valuetext", words);
}

function tick(time) {
  if (!element.isConnected) return;
  if (!document.hidden) {
    if (recorded) melt(time);
    if (video.hidden) {
      drawAt(time);
    } else {
      const count = current?.frames || 1;
      const seen = Math.min(count - 1, Math.floor(video.currentTime * (now.fps || 8) + 0.01));
      if (seen !== frame) {
        frame = seen;
        showFrame(count);
      }
    }
  }
  requestAnimationFrame(tick);
}
requestAnimationFrame(tick);

function showStrip(strip, step) {
  const image = new Image();
  wanted = strip;
  stage.dataset.shown = "";   // an older one may still be on show, but is not what was asked for
  image.onload = () => {
    if (wanted !== strip) return;   // a newer one came while this one was read
    const next = soften(strip, image);
    const same = current && current.frames === next.frames && current.stills === next.stills
      && current.width * next.height === current.height * next.width;
    previous = same && !calm.matches ? current : null;
    current = { ...next, step };
    fadeStart = performance.now();
    drawnFrame = -1;
    resize(canvas, strip.width, strip.height);
    stage.style.setProperty("--aspect", String(strip.width / strip.height));
    setStillCount(strip.stills);
    drawStills(previous ? 0 : 1);
    if (!strip.frames) showFrame(0);
    if (files) showStillFiles(files.stills);   // the run may have ended before this was read
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
    still.setAttribute("aria-label", say("still", { number: stillsBox.children.length + 1 }));
    figure.append(still);
    stillsBox.append(figure);
  }
  for (const still of stillsBox.querySelectorAll("canvas")) {
    resize(still, current?.width || 1, current?.height || 1);
  }
  stillsBox.hidden = count === 0;
  stillsBox.dataset.count = String(count);
}

// Denoising time.

const newest = () => (files ? total + 1 : reel.length ? reel[reel.length - 1].step : 0);
const isFilm = (step) => step > total && Boolean(files || recorded);

function showStep(step) {
  const words = isFilm(step) ? say("done") : step ? say("step", { step, total }) : say("start");
  steps.value = String(step);
  steps.setAttribute("aria-valuetext", words);
  stage.dataset.step = String(step);
  stage.classList.toggle("ls-final", isFilm(step));
  if (files && isFilm(step)) {
    showVideo(files.video);
    return;
  }
  showVideo("");
  const entry = reel.findLast((one) => one.step <= step);
  if (entry && entry.strip !== wanted) showStrip(entry.strip, entry.step);
}

function remember(value) {
  if (value.step === 0 || recorded) {
    reel = [];
    recorded = null;
    following = true;
  }
  total = value.total;
  reel.push({ step: value.step, strip: value.strip });
  measure();
  if (following) showStep(value.step);
}

function measure() {
  steps.max = String(total + 1);
  steps.disabled = reel.length < 2;
  steps.style.setProperty("--have", (100 * newest()) / (total + 1) + "%");
}

steps.addEventListener("input", () => {
  if (recorded) recorded.auto = false;
  const step = Math.min(Number(steps.value), newest());
  following = step === newest();
  showStep(step);
});

// Video time.

function start() {
  video.play().catch(() => {});   // interrupted by a pause, or refused by the browser
}

function setPlaying(on) {
  playing = on;
  playFrom = frame;
  playStart = performance.now();
  play.setAttribute("aria-label", say(on ? "pause" : "play"));
  play.dataset.playing = String(on);
  if (!video.hidden) on ? start() : video.pause();
}

play.addEventListener("click", () => setPlaying(!playing));
frames.addEventListener("input", () => {
  setPlaying(false);
  frame = Number(frames.value);
  if (!video.hidden) video.currentTime = (frame + 0.5) / (now.fps || 8);
  showFrame(Number(frames.max) + 1);
});
setPlaying(playing);

function showVideo(address) {
  if (!address) {
    video.hidden = true;
    video.pause();
    return;
  }
  const ready = () => {
    if (!stage.classList.contains("ls-final")) return;
    video.hidden = false;
    video.currentTime = (frame + 0.5) / (now.fps || 8);
    if (playing) start();
  };
  if (video.getAttribute("src") === address) ready();
  else {
    video.onloadeddata = ready;
    video.src = address;
  }
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
    picture.alt = say("still", { number: i + 1 });
    picture.src = addresses[i];
    if (!old) figure.append(picture);
  });
}

// The recorded run: it melts from noise to film, rests, and begins again, until it is touched.

async function playRecorded(run) {
  if (!run) return;
  const answer = await fetch(run.url);
  if (!answer.ok) return;
  const tape = await answer.json();
  if (now.state !== "idle") return;   // the visitor was quicker
  reel = tape.strips.map((strip, step) => ({ step, strip }));
  total = reel.length - 2;   // the last strip is the film itself
  recorded = { auto: !calm.matches, since: performance.now() };
  now = { ...now, fps: tape.fps };
  setText("status", run.text);
  setText("detail", run.hint);
  measure();
  showStep(calm.matches ? total + 1 : 0);
}

function melt(time) {
  if (!recorded.auto) return;
  const passed = (time - recorded.since) % (total * MELT_MS + REST_MS);
  const step = Math.min(total + 1, Math.floor(passed / MELT_MS));
  if (String(step) !== steps.value) showStep(step);
}

// Words, progress, files.

function setText(name, text) {
  find(name).textContent = text || "";
}

const make = (tag, fields) => Object.assign(document.createElement(tag), fields);
const makeButton = (textContent, onclick, fields) =>
  make("button", { type: "button", textContent, onclick, ...fields });

function showNote(value, before) {
  if (value.note === before.note && value.reworded === before.reworded) return;  // keeps the focus
  setText("note", value.note);
  if (!value.reworded) return;
  const take = () => trigger("reword", { prompt: value.reworded });
  const look = { className: "ls-reword", title: value.reworded };
  find("note").append(" ", makeButton(say("reword"), take, look));
}

function showResult(value) {
  const known = value.seed !== null && value.seed !== undefined;
  find("reuse").hidden = !known;
  setText("seed", known ? say("seed", { seed: value.seed }) : "");
  setText("facts", value.facts);
  find("links").replaceChildren(...(value.links || []).map((link) =>
    make("a", { href: link.url, download: link.name, textContent: link.label })));
}

function showRemedies(value) {
  find("remedies").replaceChildren(...(value.remedies || []).map((remedy) =>
    makeButton(remedy.label, () => trigger("remedy", { ...remedy, seed: value.seed }))));
}

function showParts(parts) {
  find("parts").replaceChildren(...(parts || []).map((part) => {
    const item = make("li", { textContent: part.label });
    item.dataset.state = part.state;
    item.append(make("span", { textContent: part.time }));
    return item;
  }));
}

function showProgress(value) {
  const known = typeof value.progress === "number";
  find("fill").style.transform = "scaleX(" + (known ? value.progress : 0) + ")";
  track.classList.toggle("ls-wait", BUSY.has(value.state) && !known);
  if (known) track.setAttribute("aria-valuenow", String(Math.round(value.progress * 100)));
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
  clearTimeout(patience);
  const before = now;
  const changed = value.state !== before.state;
  const busy = BUSY.has(value.state);
  now = value;
  stage.dataset.state = value.state;
  if (value.state !== "idle") stage.dataset.mode = value.mode;
  document.body.classList.toggle("ls-busy", busy);
  setText("status", value.text);
  setText("detail", value.detail);
  showNote(value, before);
  if (changed) setText("live", [value.text, value.note].filter(Boolean).join(" "));
  showProgress(value);
  showParts(value.parts);
  showRemedies(value);
  showResult(value);
  if (busy && files) {
    files = null;
    showStillFiles([]);
  }
  if (busy && recorded) recorded.auto = false;
  if (value.strip) remember(value);
  if (value.state === "finished") {
    files = { video: value.video, stills: value.stills };
    showStillFiles(value.stills);
    measure();
    if (following) showStep(total + 1);
  }
}

// Gradio closes its stream of answers when it awaits none. An event that is sent at that very moment
// is carried out, and nobody reads what it answers, until another event opens a new stream: one that
// does nothing will do. Whoever gets no answer even then is told so, and has the button back.
function awaitAnswer() {
  clearTimeout(patience);
  patience = setTimeout(() => {
    trigger("nudge");
    patience = setTimeout(giveUp, RELEASE_MS);
  }, NUDGE_MS);
}

function giveUp() {
  now = { ...now, state: "failed" };
  stage.dataset.state = now.state;
  document.body.classList.remove("ls-busy");
  for (const name of ["status", "live"]) setText(name, say("unanswered"));
  setText("detail", "");
}

// The page says which picture will come, so that its room is there before it.
document.addEventListener("ls-shape", (event) => {
  awaitAnswer();
  if (recorded) recorded.auto = false;
  stage.dataset.mode = event.detail.mode;
  if (event.detail.aspect) stage.style.setProperty("--aspect", String(event.detail.aspect));
  stage.dataset.painted = "yes";
  setStillCount(event.detail.stills);
});
find("reuse").addEventListener("click", () => trigger("reuse", { seed: now.seed }));
find("screen").addEventListener("dblclick", () => { if (!video.hidden) video.requestFullscreen?.(); });
watch("value", render);
render();
if (now.state === "idle") playRecorded(props.recorded);
