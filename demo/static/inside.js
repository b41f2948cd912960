// The attention of a finished film. The value is a JSON string, see looking.py. A click on a token
// asks nothing of the server: the maps of all places are there.
const find = (name) => element.querySelector(".li-" + name);
const texts = props.texts || {};
const SIDE = 128;              // pixels of a frame's canvas
const LOW = [255, 246, 230], HIGH = [196, 84, 20];
let maps = null;               // the value on show, its weights unpacked
let picture = null;            // the strip of frames
let chosen = { block: 0, frame: 0, place: 0, axis: "space" };

for (const name of ["lead", "look", "name-film", "name-step", "name-frames", "name-matrix"]) {
  find(name).textContent = texts[name.replace("name-", "")] || "";
}
find("matrix").setAttribute("aria-label", texts.matrix || "");
find("blocks").setAttribute("aria-label", texts.choose || "");

function unpack(packed) {
  if (!packed) return null;
  const text = atob(packed.values);
  return { peak: packed.peak, values: Uint8Array.from(text, (letter) => letter.charCodeAt(0)) };
}

const frameCount = () => maps.strip.frames;
const tokenCount = () => maps.rows * maps.columns;
const blockNow = () => maps.blocks[chosen.block];

// Shares of the row that the chosen token looks along: N of its frame, or F of its place.
function row(kind, frame, place) {
  const weights = blockNow()[kind];
  if (!weights) return null;
  const length = kind === "space" ? tokenCount() : frameCount();
  const start = (place * frameCount() + frame) * length;
  return Array.from(weights.values.subarray(start, start + length), (value) => (value / 255) * weights.peak);
}

const shade = (share) => {
  const mix = LOW.map((low, i) => Math.round(low + (HIGH[i] - low) * share));
  return `rgb(${mix[0]} ${mix[1]} ${mix[2]})`;
};

function drawFrames() {
  const time = chosen.axis === "time" ? row("time", chosen.frame, chosen.place) : null;
  const box = find("frames");
  const most = time ? Math.max(...time) : 0;
  [...box.children].forEach((button, frame) => {
    const pen = button.firstElementChild.getContext("2d");
    pen.imageSmoothingEnabled = true;
    pen.drawImage(picture, frame * maps.strip.width, 0, maps.strip.width, maps.strip.height, 0, 0, SIDE, SIDE);
    const wide = SIDE / maps.columns, high = SIDE / maps.rows;
    const space = chosen.axis === "space" ? row("space", frame, chosen.place) : null;
    const top = space ? Math.max(...space) : 0;
    pen.fillStyle = "rgb(20 12 6 / 55%)";
    pen.fillRect(0, 0, SIDE, SIDE);
    for (let token = 0; token < tokenCount(); token++) {
      const x = (token % maps.columns) * wide, y = Math.floor(token / maps.columns) * high;
      const own = token === maps.places[chosen.place];
      const share = space ? space[token] / top : own && time ? time[frame] / most : 0;
      if (share > 0) {
        pen.globalAlpha = 0.85 * share;
        pen.fillStyle = "#ffb45e";
        pen.fillRect(x, y, wide, high);
        pen.globalAlpha = 1;
      }
      pen.strokeStyle = own ? "#fff" : "rgb(255 255 255 / 14%)";
      pen.lineWidth = own ? 2.5 : 1;
      pen.strokeRect(x + 1, y + 1, wide - 2, high - 2);
    }
    button.setAttribute("aria-pressed", String(frame === chosen.frame));
    button.lastElementChild.textContent = time
      ? `${frame + 1}: ${(100 * time[frame]).toFixed(1)} %` : String(frame + 1);
  });
}

// Rows: the frame that looks. Columns: the frame that is looked at.
function drawMatrix() {
  const canvas = find("matrix");
  const count = frameCount();
  canvas.width = canvas.height = count * 16;
  const pen = canvas.getContext("2d");
  canvas.parentElement.hidden = chosen.axis !== "time";
  if (chosen.axis !== "time") return;
  const all = Array.from({ length: count }, (_, frame) => row("time", frame, chosen.place));
  const most = Math.max(...all.flat());
  all.forEach((shares, y) => shares.forEach((share, x) => {
    pen.fillStyle = shade(share / most);
    pen.fillRect(x * 16, y * 16, 15, 15);
  }));
  pen.strokeStyle = "#3c2615";
  pen.lineWidth = 2;
  pen.strokeRect(1, chosen.frame * 16, count * 16 - 3, 15);
}

