// The finished runs, newest first. The value is a JSON string: a list of cards, see shelf.py.
const find = (name) => element.querySelector(".lh-" + name);
const texts = props.texts || {};
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const SURE_MS = 4000;
const known = new Map();   // the card elements by key, so that a thumbnail is loaded once

find("title").textContent = texts.title || "";
find("empty").textContent = texts.empty || "";

function button(card, name, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "lh-" + name;
  made.textContent = label;
  made.setAttribute("aria-label", label + ": " + card.prompt);
  return made;
}

// A second click within four seconds deletes; the first one only asks.
function askTwice(made, card) {
  let timer = 0;
  made.addEventListener("click", () => {
    if (timer) return trigger("remove", { key: card.key });
    made.textContent = texts.sure;
    timer = setTimeout(() => { timer = 0; made.textContent = texts.remove; }, SURE_MS);
  });
}

function picture(card) {
  const image = document.createElement("img");
  image.alt = card.prompt;
  image.loading = "lazy";
  image.decoding = "async";
  image.src = card.image;
  if (!calm.matches) return image;
  const still = document.createElement("canvas");   // an image that moves cannot be paused
  still.setAttribute("role", "img");
  still.setAttribute("aria-label", card.prompt);
  image.loading = "eager";
  image.onload = () => {
    still.width = image.naturalWidth;
    still.height = image.naturalHeight;
    still.getContext("2d").drawImage(image, 0, 0);
  };
  return still;
}

// The Compare tab is told on the window, since it is made when it is first opened.
function openCompare(key) {
  const [, last] = window.latteCompare || [];
  window.latteCompare = [last === key ? undefined : last, key];
  document.querySelectorAll("#tabs > .tab-wrapper button[role=tab], #tabs button[role=tab]").forEach((tab) => {
    if (tab.textContent.trim() === texts.tab) tab.click();
  });
  document.dispatchEvent(new Event("latte-compare"));
}

function makeCard(card) {
  const item = document.createElement("li");
  item.dataset.key = card.key;
  const load = button(card, "load", "");
  load.setAttribute("aria-label", texts.load + ": " + card.prompt);
  load.append(picture(card));
  load.title = card.facts + "\n" + new Date(card.created * 1000).toLocaleString();
  load.addEventListener("click", () => trigger("recall", { key: card.key }));
  const prompt = document.createElement("p");
  prompt.className = "lh-prompt";
  prompt.textContent = card.prompt;
  const seed = document.createElement("p");
  seed.className = "lh-seed";
  seed.textContent = texts.seed.replace("{seed}", card.seed);
  const row = document.createElement("div");
  row.className = "lh-row";
  const vary = button(card, "vary", texts.vary);
  vary.addEventListener("click", () => trigger("vary", { key: card.key }));
  const remove = button(card, "remove", texts.remove);
  askTwice(remove, card);
  row.append(vary);
  if (card.clip) {
    const compare = button(card, "compare", texts.compare);
    compare.addEventListener("click", () => openCompare(card.key));
    row.append(compare);
  }
  row.append(remove);
  item.append(load, prompt, seed, row);
  return item;
}

function render() {
  const cards = JSON.parse(props.value || "[]");
  const keys = new Set(cards.map((card) => card.key));
  for (const key of known.keys()) if (!keys.has(key)) known.delete(key);
  for (const card of cards) if (!known.has(card.key)) known.set(card.key, makeCard(card));
  find("cards").replaceChildren(...cards.map((card) => known.get(card.key)));
  find("empty").hidden = cards.length > 0;
  window.latteRuns = cards;   // the tab that looks inside offers them too
  document.dispatchEvent(new Event("latte-runs"));
}
watch("value", render);
render();
