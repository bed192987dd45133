// Choosing a model: a text field with what was opened before and the reference shapes as proposals.

import { byId, fill, make, sayProblem, sentence } from "./dom.js";
import { keepModel, recentModels } from "./kept.js";
import { Popup } from "./popup.js";
import { countText, counted } from "./units.js";

/** The name of a file or a folder without what is before it. */
export function lastPart(path) {
  return path.split(/[/\\]/).filter(Boolean).pop() ?? path;
}

/** The field. open: called with what was chosen, a text. */
export class Chooser {
  #open;
  #shapes = [];
  #field = byId("model");
  #popup;
  #opened = null;
  #facts = [];

  constructor(open) {
    this.#open = open;
    this.#popup = new Popup(this.#field, byId("models"), (item) => this.#take(item.label));
    this.#field.addEventListener("input", () => this.#propose());
    this.#field.addEventListener("click", () => this.#propose());
    this.#field.addEventListener("blur", () => this.#popup.close());
    this.#field.addEventListener("keydown", (event) => {
      if (this.#popup.isOpen && event.key === "Tab") this.#popup.close();
      else if (this.#popup.key(event)) return;
      else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        this.#propose();
      }
    });
    byId("choose").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#popup.close();
      this.#take(this.#field.value);
    });
  }

  /** The shapes that may be chosen: [{name, label, parameters}]. */
  set shapes(shapes) {
    this.#shapes = shapes.map((it) => ({ ...it, weights: countText(it.parameters) }));
    const buttons = this.#shapes.map((it) =>
      make("li", {}, make("button", { type: "button", click: () => this.#take(it.name) },
        make("span", { class: "label" }, it.label), make("span", { class: "detail" }, it.weights))));
    fill(byId("shapes"), ...buttons);
  }

  /** Say that a model is being opened. */
  busy(model) {
    this.#field.value = model;
    byId("choose").setAttribute("aria-busy", "true");
    sayProblem(byId("model-problem"), null);
    fill(byId("facts"), `Reading the headers of ${model} …`);
  }

  /** Say what a model is that is open. known: what the server says of it. */
  show(model, known) {
    this.#opened = model;
    keepModel(model);
    byId("choose").removeAttribute("aria-busy");
    const facts = [
      known.architecture,
      `${countText(known.parameters)} weights in ${counted(known.tensors, "tensor")}`,
      known.layers ? counted(known.layers, "layer") : "",
    ];
    const name = make("b", { title: known.name }, lastPart(known.name));
    this.#facts = [name, ...facts.filter(Boolean).map((it) => ` · ${it}`)];
    fill(byId("facts"), ...this.#facts);
    fill(byId("model-notes"), ...known.notes.map((it) => make("p", { class: "hint" }, ...sentence(it))));
  }

  /** Say why a model can't be opened, or isn't there any more; null where all is well. */
  problem(error) {
    byId("choose").removeAttribute("aria-busy");
    fill(byId("facts"), ...this.#facts);
    sayProblem(byId("model-problem"), error);
  }

  #take(model) {
    const chosen = model.trim();
    this.#field.value = chosen;
    if (chosen) this.#open(chosen);
    else this.problem({ message: "no model is named", remedy: "write where it is, or choose a reference shape" });
  }

  #propose() {
    const typed = this.#field.value.trim().toLowerCase();
    const all = [
      ...recentModels().map((it) => ({ label: it, group: "Opened before" })),
      ...this.#shapes.map((it) => ({ label: it.name, group: "Reference shapes", detail: it.weights })),
    ];
    // What is open already narrows nothing down.
    const open = typed === (this.#opened ?? "").toLowerCase();
    this.#popup.show(open ? all : all.filter((it) => it.label.toLowerCase().includes(typed)), -1);
  }
}
