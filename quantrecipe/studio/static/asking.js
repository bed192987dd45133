// Asking the server: the token, errors with their remedies, and a server that is gone.

const AGAIN = [100, 200, 400, 800, 1600];
// How long to wait before a question is asked again for which a newer one took the place, in milliseconds.
const LOOK_EVERY = 2000;
// How often to look whether a server that was gone is there, in milliseconds.

/** What the server says is wrong. status: of HTTP; message, remedy: text, or null. */
export class Refused extends Error {
  constructor(status, message, remedy) {
    super(message);
    this.status = status;
    this.remedy = remedy;
  }
}

/** Nobody answers. */
export class Gone extends Error {}

export function isAborted(error) {
  return error?.name === "AbortError";
}

/** The token: from the address, which then loses it, or what this tab has kept. */
export function takeToken() {
  const here = new URL(window.location.href);
  const token = here.searchParams.get("token");
  if (token === null) return sessionStorage.getItem("quantrecipe-token") ?? "";
  sessionStorage.setItem("quantrecipe-token", token);
  here.searchParams.delete("token");
  window.history.replaceState(null, "", here.pathname + here.search + here.hash);
  return token;
}

/** The server. onGone, onBack: called when it stops answering, and when it answers again. */
export class Server {
  #token;
  #gone = false;

  constructor(token) {
    this.#token = token;
    this.onGone = () => {};
    this.onBack = () => {};
  }

  start() {
    return this.#ask("GET", "start", undefined, undefined);
  }

  /** Ask a question until it is answered. signal: gives it up. Raises Refused, Gone, or an AbortError. */
  async ask(what, question, signal) {
    for (const wait of [...AGAIN, null]) {
      try {
        return await this.#ask("POST", what, question, signal);
      } catch (error) {
        if (!(error instanceof Refused && error.status === 409) || wait === null) throw error;
        await pause(wait, signal);
      }
    }
  }

  async #ask(method, what, question, signal) {
    const headers = { "X-Quantrecipe-Token": this.#token };
    if (question !== undefined) headers["Content-Type"] = "application/json";
    const body = JSON.stringify(question);
    let answer, text;
    try {
      answer = await fetch(`/api/${what}`, { method, headers, body, signal, cache: "no-store" });
      text = await answer.text();
    } catch (error) {
      if (isAborted(error)) throw error;
      this.#lost();
      throw new Gone("the studio's server doesn't answer");
    }
    const content = parsed(text);
    if (answer.ok && content !== null) return content;
    const silent = `the server answers ${answer.status}, and doesn't say why`;
    const { message = silent, remedy = null } = content?.error ?? {};
    throw new Refused(answer.status, message, remedy);
  }

  /** Look for the server until it is there. */
  async #lost() {
    if (this.#gone) return;
    this.#gone = true;
    this.onGone(null);
    let told = null;
    for (;;) {
      await pause(LOOK_EVERY);
      try {
        await this.#ask("GET", "start", undefined, undefined);
        break;
      } catch (error) {
        // Another server on the same port has another token: only its own address opens it.
        const refused = error instanceof Refused ? error : null;
        if (refused?.message !== told?.message) this.onGone(refused);
        told = refused;
      }
    }
    this.#gone = false;
    this.onBack();
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Wait so many milliseconds, or until signal aborts. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** Questions of which only the newest counts: asking gives up what was asked before. */
export class Newest {
  #running = null;

  /** ask: signal → answer. Gives null where a newer question took its place, or stop() was called. */
  async ask(ask) {
    this.stop();
    const own = new AbortController();
    this.#running = own;
    try {
      const answer = await ask(own.signal);
      return own.signal.aborted ? null : answer;
    } catch (error) {
      if (own.signal.aborted) return null;
      throw error;
    } finally {
      if (this.#running === own) this.#running = null;
    }
  }

  get running() {
    return this.#running !== null;
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
  }
}

/**
 * Questions that come faster than answers, as from a slider: one is on its way at a time, and of those that come
 * meanwhile the newest goes next. So one sees the answers change while the slider still moves.
 */
export class OneAtATime {
  #newest = new Newest();
  #next = null;

  /** ask: signal → answer; take: what to do with it; failed: what to do with an error. */
  ask(ask, take, failed) {
    this.#next = { ask, take, failed };
    if (!this.#newest.running) this.#go();
  }

  async #go() {
    while (this.#next !== null) {
      const { ask, take, failed } = this.#next;
      this.#next = null;
      let answer;
      try {
        answer = await this.#newest.ask(ask);
      } catch (error) {
        failed(error);
        continue;
      }
      if (answer === null) return;
      take(answer);
    }
  }

  get running() {
    return this.#newest.running;
  }

  stop() {
    this.#next = null;
    this.#newest.stop();
  }
}

/** Something that is done when nothing has happened for so many milliseconds. */
export class AtRest {
  #timer = null;

  constructor(milliseconds) {
    this.milliseconds = milliseconds;
  }

  then(act) {
    this.stop();
    this.#timer = setTimeout(() => {
      this.#timer = null;
      act();
    }, this.milliseconds);
  }

  get waiting() {
    return this.#timer !== null;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }
}
