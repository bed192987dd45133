// What may stand at the cursor: on Ctrl-Space, and while a value is written.

import { isAborted, Newest } from "./asking.js";
import { byId, say } from "./dom.js";
import { Popup } from "./popup.js";
import { counted } from "./units.js";

const VALUE = /(?:[:[{,]\s|^\s*-\s)\s*["']?[\w.*/-]{2,}$/;
// The text before a cursor behind two letters of a value.
const WORD = /[\w.*/-]/;

/** Completion in an editor. ask: (question, signal) → the server's answer; model: gives the model that is open. */
export class Completion {
  #editor;
  #ask;
  #popup;
  #asked = new Newest();
  #place = null;

  constructor(editor, ask) {
    this.#editor = editor;
    this.#ask = ask;
    const field = editor.field;
    this.#popup = new Popup(field, byId("proposals"), (item) => this.#take(item));
    // Before the editor's own listener: Enter takes a proposal, and then it is no new line.
    field.addEventListener("keydown", (event) => this.#key(event), { capture: true });
    field.addEventListener("input", (event) => this.#typed(event));
    field.addEventListener("blur", () => this.close());
    field.addEventListener("click", () => this.close());
    field.addEventListener("scroll", () => this.close());
  }

  close() {
    this.#asked.stop();
    if (this.#popup.isOpen) this.#popup.close();
  }

  #key(event) {
    if (event.key === " " && event.ctrlKey) {
      event.preventDefault();
      this.#propose({ told: true });
    } else if (!this.#popup.key(event) && ["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
      this.close();
    }
  }

  #typed(event) {
    const letter = event.inputType === "insertText" && event.data?.length === 1 && WORD.test(event.data);
    const shorter = event.inputType === "deleteContentBackward" && this.#popup.isOpen;
    const value = VALUE.test(this.#editor.lineBefore);
    if ((letter && (value || this.#popup.isOpen)) || shorter) this.#propose({ told: false });
    else this.close();
  }

  /** told: whether somebody asked for it, and so is told that there is nothing. */
  async #propose({ told }) {
    const { line, column } = this.#editor.cursor;
    const text = this.#editor.text;
    let answer;
    try {
      answer = await this.#asked.ask((signal) => this.#ask({ text, line, column }, signal));
    } catch (error) {
      if (told && !isAborted(error)) say(`Nothing can be proposed: ${error.message}`);
      return;
    }
    if (answer === null || text !== this.#editor.text || document.activeElement !== this.#editor.field) return;
    // What stands there already completes nothing.
    const there = this.#editor.lineBefore.slice(answer.from - 1);
    const items = !told && answer.items.some((it) => it.insert.trim() === there.trim()) ? [] : answer.items;
    this.#place = answer;
    if (!items.length) {
      this.close();
      if (told) say("Nothing is known that may stand here.");
      return;
    }
    this.#popup.show(items);
    this.#put(answer.from);
    say(`${counted(items.length, "proposal")}; arrows choose, Enter takes one, Escape closes.`);
  }

  #take(item) {
    this.#editor.insert(item.insert, [this.#place.from, this.#place.to]);
    this.close();
  }

  /** Put the list below a column of the cursor's line. */
  #put(column) {
    const field = this.#editor.field;
    const style = getComputedStyle(field);
    const mirror = byId("mirror");
    mirror.textContent = this.#editor.lineBefore.slice(0, column - 1);
    const list = byId("proposals");
    const [padding, height] = [Number.parseFloat(style.paddingTop), Number.parseFloat(style.lineHeight)];
    const left = Number.parseFloat(style.paddingLeft) + mirror.getBoundingClientRect().width - field.scrollLeft;
    const top = padding + this.#editor.cursor.line * height - field.scrollTop;
    const room = field.clientWidth - list.offsetWidth - 4;
    list.style.setProperty("left", `${Math.max(0, Math.min(left, room))}px`);
    // Above the line where there is no room below.
    const below = window.innerHeight - field.getBoundingClientRect().top - top;
    const upwards = below < list.offsetHeight && top - height > list.offsetHeight;
    list.style.setProperty("top", `${upwards ? top - height - list.offsetHeight : top}px`);
    mirror.textContent = "";
  }
}
