// Keeps each answer in this browser until the server has it: in order, tried again without limit.
// One key of storage for each answer, so that two tabs never overwrite each other's.

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30000;
const ANSWER_WITHIN_MS = 20000;

const waitOrOnline = (ms) =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
  });

export class Outbox extends EventTarget {
  #line;
  #prefix;
  #items;
  #sending = false;
  #offline = false;
  #wait = FIRST_WAIT_MS;

  /** `line` says how things stand, and carries whose answers these are and the CSRF token. */
  constructor(line) {
    super();
    this.#line = line;
    this.#prefix = `answer:${line.dataset.owner}:`;
    this.#items = this.#stored();
    if (!this.isEmpty) this.#say();
  }

  get isEmpty() {
    return this.#items.length === 0;
  }

  get token() {
    return this.#line.dataset.token;
  }

  /** The showings whose answers wait here. */
  get codes() {
    return this.#items.map((item) => item.code);
  }

  add(code, url, fields) {
    const key = `${this.#prefix}${code}:${fields.take ?? "flag"}`;
    const item = { key, code, url, fields, at: performance.timeOrigin + performance.now() };
    this.#items.push(item);
    try {
      localStorage.setItem(key, JSON.stringify(item));
    } catch {
      // No room, or storage is forbidden: the answer lives as long as this page.
    }
    this.#say();
    this.send();
  }

  async send() {
    if (this.#sending) return;
    this.#sending = true;
    while (!this.isEmpty) {
      const pause = await this.#post(this.#items[0]);
      if (pause) await waitOrOnline(pause);
    }
    this.#sending = false;
  }

  /** How long to wait before the next try; nothing when this answer is settled. */
  async #post(item) {
    let answer;
    let body = null;
    try {
      answer = await this.#fetch(item);
      body = answer.ok || answer.status === 400 ? await answer.json() : null;
      if (answer.status === 403 || answer.status === 404) await this.renew();
    } catch {
      this.#offline = true;
      this.#say();
      return this.#longer();
    }
    this.#offline = false;
    if (body?.stored) return this.#settle(item, "stored", body);
    if (answer.status === 400) return this.#settle(item, "refused", body);
    this.#say();
    const seconds = Number(answer.headers.get("Retry-After"));
    return seconds > 0 ? seconds * 1000 : this.#longer();
  }

  #fetch(item) {
    return fetch(item.url, {
      method: "POST",
      body: new URLSearchParams(item.fields),
      headers: { Accept: "application/json", "X-CSRFToken": this.token },
      keepalive: true,
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
  }

  /** The cookies are gone or were another rater's: open this rater's own link again. */
  async renew() {
    const page = await fetch(this.#line.dataset.resume);
    const line = new DOMParser()
      .parseFromString(await page.text(), "text/html")
      .querySelector("#outbox");
    if (line) this.#line.dataset.token = line.dataset.token;
  }

  #settle(item, event, detail) {
    this.#items.shift();
    try {
      localStorage.removeItem(item.key);
    } catch {
      // Storage is forbidden: nothing was kept.
    }
    this.#wait = FIRST_WAIT_MS;
    this.#say();
    this.dispatchEvent(new CustomEvent(event, { detail }));
    return 0;
  }

  #longer() {
    const wait = this.#wait;
    this.#wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    return wait;
  }

  #say() {
    const n = this.#items.length;
    const state = n === 0 ? "saved" : this.#offline ? "offline" : "saving";
    const words = {
      saved: "Saved",
      saving: n > 1 ? `Saving (${n} waiting)` : "Saving",
      offline: `Offline (${n} waiting)`,
    };
    this.#line.dataset.state = state;
    this.#line.textContent = words[state];
  }

  #stored() {
    try {
      return Object.keys(localStorage)
        .filter((key) => key.startsWith(this.#prefix))
        .map((key) => JSON.parse(localStorage.getItem(key)))
        .sort((one, other) => one.at - other.at);
    } catch {
      return [];
    }
  }
}
