// Fetches the pairs to come, and decodes their pictures before anybody sees them.

const RETRY_MS = 2000;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The unanswered pairs of this rater that are not in `seen`, oldest first, as elements whose
 * pictures already load. */
export async function fetchAhead(url, token, seen) {
  const answer = await fetch(url, { method: "POST", headers: { "X-CSRFToken": token } });
  if (!answer.ok) throw Object.assign(new Error("no pairs"), { status: answer.status });
  const template = document.createElement("template");
  template.innerHTML = await answer.text();
  return [...template.content.querySelectorAll(".pair")]
    .filter((article) => !seen.has(article.dataset.code))
    .map((article) => document.importNode(article, true));
}

const decoding = new WeakMap();
const broken = new WeakSet(); // pictures that were given up

/** Settles once both pictures of a pair can be painted in one frame. Asked after a failure, it
 * tries anew. */
export function decoded(article) {
  if (!decoding.has(article)) {
    const both = Promise.all([...article.querySelectorAll("img")].map(decodeOne));
    both.catch(() => decoding.delete(article));
    decoding.set(article, both);
  }
  return decoding.get(article);
}

/** Asks once again after a moment: a storage that was away may be back. */
async function decodeOne(picture) {
  if (broken.delete(picture)) reload(picture);
  try {
    return await picture.decode();
  } catch {
    await pause(RETRY_MS);
    reload(picture);
  }
  try {
    return await picture.decode();
  } catch (error) {
    broken.add(picture);
    throw error;
  }
}

function reload(picture) {
  picture.src = picture.getAttribute("src");
}
