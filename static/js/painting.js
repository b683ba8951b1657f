// Shows anew how far painting is while images come in, and stops when nothing is to come.
// Nothing moves under a hidden page or a selection; what has the focus keeps it.

const LATE_AFTER = 3; // answers missed

let missed = 0;

function seconds() {
  return Number(document.getElementById("painting").dataset.refreshS);
}

function isBeingRead() {
  const selection = document.getSelection();
  const page = document.getElementById("painting");
  return !selection.isCollapsed && page.contains(selection.anchorNode);
}

async function fetchPart() {
  const address = new URL(location.href);
  address.searchParams.set("part", "1");
  const response = await fetch(address, { redirect: "error" }); // signed out: a redirect
  if (!response.ok) throw new Error(response.statusText);
  const part = new DOMParser().parseFromString(await response.text(), "text/html");
  return part.getElementById("painting");
}

async function refresh() {
  try {
    const fresh = await fetchPart();
    if (isBeingRead()) return;
    const focused = document.activeElement?.id;
    document.getElementById("painting").replaceWith(fresh);
    if (focused) document.getElementById(focused)?.focus();
    missed = 0;
  } catch {
    missed += 1;
    const late = document.querySelector("#painting [data-late]");
    late.hidden = missed < LATE_AFTER;
  }
}

async function look() {
  if (!document.hidden && !isBeingRead()) await refresh();
  if (seconds()) setTimeout(look, 1000 * seconds() * Math.min(missed + 1, 12));
}

if (seconds()) setTimeout(look, 1000 * seconds());
