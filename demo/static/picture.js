// The picture that a clip begins with. The value is a data URL, or "" for none: the server makes it
// of a file, upright and small enough for a request; it is cut to the clip's size when a run begins.
const find = (name) => element.querySelector(".lp-" + name);
// In the markup, since a component in a closed fold is made without its own properties.
const texts = JSON.parse(element.firstElementChild.dataset.texts);
const input = element.querySelector("input");
const image = find("image");

for (const name of ["title", "hint", "remove"]) find(name).textContent = texts[name];
image.alt = texts.alt;

function say(text, failed) {
  find("said").textContent = text || "";
  find("said").dataset.failed = failed ? "yes" : "no";
}

async function read(file, told) {
  if (!file) return;
  say(texts.reading.replace("{name}", file.name));
  try {
    const answer = await fetch("studio/picture?name=" + encodeURIComponent(file.name),
      { method: "POST", body: file });
    const found = await answer.json();
    if (!answer.ok) return say(found.detail, true);
    put(found.picture);
    say(told);
  } catch (error) {
    say(texts.offline, true);
  }
}

function put(picture) {
  props.value = picture;
  render();
}

function render() {
  const there = Boolean(props.value);
  element.firstElementChild.dataset.filled = there ? "yes" : "no";
  image.hidden = find("remove").hidden = !there;
  if (there) image.src = props.value;
  else image.removeAttribute("src");
  find("pick").textContent = there ? texts.change : texts.pick;
  say("");
}

find("pick").addEventListener("click", () => input.click());
find("remove").addEventListener("click", () => { put(""); find("pick").focus(); });
input.addEventListener("change", () => { read(input.files[0]); input.value = ""; });
// A picture was dropped on the page that holds no settings: see recipe.js.
document.addEventListener("ls-picture", (event) => {
  if (!element.isConnected) return;
  event.preventDefault();
  read(event.detail.file, texts.taken);
});
watch("value", render);
render();
