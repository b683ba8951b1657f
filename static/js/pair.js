// The pair: keys and timing, and the next pair at once. The server decides all that counts;
// without this script the same page works as a plain form.

import { Outbox } from "./outbox.js";
import { decoded, fetchAhead } from "./preload.js";
import "./copy.js";

const GUARD_MS = 400; // an answer this soon was meant for the pair before
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30000;
const STRANGER = [403, 404]; // the cookies are gone, or another rater's
const OPEN_POPOVER = "popover" in HTMLElement.prototype ? ":popover-open" : ":not(*)";

const rating = document.querySelector("#rating");
const place = document.querySelector("#place");
const wait = document.querySelector("#wait");
const help = document.querySelector("#help");
const told = document.querySelector("#told"); // for those who hear the page
const refusal = document.querySelector("#refusal");
const outbox = new Outbox(document.querySelector("#outbox"));

const seen = new Set(); // codes of the showings that have been here: none comes twice
const ready = []; // pairs whose pictures are on their way or decoded
let shown = null;
let last = null; // the pair of the last vote, while it may be changed
let changing = null; // that pair, while it is back on the screen; its first answer stands
let revealedAt = Infinity;
let leaving = false;
let filling = false;
let fillAgain = false;

document.documentElement.classList.add("scripted"); // from here on, pictures wait to be revealed

// Showing

async function show(article) {
  shown = article;
  revealedAt = Infinity;
  wait.hidden = article !== null;
  refusal.hidden = true;
  if (article === null) return place.replaceChildren();
  article.querySelector("[data-changes]").hidden = last === null;
  article.querySelector(".changing").hidden = changing === null;
  if (article.parentElement !== place) put(article);
  return reveal(article, decoded(article));
}

function put(article) {
  place.replaceChildren(article);
  scrollTo({ top: 0, behavior: "instant" }); // where the page scrolls, the text comes first
  const words = changing ? ".changing p" : "#progress";
  told.textContent = article.querySelector(words).textContent;
}

async function reveal(article, pictures) {
  const trouble = article.querySelector(".trouble");
  trouble.hidden = true;
  try {
    await pictures;
  } catch {
    if (article === shown) trouble.hidden = false;
    return;
  }
  article.classList.remove("pending");
  if (article === shown) revealedAt = performance.now();
}

// Answering

function answer(form, button) {
  const now = performance.now();
  if (form.id === "vote") {
    if (now < revealedAt + GUARD_MS) return;
    measure(form, now - revealedAt);
  }
  const fields = Object.fromEntries(new FormData(form));
  delete fields.csrfmiddlewaretoken; // it may be out of date when the answer is sent
  fields[button.name] = button.value;
  outbox.add(shown.dataset.code, form.getAttribute("action"), fields);
  if (form.id === "vote") note(button);
  last = fields.take === "1" ? shown : null;
  changing = null;
  const hadFocus = document.activeElement === button;
  show(ready.shift() ?? null);
  if (hadFocus) focusOn(button.name === "choice" ? `[value="${button.value}"]` : "[popovertarget]");
}

function note(button) {
  const words = button.querySelector(".name").textContent;
  shown.querySelector("[data-was]").textContent = `: ${words}`;
}

function focusOn(selector) {
  place.querySelector(selector)?.focus({ preventScroll: true });
}

/** Back to the last vote. It stands until there is a second answer: that is a second take. */
function changeLast() {
  if (last === null) return;
  const hadFocus = place.contains(document.activeElement);
  if (shown !== null) ready.unshift(shown);
  [changing, last] = [last, null];
  changing.querySelector("[name=take]").value = "2";
  show(changing);
  if (hadFocus) focusOn("[data-keeps]");
}

/** On with the pairs to come: the last vote is as it was, and may still be changed. */
function keepLast() {
  if (changing === null) return;
  const hadFocus = place.contains(document.activeElement);
  [last, changing] = [changing, null];
  show(ready.shift() ?? null);
  if (hadFocus) focusOn("[data-changes]");
  if (shown === null) fill();
}

function measure(form, elapsed) {
  const picture = shown.querySelector("img");
  form.elements.response_ms.value = Math.round(elapsed);
  form.elements.screen_width.value = innerWidth;
  form.elements.screen_height.value = innerHeight;
  form.elements.screen_ratio.value = devicePixelRatio;
  form.elements.screen_image.value = Math.min(picture.clientWidth, picture.clientHeight);
}

// The pairs to come

async function fill() {
  fillAgain = true;
  if (filling) return;
  filling = true;
  let pause = FIRST_WAIT_MS;
  while (fillAgain && !leaving) {
    fillAgain = false;
    try {
      (await fetchAhead(rating.dataset.ahead, outbox.token, seen)).forEach(keep);
      pause = FIRST_WAIT_MS;
    } catch (error) {
      fillAgain = true;
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, LONGEST_WAIT_MS);
      if (STRANGER.includes(error.status)) await outbox.renew().catch(() => {});
    }
  }
  filling = false;
  if (shown === null && ready.length) show(ready.shift());
  leaveIfDone();
}

function keep(article) {
  seen.add(article.dataset.code);
  ready.push(article);
  decoded(article).catch(() => {}); // told when it is shown
}

/** Nothing left to show or to send: the server knows which page comes now. */
function leaveIfDone() {
  if (outbox.isEmpty && (leaving || (shown === null && !filling))) {
    location.replace(rating.dataset.next);
  }
}

outbox.addEventListener("stored", (event) => {
  leaving ||= !event.detail.open;
  if (leaving) leaveIfDone();
  else fill();
});
outbox.addEventListener("refused", ({ detail }) => {
  const words = detail.errors.take; // a change that came too late: the first answer stands
  leaving ||= !detail.open || !words;
  if (leaving) return leaveIfDone();
  refusal.textContent = words.join(" ");
  refusal.hidden = false;
  return fill();
});

// Hands

place.addEventListener("submit", (event) => {
  event.preventDefault();
  answer(event.target, event.submitter);
});

place.addEventListener("click", (event) => {
  if (event.target.closest("[data-retries]")) reveal(shown, decoded(shown));
  if (event.target.closest("[data-changes]")) changeLast();
  if (event.target.closest("[data-keeps]")) keepLast();
});

addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (help.open || place.querySelector(OPEN_POPOVER)) return;
  if (event.target.closest("input, select, textarea")) return;
  const button = place.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  const presses = button || ["Enter", " "].includes(event.key);
  if (button || (presses && event.repeat)) event.preventDefault();
  if (event.repeat) return;
  if (event.key === "?") openHelp();
  if (event.key === "Backspace") changeLast();
  if (event.key === "Escape") keepLast();
  button?.click();
});

/** It lists the keys of the pair on the screen: the next block may offer others. */
function openHelp() {
  help.querySelector("[data-needs=TIE]").hidden = !place.querySelector("[value=TIE]");
  help.showModal();
}

document.querySelector("[data-opens=help]").addEventListener("click", (event) => {
  event.preventDefault();
  openHelp();
});

// Start: answers left over from an earlier visit go first.

const first = place.querySelector(".pair");
const leftOver = new Set(outbox.codes);
for (const code of [...leftOver, first.dataset.code]) seen.add(code);
show(leftOver.has(first.dataset.code) ? null : first);
outbox.send();
fill();
