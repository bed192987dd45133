// A list of proposals below a text field: arrows choose, and the field keeps the focus (ARIA's pattern "combobox").

import { fill, make, visible } from "./dom.js";

let made = 0;

/**
 * The list. field: the element that has the focus; list: an empty listbox; take: called with the item that was chosen.
 *
 * Items are {label, detail, group}: what is shown, what is said of it, and the heading above it.
 */
export class Popup {
  #field;
  #list;
  #take;
  #items = [];
  #options = [];
  #at = -1;

  constructor(field, list, take) {
    this.#field = field;
    this.#list = list;
    this.#take = take;
    // The field would lose the focus to what is pressed.
    list.addEventListener("mousedown", (event) => event.preventDefault());
  }

  get isOpen() {
    return !this.#list.hidden;
  }

  get chosen() {
    return this.#items[this.#at] ?? null;
  }

  /** Show items. first: the place of the one that is chosen already, −1 for none. */
  show(items, first = 0) {
    this.#items = items;
    this.#options = [];
    const lines = [];
    let group = null;
    items.forEach((item, place) => {
      if (item.group && item.group !== group) {
        lines.push(make("li", { role: "presentation", class: "heading" }, item.group));
      }
      group = item.group ?? null;
      const option = make(
        "li",
        { role: "option", id: `option-${(made += 1)}`, "aria-selected": "false", click: () => this.#choose(place) },
        make("span", { class: "label" }, item.label),
        item.detail ? make("span", { class: "detail" }, item.detail) : null,
      );
      this.#options.push(option);
      lines.push(option);
    });
    fill(this.#list, ...lines);
    this.#list.hidden = items.length === 0;
    this.#list.scrollTop = 0;
    this.#expanded();
    this.#move(items.length ? first : -1);
  }

  close() {
    this.#items = [];
    this.#options = [];
    this.#list.hidden = true;
    fill(this.#list);
    this.#expanded();
    this.#move(-1);
  }

  /** What a key does here; true where it was meant for the list. Enter and Tab take what is chosen. */
  key(event) {
    if (!this.isOpen || event.altKey || event.ctrlKey || event.metaKey) return false;
    const count = this.#items.length;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.key in steps) {
      const step = steps[event.key];
      const from = this.#at < 0 && step < 0 ? count : this.#at;
      const to = from + step;
      this.#move(Math.abs(step) === 1 ? (to + count) % count : Math.min(count - 1, Math.max(0, to)));
    } else if (event.key === "Escape") {
      this.close();
    } else if ((event.key === "Enter" || event.key === "Tab") && this.#at >= 0 && !event.shiftKey) {
      this.#choose(this.#at);
    } else {
      return false;
    }
    event.preventDefault();
    return true;
  }

  #choose(place) {
    const item = this.#items[place];
    this.close();
    this.#take(item);
  }

  #move(place) {
    this.#options[this.#at]?.setAttribute("aria-selected", "false");
    this.#at = place;
    const option = this.#options[place];
    if (option === undefined) {
      this.#field.removeAttribute("aria-activedescendant");
      return;
    }
    option.setAttribute("aria-selected", "true");
    this.#field.setAttribute("aria-activedescendant", visible(option.id));
    option.scrollIntoView({ block: "nearest" });
  }

  #expanded() {
    // A text of many lines can't be a combobox; it has no such state.
    if (this.#field.getAttribute("role") === "combobox") {
      this.#field.setAttribute("aria-expanded", String(this.isOpen));
    }
  }
}
