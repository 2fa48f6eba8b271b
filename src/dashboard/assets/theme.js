// Applies the viewer's theme before the browser paints the page. Without a choice, the system's
// preference applies.
"use strict";

try {
  const theme = localStorage.getItem("tollgate-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // The browser forbids storage, so the system's preference applies.
}
