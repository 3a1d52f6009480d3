// Loaded before the page is painted, so that a chosen theme never flashes. Without a choice the system's holds.
"use strict";
(() => {
  const root = document.documentElement;
  try {
    const chosen = localStorage.getItem("fastspan-theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch {
    // A browser that stores nothing keeps the choice for as long as the page is open.
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => button.setAttribute("aria-pressed", String(dark()));
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      try {
        localStorage.setItem("fastspan-theme", root.dataset.theme);
      } catch {
        // As above.
      }
      show();
    });
    system.addEventListener("change", show);
    show();
  });
})();
