// Applies the theme that the viewer chose, before the page is painted. Without a choice the system's
// preference applies.
"use strict";

try {
  const theme = localStorage.getItem("tollgate-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // The browser forbids storage: the system's preference applies.
}
