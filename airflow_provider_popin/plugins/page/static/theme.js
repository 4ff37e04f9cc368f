// Follows the theme of Airflow's UI, which keeps "light", "dark" or "system" under this name. It runs before
// the page is painted. Without it, or on "system", the style sheet goes by the system's preference.
"use strict";
(() => {
  const root = document.documentElement;
  const apply = () => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("theme");
    } catch {
      // Storage is barred: the system's preference counts.
    }
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
    else delete root.dataset.theme;
    document.dispatchEvent(new Event("themechange"));
  };
  apply();
  addEventListener("storage", (event) => {
    if (event.key === "theme" || event.key === null) apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
})();
