// What one takes along: the recipe, its lock, and llama-quantize's command. The server makes them of the text.

import { Newest } from "./asking.js";
import { byId, fill, make, sayProblem } from "./dom.js";

const MEDIA = "text/plain;charset=utf-8";

/** The buttons. content: what → {name, text}, from the server. */
export class Files {
  #content;
  #asked = new Newest();

  constructor(content) {
    this.#content = content;
    for (const button of document.querySelectorAll("button[data-what]")) {
      button.addEventListener("click", () => this.#get(button.dataset.what, download));
    }
    for (const button of document.querySelectorAll("button[data-copy]")) {
      button.addEventListener("click", () => this.#get(button.dataset.copy, copy));
    }
  }

  async #get(what, use) {
    sayProblem(byId("files-problem"), null);
    // The command for llama-quantize may take seconds: all of its presets are compared.
    fill(byId("files-done"), "Being made …");
    try {
      const file = await this.#asked.ask((signal) => this.#content(what, signal));
      if (file !== null) fill(byId("files-done"), ...(await use(file)));
    } catch (error) {
      fill(byId("files-done"));
      sayProblem(byId("files-problem"), error);
    }
  }
}

async function download({ name, text }) {
  const address = URL.createObjectURL(new Blob([text], { type: MEDIA }));
  const link = make("a", { href: address, hidden: true });
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
  return ["Made ", make("b", {}, name), "."];
}

async function copy({ name, text }) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const shown = make("textarea", { readonly: true, rows: "4", "aria-label": name });
    shown.value = text;
    return ["This browser doesn't let the page copy. Copy it from here:", shown];
  }
  return ["Copied what ", make("b", {}, name), " has."];
}
