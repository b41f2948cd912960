// An X/Y sheet as it is made. The value is a JSON string: {state, text, progress, columns, rows,
// cells: [{row, column, image}], video, links}; see comparing.py.
const find = (name) => element.querySelector(".lx-" + name);
const texts = props.texts || {};
const box = element.firstElementChild;
const video = find("video");
const grid = find("grid");
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
find("track").setAttribute("aria-label", texts.progress || "");
grid.setAttribute("aria-label", texts.grid || "");
video.setAttribute("aria-label", texts.grid || "");

function label(text) {
  const made = document.createElement("span");
  made.textContent = text;
  return made;
}

function drawGrid(value) {
  const rows = value.rows.length ? value.rows : [""];
  grid.style.gridTemplateColumns = `${value.rows.length ? "auto" : "0"} repeat(${value.columns.length}, minmax(0, 1fr))`;
  const made = new Map(value.cells.map((cell) => [cell.row + "," + cell.column, cell.image]));
  const parts = [label(""), ...value.columns.map(label)];
  rows.forEach((name, row) => {
    parts.push(label(name));
    value.columns.forEach((_, column) => {
      const cell = document.createElement("figure");
      const image = made.get(row + "," + column);
      if (image) {
        const picture = document.createElement("img");
        picture.src = image;
        picture.alt = "";
        cell.append(picture);
      }
      parts.push(cell);
    });
  });
  grid.replaceChildren(...parts);
}

function render() {
  const value = JSON.parse(props.value || "{}");
  box.dataset.state = value.state || "idle";
  document.body.classList.toggle("lx-busy", value.state === "running");
  find("said").textContent = value.text || "";
  const percent = Math.round(100 * (value.progress || 0));
  find("track").setAttribute("aria-valuenow", String(percent));
  find("fill").style.transform = `scaleX(${value.progress || 0})`;
  const there = Boolean(value.video);
  grid.hidden = there || !value.columns;
  if (value.columns && !there) drawGrid(value);
  video.hidden = !there;
  if (there && video.getAttribute("src") !== value.video) {
    video.autoplay = !calm.matches;
    video.src = value.video;
  }
  find("links").replaceChildren(...(value.links || []).map((link) => {
    const anchor = document.createElement("a");
    anchor.href = link.url;
    anchor.download = link.name;
    anchor.textContent = link.label;
    return anchor;
  }));
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.classList.contains("lx-busy")) {
    document.getElementById("sheet-stop")?.click();
  }
});
watch("value", render);
render();
