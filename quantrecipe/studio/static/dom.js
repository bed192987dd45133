// Elements of the page. Names from models and files reach it as text only: nothing here takes HTML, and characters
// that turn or hide text are spelt out.

const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  return document.getElementById(id);
}

/** The text with control characters spelt out: a mark that turns the writing direction becomes "\u202e". */
export function visible(text) {
  return String(text).replace(INVISIBLE, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/**
 * A new element.
 *
 * attributes: strings; true for one without a value; null, undefined and false are left out; functions are listeners
 * children:   elements, or texts
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, visible(value));
  }
  fill(element, ...children);
  return element;
}

/** Let an element have these children, elements or texts, instead of those that it has. */
export function fill(element, ...children) {
  const there = children.filter((it) => it !== null && it !== undefined && it !== "");
  element.replaceChildren(...there.map((it) => (it instanceof Node ? it : visible(it))));
}

/** A sentence of the program: what stands between backticks is code. */
export function sentence(text) {
  return text.split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part));
}

/** Say a problem where it belongs, with its remedy; nothing where error is null. */
export function sayProblem(element, error) {
  if (error === null) {
    fill(element);
    return;
  }
  const remedy = error.remedy ? make("span", { class: "remedy" }, ...sentence(error.remedy)) : null;
  fill(element, make("p", {}, ...sentence(error.message), remedy));
}

/** Tell people who don't see the page what has changed. */
export function say(text) {
  byId("said").textContent = visible(text);
}
