// The pair: keys and timing, and the next pair at once. The server decides all that counts;
// without this script the same page works as a plain form.

import { Outbox } from "./outbox.js";
import { decoded, fetchAhead } from "./preload.js";
import "./copy.js";

const GUARD_MS = 400; // an answer this soon was meant for the pair before
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30000;
const STRANGER = [403, 404]; // the cookies are gone, or another rater's

const rating = document.querySelector("#rating");
const place = document.querySelector("#place");
const wait = document.querySelector("#wait");
const help = document.querySelector("#help");
const undo = document.querySelector("#undo");
const outbox = new Outbox(document.querySelector("#outbox"));

const seen = new Set(); // codes of the showings that have been here: none comes twice
const ready = []; // pairs whose pictures are on their way or decoded
let shown = null;
let last = null; // the pair of the last vote, while it may be taken back
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
  if (article === null) return place.replaceChildren();
  if (article.parentElement !== place) place.replaceChildren(article);
  return reveal(article, decoded(article));
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
  last = form.id === "vote" && fields.take === "1" ? shown : null;
  undo.hidden = last === null;
  const hadFocus = document.activeElement === button;
  show(ready.shift() ?? null);
  if (hadFocus) place.querySelector(`button[value="${button.value}"]`)?.focus({ preventScroll: true });
}

/** Back to the last vote: its second answer is a second take, and stands. */
function takeBack() {
  if (last === null) return;
  if (shown !== null) ready.unshift(shown);
  last.querySelector("[name=take]").value = "2";
  show(last);
  last = null;
  undo.hidden = true;
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
outbox.addEventListener("refused", () => {
  leaving = true;
  leaveIfDone();
});

// Hands

place.addEventListener("submit", (event) => {
  event.preventDefault();
  answer(event.target, event.submitter);
});

place.addEventListener("click", (event) => {
  if (event.target.closest("[data-retries]")) reveal(shown, decoded(shown));
});

addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || help.open) return;
  if (event.target.closest("input, select, textarea")) return;
  const button = place.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  const presses = button || ["Enter", " "].includes(event.key);
  if (button || (presses && event.repeat)) event.preventDefault();
  if (event.repeat) return;
  if (event.key === "?") help.showModal();
  if (event.key === "Backspace") takeBack();
  button?.click();
});

undo.addEventListener("click", takeBack);

document.querySelector("[data-opens=help]").addEventListener("click", (event) => {
  event.preventDefault();
  help.showModal();
});

// Start: answers left over from an earlier visit go first.

const first = place.querySelector(".pair");
const leftOver = new Set(outbox.codes);
for (const code of [...leftOver, first.dataset.code]) seen.add(code);
show(leftOver.has(first.dataset.code) ? null : first);
outbox.send();
fill();
