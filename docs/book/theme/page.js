// Improves a page that works without it: the choice of the theme, buttons that copy code, scrolling with the keyboard.
(function () {
  "use strict";

  // The choice of the theme. No choice means the system's theme.

  var KEY = "tollgate-theme";
  var root = document.documentElement;
  var select = document.getElementById("theme-choice");

  function show(choice) {
    var known = choice === "light" || choice === "dark";
    if (known) {
      root.setAttribute("data-theme", choice);
    } else {
      root.removeAttribute("data-theme");
    }
    select.value = known ? choice : "";
  }

  show(root.getAttribute("data-theme"));
  document.getElementById("theme").hidden = false;
  select.addEventListener("change", function () {
    show(select.value);
    try {
      if (select.value) {
        localStorage.setItem(KEY, select.value);
      } else {
        localStorage.removeItem(KEY);
      }
    } catch {
      // Without storage the choice lasts until the next page.
    }
  });
  // Another tab, or the dashboard, has changed the choice.
  window.addEventListener("storage", function (event) {
    if (event.key === KEY || event.key === null) {
      show(event.key === KEY ? event.newValue : null);
    }
  });

  // A button on each block of code.

  // Lines that the page does not show, such as the frame of an example, are not copied.
  function shownText(code) {
    var copy = code.cloneNode(true);
    copy.querySelectorAll(".boring").forEach(function (line) {
      line.remove();
    });
    return copy.textContent;
  }

  function copyButton(code) {
    var button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", function () {
      navigator.clipboard.writeText(shownText(code)).then(
        function () {
          button.textContent = "Copied";
        },
        function () {
          button.textContent = "Not copied";
        },
      );
      setTimeout(function () {
        button.textContent = "Copy";
      }, 2000);
    });
    return button;
  }

  document.querySelectorAll("main pre > code").forEach(function (code) {
    var block = code.parentElement;
    var frame = document.createElement("div");
    frame.className = "code";
    block.replaceWith(frame);
    frame.append(block);
    // Browsers offer the clipboard only to pages that came over HTTPS or from this machine.
    if (navigator.clipboard) {
      frame.append(copyButton(code));
    }
  });

  // A table or a block of code that is wider than the page scrolls with the keyboard too.

  var scrolling = document.querySelectorAll("main pre, main .table-wrapper");

  function makeReachable() {
    scrolling.forEach(function (element) {
      if (element.scrollWidth > element.clientWidth) {
        element.tabIndex = 0;
        element.setAttribute("role", "group");
        element.setAttribute("aria-label", element.matches("pre") ? "Code" : "Table");
      } else {
        element.removeAttribute("tabindex");
        element.removeAttribute("role");
        element.removeAttribute("aria-label");
      }
    });
  }

  makeReachable();
  window.addEventListener("resize", makeReachable);

  // The contents begin where the current page is.

  var contents = document.getElementById("contents");
  var current = contents.querySelector("[aria-current]");
  if (current) {
    var below = current.getBoundingClientRect().bottom - contents.getBoundingClientRect().bottom;
    if (below > 0) {
      contents.scrollTop += below + contents.clientHeight / 2;
    }
  }
})();
