// The list of groups: tensors that have one type for one reason. Each leads to its rule in the text.

import { byId, fill, make } from "./dom.js";
import { bytesText } from "./units.js";

/** The list. open: called with the line of a group's rule. */
export class Groups {
  #open;
  #groups = [];
  #shades = new Map();
  #shown = "";

  constructor(open) {
    this.#open = open;
  }

  /** types: of the plan, for their colours; base: the name of what it is compared with, or null. */
  show(groups, types, base) {
    this.#groups = groups;
    this.#shades = new Map(types.map((it) => [it.type, it.shade]));
    const shown = JSON.stringify([groups, base]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const list = byId("group-list");
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.place : null;
    fill(list, ...groups.map((it, place) => this.#row(it, place, base)));
    if (focused !== null) list.querySelector(`[data-place="${focused}"]`)?.focus();
  }

  /** The line of the rule that decides a role in a layer, or null. */
  line(role, layer) {
    return this.#groups.find((it) => it.role === role && isIn(layer, it.layers))?.line ?? null;
  }

  #row(group, place, base) {
    const { role, layers, type, line } = group;
    const where = layers ? `${/[-,]/.test(layers) ? "layers" : "layer"} ${layers}` : "";
    const name = [make("span", { class: "label" }, role), make("span", { class: "detail" }, where)];
    const leads = {
      type: "button",
      class: "leads",
      title: `to line ${line} of the text`,
      "data-place": String(place),
      click: () => this.#open(line),
    };
    const changed = base && group.base_type && group.base_type !== type;
    return make("li", {},
      line ? make("button", leads, ...name) : make("span", { class: "leads" }, ...name),
      make("span", {}, make("span", { class: `swatch ${this.#shades.get(type) ?? ""}` }, type),
        changed ? make("span", { class: "before" }, `was ${group.base_type}`) : null),
      make("span", { class: "number" }, bytesText(group.bytes)),
      make("span", { class: "why" }, group.why));
  }
}

/** Whether a layer is one of "0-2, 7". What is in no layer is in the empty text. */
function isIn(layer, layers) {
  if (layer === null || !layers) return layer === null && !layers;
  return layers.split(",").some((part) => {
    const [first, last = first] = part.split("-").map((it) => Number(it.trim()));
    return first <= layer && layer <= last;
  });
}
