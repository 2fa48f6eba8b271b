// Improves the pages. All of them also work without scripts.
"use strict";

document.documentElement.classList.add("js");

const byId = (id) => document.getElementById(id);

/** Announces a text to screen readers. */
function say(text) {
  const live = byId("live");
  if (live) live.textContent = text;
}

// The theme switch. A choice that equals the system's preference is not stored, so the page follows the system.
function themeSwitch() {
  const button = byId("theme");
  if (!button) return;
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const current = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const label = () => {
    const text = current() === "dark" ? button.dataset.light : button.dataset.dark;
    button.setAttribute("aria-label", text);
    button.title = text;
  };
  const choose = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    label();
  };
  button.addEventListener("click", () => {
    const next = current() === "dark" ? "light" : "dark";
    const choice = next === (system.matches ? "dark" : "light") ? null : next;
    choose(choice);
    try {
      if (choice) localStorage.setItem("tollgate-theme", choice);
      else localStorage.removeItem("tollgate-theme");
    } catch {
      // The browser forbids storage, so the choice applies to this page only.
    }
  });
  window.addEventListener("storage", (event) => {
    // Without a key, the whole storage was cleared.
    if (event.key === "tollgate-theme" || event.key === null) choose(event.newValue);
  });
  system.addEventListener("change", label);
  label();
}

// Shows times in the viewer's time zone. The title of each time stays in UTC, and a button switches all times to UTC.
function localTimes() {
  const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const two = (number) => String(number).padStart(2, "0");
  const times = [];
  for (const element of document.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const day = `${at.getDate()} ${months[at.getMonth()]} ${at.getFullYear()}`;
    const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
    const local = "day" in element.dataset ? day : `${day}, ${clock}`;
    times.push({ element, utc: element.textContent, local });
    element.textContent = local;
  }
  const zone = byId("zone");
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone || !name || name === "UTC") return;
  const words = document.createTextNode("");
  const button = document.createElement("button");
  button.type = "button";
  button.id = "other-zone";
  button.className = "button quiet small";
  const tell = (inUtc) => {
    words.data = inUtc
      ? "Times are in UTC. "
      : `Times are in your time zone, ${name}. Charts and dates in forms use UTC. `;
    button.textContent = inUtc ? "Show times in my time zone" : "Show times in UTC";
  };
  let inUtc = false;
  button.addEventListener("click", () => {
    inUtc = !inUtc;
    for (const { element, utc, local } of times) element.textContent = inUtc ? utc : local;
    tell(inUtc);
    say(words.data);
  });
  tell(inUtc);
  zone.replaceChildren(words, button);
}

async function copyText(element) {
  const text = element.textContent;
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return document.execCommand("copy");
  }
}

function copyButtons() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    const words = button.firstChild;
    let timer;
    button.addEventListener("click", async () => {
      const copied = await copyText(byId(button.dataset.copy));
      words.data = copied ? "Copied" : "Selected";
      say(copied ? button.dataset.said : "The text is selected. Copy it with the keyboard.");
      clearTimeout(timer);
      timer = setTimeout(() => { words.data = "Copy"; say(""); }, 4000);
    });
  }
}

// A link that works only while its checkbox is selected. The link stays focusable, so that screen
// readers can read why it does not work.
function gates() {
  for (const link of document.querySelectorAll("a[data-needs]")) {
    const box = byId(link.dataset.needs);
    const why = byId(link.dataset.why);
    if (!box || !why) continue;
    const follow = () => {
      if (box.checked) {
        link.removeAttribute("aria-disabled");
        link.removeAttribute("aria-describedby");
      } else {
        link.setAttribute("aria-disabled", "true");
        link.setAttribute("aria-describedby", why.id);
      }
    };
    link.addEventListener("click", (event) => {
      if (box.checked) return;
      event.preventDefault();
      say(why.textContent);
    });
    box.addEventListener("change", follow);
    follow();
  }
}

// A page that shows a secret in the response to a POST. A reload opens another page instead of
// sending the form again. Leaving the page removes the secret, including from the back/forward cache.
function shownOnce() {
  const page = document.querySelector("[data-replace-url]");
  if (!page) return;
  const url = page.dataset.replaceUrl;
  history.replaceState(null, "", url);
  window.addEventListener("pagehide", () => {
    for (const secret of document.querySelectorAll("[data-secret]")) secret.textContent = "";
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.replace(url);
  });
}

