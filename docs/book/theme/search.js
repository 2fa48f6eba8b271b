// Searches the book in the browser. The index is loaded when the reader enters the search box.
(function () {
  "use strict";

  var root = new URL("..", document.currentScript.src);
  var form = document.getElementById("search");
  var input = document.getElementById("search-text");
  var panel = document.getElementById("search-results");
  var count = document.getElementById("search-count");
  var list = document.getElementById("search-list");

  var TEASER_LENGTH = 160;
  var TEASER_BEFORE = 40;

  // Loading the index.

  var loading = null;

  function loadScript(name) {
    return new Promise(function (resolve, reject) {
      var script = document.createElement("script");
      script.src = new URL(name, root).href;
      script.addEventListener("load", resolve);
      script.addEventListener("error", reject);
      document.head.append(script);
    });
  }

  // The index is a script that adds its parts to `window.search`.
  function load() {
    if (!loading) {
      window.search = {};
      loading = Promise.all([loadScript("elasticlunr.min.js"), loadScript("searchindex.js")]).then(function () {
        var data = window.search;
        return { index: window.elasticlunr.Index.load(data.index), data: data };
      });
      loading.catch(function () {
        loading = null;
      });
    }
    return loading;
  }

  // Showing results.

  // The part of a text around the first word that was searched for.
  function teaser(text, words) {
    var lower = text.toLowerCase();
    var places = words
      .map(function (word) {
        return lower.indexOf(word);
      })
      .filter(function (place) {
        return place >= 0;
      });
    var first = places.length ? Math.min.apply(null, places) : 0;
    var start = first <= TEASER_BEFORE ? 0 : text.lastIndexOf(" ", first - TEASER_BEFORE) + 1;
    var end = start + TEASER_LENGTH;
    if (end < text.length) {
      end = Math.max(text.lastIndexOf(" ", end), first + 1);
    }
    return (start > 0 ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
  }

  function entry(result, data, words) {
    var link = document.createElement("a");
    link.href = new URL(data.doc_urls[result.ref], root).href;
    var title = document.createElement("span");
    title.className = "title";
    title.textContent = result.doc.breadcrumbs || result.doc.title;
    var text = document.createElement("span");
    text.className = "teaser";
    text.textContent = teaser(result.doc.body, words);
    link.append(title, text);
    var item = document.createElement("li");
    item.append(link);
    return item;
  }

  function close() {
    panel.hidden = true;
    list.replaceChildren();
    count.textContent = "";
  }

  function show(query, loaded) {
    var results = loaded.index.search(query, loaded.data.search_options);
    var shown = results.slice(0, loaded.data.results_options.limit_results);
    var words = query.toLowerCase().split(/\s+/);
    list.replaceChildren.apply(
      list,
      shown.map(function (result) {
        return entry(result, loaded.data, words);
      }),
    );
    count.textContent =
      results.length === 0
        ? "No results for “" + query + "”"
        : results.length === 1
          ? "1 result"
          : shown.length < results.length
            ? "The best " + shown.length + " of " + results.length + " results"
            : results.length + " results";
    panel.hidden = false;
  }

  function search() {
    var query = input.value.trim();
    if (!query) {
      close();
      return;
    }
    load().then(
      function (loaded) {
        // The reader may have typed on while the index was loaded.
        if (input.value.trim() === query) {
          show(query, loaded);
        }
      },
      function () {
        list.replaceChildren();
        count.textContent = "The search index could not be loaded. Try again.";
        panel.hidden = false;
      },
    );
  }

  // Keys: "/" enters the search box, arrows move between results, Escape closes them.

  function move(event, step) {
    var links = Array.from(list.querySelectorAll("a"));
    if (links.length === 0) {
      return;
    }
    event.preventDefault();
    var next = links.indexOf(document.activeElement) + step;
    if (next < 0) {
      input.focus();
    } else {
      links[Math.min(next, links.length - 1)].focus();
    }
  }

  form.hidden = false;
  input.addEventListener("focus", function () {
    // An error is shown when the reader searches.
    load().catch(function () {});
    if (input.value && panel.hidden) {
      search();
    }
  });
  input.addEventListener("input", search);
  form.addEventListener("submit", function (event) {
    event.preventDefault();
    var first = list.querySelector("a");
    if (first) {
      first.focus();
    } else {
      search();
    }
  });
  form.addEventListener("keydown", function (event) {
    if (event.key === "ArrowDown") {
      move(event, 1);
    } else if (event.key === "ArrowUp") {
      move(event, -1);
    } else if (event.key === "Escape" && !panel.hidden) {
      event.preventDefault();
      input.focus();
      close();
    }
  });
  form.addEventListener("focusout", function (event) {
    if (event.relatedTarget && !form.contains(event.relatedTarget)) {
      close();
    }
  });
  list.addEventListener("click", function (event) {
    // A result on the same page does not load another page.
    if (event.target.closest("a")) {
      close();
    }
  });
  document.addEventListener("click", function (event) {
    if (!form.contains(event.target)) {
      close();
    }
  });
  document.addEventListener("keydown", function (event) {
    var typing = event.target.closest && event.target.closest("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
      input.select();
    }
  });
})();
