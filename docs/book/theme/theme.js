// Applies the chosen theme before the browser paints the page. The dashboard reads the same key.
(function () {
  "use strict";
  var choice = null;
  try {
    choice = localStorage.getItem("tollgate-theme");
  } catch {
    // The browser allows no storage: the page has the system's theme.
  }
  if (choice === "light" || choice === "dark") {
    document.documentElement.setAttribute("data-theme", choice);
  }
})();
