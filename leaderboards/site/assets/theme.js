// The theme before anything is drawn; the system's unless the reader chose another. Until the tables are in order only
// the first rows of long ones are laid out.
"use strict";
(() => {
  const themes = ["system", "light", "dark"];
  const stored = () => {
    try {
      return localStorage.getItem("mrsr-bench-theme");
    } catch {
      return null;
    }
  };
  let theme = themes.includes(stored()) ? stored() : "system";
  const apply = () => {
    if (theme === "system") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", theme);
  };
  apply();
  document.documentElement.classList.add("starting");
  document.addEventListener("DOMContentLoaded", () => {
    document.documentElement.classList.remove("starting");
    const button = document.getElementById("theme");
    const say = () => {
      button.textContent = `Theme: ${theme}`;
    };
    button.hidden = false;
    say();
    button.addEventListener("click", () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      try {
        localStorage.setItem("mrsr-bench-theme", theme);
      } catch {
        // Kept for this page only, then.
      }
      apply();
      say();
    });
  });
})();
