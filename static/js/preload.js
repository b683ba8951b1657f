// Fetches the pairs to come, and decodes their pictures before anybody sees them.

const TRIES = 3;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The unanswered pairs of this rater, oldest first, as elements whose pictures already load. */
export async function fetchAhead(url, token) {
  const answer = await fetch(url, { method: "POST", headers: { "X-CSRFToken": token } });
  if (!answer.ok) throw Object.assign(new Error("no pairs"), { status: answer.status });
  const template = document.createElement("template");
  template.innerHTML = await answer.text();
  return [...document.importNode(template.content, true).querySelectorAll(".pair")];
}

const decoding = new WeakMap();

/** Settles once both pictures of a pair can be painted in one frame. */
export function decoded(article) {
  if (!decoding.has(article)) decoding.set(article, decodeBoth(article));
  return decoding.get(article);
}

export function decodeAgain(article) {
  decoding.delete(article);
  for (const picture of article.querySelectorAll("img")) reload(picture);
  return decoded(article);
}

async function decodeBoth(article) {
  await Promise.all([...article.querySelectorAll("img")].map(decodeOne));
}

async function decodeOne(picture) {
  for (let n = 1; ; n += 1) {
    try {
      return await picture.decode();
    } catch (error) {
      if (n === TRIES) throw error;
    }
    await pause(n * 1000);
    reload(picture);
  }
}

function reload(picture) {
  picture.src = picture.getAttribute("src");
}
