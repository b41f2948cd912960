() => {
  // Ctrl+Enter generates, Esc stops, from anywhere on the page.
  const press = (id) => document.getElementById(id)?.click();
  document.addEventListener("keydown", (event) => {
    const busy = document.body.classList.contains("ls-busy");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !busy) {
      event.preventDefault();
      event.stopPropagation();
      // Gradio takes a field's text over when it is typed; a blur commits the number fields
      document.activeElement?.dispatchEvent(new Event("change", { bubbles: true }));
      setTimeout(() => press("generate"), 0);
    } else if (event.key === "Escape" && busy) {
      press("stop");
    }
  }, true);
}
