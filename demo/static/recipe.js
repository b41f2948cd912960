// The line under the stage: copy the settings of the film on show, or read them from a file.
// The value is a JSON string: {seed, copies: {link, film, key, command, python, json}, said, failed}.
const find = (name) => element.querySelector(".lr-" + name);
const texts = props.texts || {};
const KINDS = ["film", "link", "command", "python", "json"];
const input = element.querySelector("input");
const veil = find("veil");
let copies = {};
let depth = 0;   // of the elements that the dragged file is over

find("title").textContent = texts.title || "";
find("pick").textContent = texts.pick || "";
find("hint").textContent = texts.hint || "";
veil.firstElementChild.textContent = texts.drop || "";

function say(text, failed) {
  find("said").textContent = text || "";
  find("said").dataset.failed = failed ? "yes" : "no";
}

async function copy(kind) {
  const own = location.origin + location.pathname;
  const text = kind === "link" || kind === "film" ? own + copies[kind] : copies[kind];
  if (kind === "film") trigger("share", { key: copies.key });
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) {  // no clipboard on a page without TLS
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (!done) return say(text, false);
  }
  let lacks = kind === "link" && copies.lacks ? " " + texts.lacks : "";
  if (kind === "film") lacks = " " + texts.shared;
  say((texts.copied || "").replace("{what}", texts[kind]) + lacks, false);
}

// A picture without settings is taken for the start picture, where the model takes one.
function isPicture(file) {
  if (!/^image.(png|jpeg|webp)$/.test(file.type)) return false;
  const asked = new CustomEvent("ls-picture", { detail: { file }, cancelable: true });
  const taken = !document.dispatchEvent(asked);
  if (taken) say(texts.picture, false);
  return taken;
}

async function read(file) {
  if (!file) return;
  // As a value of its own: the same answer as to the last file would be no change, and not shown.
  props.value = JSON.stringify({ said: (texts.reading || "").replace("{name}", file.name) });
  try {
    const address = "studio/recipe?name=" + encodeURIComponent(file.name);
    const answer = await fetch(address, { method: "POST", body: file });
    const found = await answer.json();
    if (answer.ok) trigger("dropped", { recipe: JSON.stringify(found.recipe) });
    else if (!isPicture(file)) say(found.detail, true);
  } catch (error) {
    say(texts.offline, true);
  }
}

find("buttons").replaceChildren(...KINDS.map((kind) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = texts[kind];
  button.dataset.kind = kind;
  button.addEventListener("click", () => copy(kind));
  return button;
}));
find("pick").addEventListener("click", () => input.click());
input.addEventListener("change", () => { read(input.files[0]); input.value = ""; });

const holdsFile = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
const show = (change) => {
  depth = Math.max(0, depth + change);
  veil.hidden = depth === 0;
};
document.addEventListener("dragenter", (event) => { if (holdsFile(event)) show(1); });
document.addEventListener("dragleave", (event) => { if (holdsFile(event)) show(-1); });
document.addEventListener("dragover", (event) => { if (holdsFile(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  if (!holdsFile(event)) return;
  event.preventDefault();
  show(-depth);
  read(event.dataTransfer.files[0]);
});

function render() {
  const value = JSON.parse(props.value || "{}");
  if (value.copies) copies = value.copies;
  find("copies").hidden = !copies.json;
  element.querySelector("[data-kind=link]").disabled = !copies.link;   // too long for one
  element.querySelector("[data-kind=film]").hidden = !copies.film;     // settings from a file
  say(value.said, value.failed);
}
watch("value", render);
render();