function draw() {
  const block = blockNow();
  if (!block[chosen.axis]) chosen.axis = block.space ? "space" : "time";
  [...find("blocks").children].forEach((button) => {
    const on = Number(button.dataset.block) === chosen.block && button.dataset.axis === chosen.axis;
    button.setAttribute("aria-pressed", String(on));
  });
  drawFrames();
  drawMatrix();
  find("hint").textContent = texts[chosen.axis + "_hint"] || "";
  const shares = row(chosen.axis, chosen.frame, chosen.place);
  find("scale").textContent = (texts.scale || "")
    .replace("{most}", (100 * Math.max(...shares)).toFixed(1))
    .replace("{even}", (100 / shares.length).toFixed(1));
  element.firstElementChild.dataset.chosen = [chosen.block, chosen.axis, chosen.frame, chosen.place].join(",");
}

function nearestPlace(token) {
  const r = Math.floor(token / maps.columns), c = token % maps.columns;
  const far = (other) => (Math.floor(other / maps.columns) - r) ** 2 + ((other % maps.columns) - c) ** 2;
  return maps.places.reduce((best, other, i) => (far(other) < far(maps.places[best]) ? i : best), 0);
}

function choose(event, frame) {
  const canvas = event.currentTarget.firstElementChild;
  const box = canvas.getBoundingClientRect();
  chosen.frame = frame;
  if (event.clientX || event.clientY) {   // a key press has no place
    const column = Math.min(maps.columns - 1, Math.floor(((event.clientX - box.left) / box.width) * maps.columns));
    const line = Math.min(maps.rows - 1, Math.floor(((event.clientY - box.top) / box.height) * maps.rows));
    chosen.place = nearestPlace(Math.max(0, line) * maps.columns + Math.max(0, column));
  }
  draw();
}

// Arrow keys move the token of the frame that has the focus.
function move(event) {
  const [dr, dc] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [];
  if (dr === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  const token = maps.places[chosen.place];
  const line = Math.floor(token / maps.columns) + dr, column = (token % maps.columns) + dc;
  if (line < 0 || column < 0 || line >= maps.rows || column >= maps.columns) return;
  chosen.place = nearestPlace(line * maps.columns + column);
  draw();
}

function build() {
  find("frames").replaceChildren(...Array.from({ length: frameCount() }, (_, frame) => {
    const button = document.createElement("button");
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    button.type = "button";
    button.append(canvas, document.createElement("span"));
    button.addEventListener("click", (event) => choose(event, frame));
    button.addEventListener("keydown", move);
    return button;
  }));
  const buttons = maps.blocks.flatMap((block, index) => ["space", "time"].filter((axis) => block[axis]).map((axis) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.block = String(index);
    button.dataset.axis = axis;
    button.textContent = (texts.block || "").replace("{number}", index + 1).replace("{axis}", texts[axis]);
    button.addEventListener("click", () => { chosen.block = index; chosen.axis = axis; draw(); });
    return button;
  }));
  find("blocks").replaceChildren(...buttons);
  find("body").hidden = false;
}

function offer() {
  const films = (window.latteRuns || []).filter((run) => run.clip);
  const kept = find("film").value;
  find("film").replaceChildren(...films.map((run) => {
    const option = document.createElement("option");
    option.value = run.key;
    option.textContent = `${run.prompt} · ${run.seed}`;
    return option;
  }));
  if (films.some((run) => run.key === kept)) find("film").value = kept;
  find("look").disabled = films.length === 0;
  if (!maps && !films.length) find("said").textContent = texts.empty || "";
  else if (find("said").textContent === texts.empty) find("said").textContent = "";
  limit();
}

function limit() {
  const film = (window.latteRuns || []).find((run) => run.key === find("film").value);
  if (!film) return;
  find("step").max = String(film.steps);
  if (find("step").dataset.film !== film.key) {
    find("step").dataset.film = film.key;
    find("step").value = String(Math.max(1, Math.ceil(film.steps / 2)));
  }
}

function render() {
  const value = JSON.parse(props.value || "{}");
  find("said").textContent = value.text || "";
  element.firstElementChild.dataset.state = value.state || "idle";
  find("look").disabled = value.state === "running";
  if (value.state !== "finished") return;
  const image = new Image();
  image.onload = () => {
    picture = image;
    maps = { ...value, blocks: value.blocks.map((b) => ({ ...b, space: unpack(b.space), time: unpack(b.time) })) };
    const middle = Math.floor(maps.rows / 2) * maps.columns + Math.floor(maps.columns / 2);
    chosen = { block: Math.min(chosen.block, maps.blocks.length - 1), frame: 0, place: nearestPlace(middle), axis: chosen.axis };
    build();
    draw();
    document.querySelectorAll(".li-variants figure").forEach((figure) => {
      figure.dataset.own = String(Number(figure.dataset.variant) === maps.variant);
    });
  };
  image.src = value.strip.image;
}

find("film").addEventListener("change", limit);
find("look").addEventListener("click", () => trigger("look", { key: find("film").value, step: Number(find("step").value) }));
document.addEventListener("latte-runs", offer);
watch("value", render);
render();
offer();