// Prevents a double click from sending a form twice.
function onceEach() {
  for (const form of document.querySelectorAll("form[method=post]")) {
    let sent = false;
    form.addEventListener("submit", (event) => {
      if (sent) event.preventDefault();
      sent = true;
    });
    window.addEventListener("pageshow", () => { sent = false; });
  }
}

/** Waits up to three seconds for the wallet extension, which may load after the page. */
function wallet() {
  const found = () => {
    if (window.tronLink) return window.tronLink;
    return window.tronWeb ? { tronWeb: window.tronWeb } : null;
  };
  return new Promise((resolve) => {
    const until = Date.now() + 3000;
    const look = () => {
      const provider = found();
      if (provider || Date.now() > until) resolve(provider);
      else setTimeout(look, 100);
    };
    look();
  });
}

const tronWebOf = (provider) => provider.tronWeb || window.tronWeb || null;

const selectedAddress = (provider) => tronWebOf(provider)?.defaultAddress?.base58 || "";

/** Whether an error of the wallet means that the user declined the request. */
function declined(error) {
  const text = String(error?.message ?? error ?? "").toLowerCase();
  return error?.code === 4001 || /declin|reject|denied|cancel/.test(text);
}

const noWallet = "TronLink is not installed in this browser. Install it, or use the form below.";

/** Asks the wallet to connect. Returns the error message, or an empty string on success. */
async function connected(provider) {
  if (typeof provider.request !== "function") return "";
  const answer = await provider.request({ method: "tron_requestAccounts" });
  if (answer?.code === 4001) return "You declined the request in your wallet. Try again to continue.";
  if (answer?.code === 4000) return "TronLink already shows a request. Open TronLink and confirm it.";
  if (!selectedAddress(provider)) return "Your wallet is locked. Unlock TronLink and try again.";
  return "";
}

async function fillAddress(form, tell) {
  const provider = await wallet();
  if (!provider) return tell(noWallet);
  tell("Confirm the request in your wallet.");
  const refused = await connected(provider);
  if (refused) return tell(refused);
  const address = selectedAddress(provider);
  if (!address) return tell("Your wallet has no account selected. Unlock the wallet and try again.");
  form.elements.address.value = address;
  tell("Connected. Loading the message…");
  form.requestSubmit();
}

async function fillSignature(form, tell) {
  const provider = await wallet();
  if (!provider) return tell(noWallet);
  tell("Confirm the request in your wallet.");
  const refused = await connected(provider);
  if (refused) return tell(refused);
  const wanted = form.elements.address.value;
  const selected = selectedAddress(provider);
  if (selected !== wanted) {
    const state = selected ? `The account ${selected} is selected in your wallet` : "Your wallet has no account selected";
    return tell(`${state}, but this message is for ${wanted}. Select that account in TronLink, or go back and use another account.`);
  }
  const sign = tronWebOf(provider)?.trx?.signMessageV2;
  if (typeof sign !== "function") return tell("This wallet cannot sign messages. Update it, or use the form below.");
  const signature = await tronWebOf(provider).trx.signMessageV2(byId("message").textContent);
  form.elements.signature.value = signature;
  tell("Signed. Signing you in…");
  form.requestSubmit();
}

function walletButtons() {
  const part = document.querySelector("[data-wallet]");
  if (!part) return;
  const form = byId(part.dataset.form);
  const button = part.querySelector("button");
  const tell = (text) => { byId("wallet-said").textContent = text; };
  const act = part.dataset.wallet === "sign" ? fillSignature : fillAddress;
  let busy = false;
  button.addEventListener("click", async () => {
    if (busy) return;
    busy = true;
    try {
      await act(form, tell);
    } catch (error) {
      tell(declined(error)
        ? "You declined the request in your wallet. Try again to continue."
        : "Your wallet returned an unexpected response. Try again, or use the form below.");
    } finally {
      busy = false;
    }
  });
}

themeSwitch();
localTimes();
copyButtons();
gates();
shownOnce();
onceEach();
walletButtons();
byId("errors")?.focus();
