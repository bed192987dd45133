// The recipe's text: a text field with line numbers, marks where problems are, and the problems below it.
// Undoing is the browser's own: texts are put in as if they had been typed.

import { byId, fill, make, sayProblem, sentence } from "./dom.js";
import { counted } from "./units.js";

const SIGNS = { error: "✕", warning: "▲", note: "●" };
const ORDER = ["error", "warning", "note"];
const INDENT = /^(\s*)/;

/** The editor. typed: called when somebody changed the text. */
export class Editor {
  #field = byId("text");
  #gutter = byId("gutter");
  #marks = new Map();
  #lines = 0;
  #setting = false;

  constructor(typed) {
    this.#field.addEventListener("input", () => {
      this.#number();
      if (!this.#setting) typed();
    });
    this.#field.addEventListener("scroll", () => {
      this.#gutter.scrollTop = this.#field.scrollTop;
    });
    this.#field.addEventListener("keydown", (event) => {
      // A new line begins below the one before.
      if (event.key !== "Enter" || event.defaultPrevented || event.isComposing) return;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.insert(`\n${INDENT.exec(this.lineBefore)[1]}`);
    });
    this.#number();
  }

  get field() {
    return this.#field;
  }

  get text() {
    return this.#field.value;
  }

  /** Another text that nobody typed. What was typed before can't be undone then; it is the same mix. */
  set(text) {
    if (text === this.text) return;
    const { scrollTop, scrollLeft } = this.#field;
    this.#field.value = text;
    this.#field.setSelectionRange(0, 0);
    this.#field.scrollTop = scrollTop;
    this.#field.scrollLeft = scrollLeft;
    this.#number();
  }

  /** Another text in place of one that somebody typed: undoing brings that back. */
  replace(text) {
    this.#setting = true;
    this.#field.focus({ preventScroll: true });
    this.#field.select();
    if (!document.execCommand("insertText", false, text)) this.#field.value = text;
    this.#field.setSelectionRange(0, 0);
    this.#field.scrollTop = 0;
    this.#setting = false;
    this.#number();
  }

  /** Put text in at the cursor, or instead of the columns (from, to) of its line (from 1 on; to is behind the last). */
  insert(text, columns = null) {
    if (columns !== null) {
      const start = this.#field.selectionStart - this.lineBefore.length;
      this.#field.setSelectionRange(start + columns[0] - 1, start + columns[1] - 1);
    }
    // The only way that the browser's own undo knows of.
    if (!document.execCommand("insertText", false, text)) {
      this.#field.setRangeText(text, this.#field.selectionStart, this.#field.selectionEnd, "end");
      this.#field.dispatchEvent(new Event("input"));
    }
  }

  /** What stands before the cursor in its line. */
  get lineBefore() {
    const before = this.text.slice(0, this.#field.selectionStart);
    return before.slice(before.lastIndexOf("\n") + 1);
  }

  /** Line and column of the cursor, from 1 on. */
  get cursor() {
    const before = this.text.slice(0, this.#field.selectionStart);
    return { line: before.split("\n").length, column: this.lineBefore.length + 1 };
  }

  /** Move the cursor to a place, and select up to an end in the same line. */
  go(line, column = 1, endColumn = null) {
    const lines = this.text.split("\n");
    const row = Math.min(Math.max(1, line), lines.length);
    const start = lines.slice(0, row - 1).reduce((sum, it) => sum + it.length + 1, 0);
    const from = Math.min(column - 1, lines[row - 1].length);
    const to = endColumn === null ? from : Math.min(Math.max(from, endColumn - 1), lines[row - 1].length);
    this.#field.focus();
    this.#field.setSelectionRange(start + from, start + to);
    const height = Number.parseFloat(getComputedStyle(this.#field).lineHeight);
    const top = (row - 1) * height;
    const { scrollTop, clientHeight } = this.#field;
    const hidden = top < scrollTop || top + 2 * height > scrollTop + clientHeight;
    if (hidden) this.#field.scrollTop = Math.max(0, top - clientHeight / 3);
  }

  /** Show the problems of the text, by line. */
  problems(found) {
    // What is about the whole text has no line, and comes first.
    const place = (it) => (it.line ?? 0) * 1e6 + (it.column ?? 0);
    const sorted = [...found].sort((one, other) => place(one) - place(other));
    this.#marks = new Map(sorted.map((it) => [it.line, worst(sorted.filter((other) => other.line === it.line))]));
    this.#lines = 0;
    this.#number();
    fill(byId("problems-title"), summary(sorted));
    byId("problems-title").className = worst(sorted);
    fill(byId("problems"), ...sorted.map((it) => this.#problem(it)));
    this.#field.setAttribute("aria-invalid", String(sorted.some((it) => it.severity === "error")));
    sayProblem(byId("checked"), null);
  }

  /** Say that the text couldn't be checked, and why. */
  unchecked(error) {
    sayProblem(byId("checked"), error);
  }

  #problem(it) {
    const end = it.line && it.end_line === it.line ? it.end_column : null;
    const where = `${it.line ? `Line ${it.line}` : "The whole text"}, ${it.severity}: `;
    const code = it.code ? make("span", { class: "code" }, it.code) : null;
    return make("li", { class: it.severity },
      make("button", { type: "button", click: () => this.go(it.line ?? 1, it.column ?? 1, end) },
        make("span", { class: "sign", "aria-hidden": "true" }, SIGNS[it.severity]),
        make("span", { class: "where" }, where), make("span", {}, ...sentence(it.message))),
      code, it.remedy ? make("p", { class: "remedy" }, ...sentence(it.remedy)) : null);
  }

  #number() {
    const lines = this.text.split("\n").length;
    if (lines === this.#lines) return;
    this.#lines = lines;
    const numbers = Array.from({ length: lines }, (_, place) => {
      const severity = this.#marks.get(place + 1);
      return make("div", { class: severity ?? null }, severity ? `${SIGNS[severity]} ${place + 1}` : String(place + 1));
    });
    fill(this.#gutter, ...numbers);
    this.#gutter.scrollTop = this.#field.scrollTop;
  }
}

/** "2 errors, 1 note". */
export function summary(problems) {
  const counts = ORDER.map((severity) => [problems.filter((it) => it.severity === severity).length, severity]);
  const parts = counts.filter(([count]) => count).map(([count, severity]) => counted(count, severity));
  return parts.join(", ") || "No problems";
}

/** The worst severity of some problems, "" where there are none. */
function worst(problems) {
  return ORDER.find((severity) => problems.some((it) => it.severity === severity)) ?? "";
}
