() => {
  const press = (selector) => document.querySelector(selector)?.click();
  const page = document.documentElement;
  page.lang = document.querySelector(".ls-languages [aria-current]")?.lang || "en";

  // The page is shown when it stands: its letters are there, its stage is painted, and nothing has
  // moved between two looks. page.css shows it after a while in any case.
  const parts = ["#top", "#ask", "#chips", "#work", "#settings", "#mode", "#keys", ".ls-stage"];
  const layout = () => parts.map((part) => {
    const box = document.querySelector(part)?.getBoundingClientRect();
    return box ? [box.x, box.y, box.width, box.height].map(Math.round).join() : "";
  }).join(" ");
  let before = "";
  const settle = () => {
    const after = layout();
    const still = after === before && document.querySelector(".ls-stage[data-painted]");
    if (still && document.fonts.status === "loaded") {
      document.body.classList.add("ls-settled");
      beginToType();
    } else setTimeout(settle, 100);
    before = after;
  };
  // Once: a field with Gradio's own autofocus takes the focus again whenever it scrolls.
  const beginToType = () => {
    if (document.activeElement !== document.body) return;
    document.querySelector("#prompt textarea")?.focus({ preventScroll: true });
  };
  settle();

  // Light and dark: as the visitor chose last, else as the system does.
  const dark = localStorage.getItem("latte-dark");
  if (dark && !location.search.includes("__theme")) document.body.classList.toggle("dark", dark === "yes");
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.(".ls-theme")) return;
    const now = document.body.classList.toggle("dark");
    localStorage.setItem("latte-dark", now ? "yes" : "no");
  });

  // A prompt that was typed goes along into another language.
  const prompt = document.querySelector("#prompt textarea");
  const typed = sessionStorage.getItem("latte-prompt");
  sessionStorage.removeItem("latte-prompt");
  if (prompt && typed) {
    prompt.value = typed;
    prompt.dispatchEvent(new Event("input", { bubbles: true }));
  }
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".ls-languages a")) {
      sessionStorage.setItem("latte-prompt", document.querySelector("#prompt textarea")?.value || "");
    }
  });

  // Room for words and files of a run, at the very click that begins the first one.
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#generate, .chip")) document.querySelector(".ls-stage")?.classList.add("ls-used");
  }, true);

  // A run begins: make room on the stage for the picture that will come.
  window.latteStudio = {
    begin() {
      document.body.classList.add("ls-busy");
      const mode = document.querySelector("#mode input:checked")?.value || "video";
      const stills = document.querySelector("#num-images input[type=number]")?.value || 1;
      const size = document.querySelector("#size input")?.value.match(/(\d+)\D+(\d+)/);
      const aspect = size ? size[1] / size[2] : 0;
      const detail = { mode, stills: mode === "video" ? 0 : Number(stills), aspect };
      document.dispatchEvent(new CustomEvent("ls-shape", { detail }));
    },
  };

  const move = (selector, by) => {
    const slider = document.querySelector(selector);
    if (!slider || slider.disabled) return;
    slider.value = String(Number(slider.value) + by);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const keys = {
    r: () => press("#dice"),
    " ": () => press(".ls-play"),
    ArrowLeft: () => move(".ls-frames", -1),
    ArrowRight: () => move(".ls-frames", 1),
    ArrowUp: () => move(".ls-steps", 1),
    ArrowDown: () => move(".ls-steps", -1),
  };
  document.addEventListener("keydown", (event) => {
    const busy = document.body.classList.contains("ls-busy");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      event.stopPropagation();
      if (busy) return;
      // Gradio takes a field's text over when it is typed; a blur commits the number fields
      document.activeElement?.dispatchEvent(new Event("change", { bubbles: true }));
      setTimeout(() => press("#generate"), 0);
      return;
    }
    if (event.key === "Escape" && busy) {
      press("#stop");
      return;
    }
    // The other keys are the stage's, unless what has the focus needs them itself.
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select, button, a, summary, [role]:not(main)")) return;
    if (!document.querySelector(".ls-stage")?.offsetParent) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }, true);
}
