// The map of a mix: layers down, roles across; a table for each stack of layers, and one for what is in none.
// In a table the arrow keys move (ARIA's pattern "grid"). Fields that differ from the base have a mark besides their
// colour: ▲ more bits, ▼ fewer, ≠ another type.

import { byId, fill, make, visible } from "./dom.js";
import { bytesText, counted } from "./units.js";

const PAGE = 10;
// Rows that PageUp and PageDown go.
const OUTSIDE = "Outside the layers";

/** The maps of a plan. open: called with the role and the layer (null outside) of a field that somebody opens. */
export class LayerMap {
  #open;
  #box = byId("map");
  #grids = [];
  #shape = "";

  constructor(open) {
    this.#open = open;
  }

  /** Show a plan's maps; fields that stay keep the focus. base: the name of what it is compared with, or null. */
  show(plan, base) {
    const outside = plan.outside.length
      ? [{ name: OUTSIDE, columns: plan.outside.map((it) => it.role), rows: [{ layer: null, cells: plan.outside }] }]
      : [];
    const stacks = [plan.map, ...plan.more, ...outside].filter((it) => it.rows.length);
    const rows = (stack) => stack.rows.map((row) => [row.layer, row.cells.map(Boolean)]);
    const shape = JSON.stringify(stacks.map((it) => [it.name, it.columns, rows(it)]));
    if (shape !== this.#shape) {
      this.#grids = stacks.map((it) => new Grid(it, this.#open));
      fill(this.#box, ...this.#grids.map((it) => it.table));
      fill(byId("cell"), "Arrow keys move in the map; Enter goes to the rule in the text.");
    }
    this.#shape = shape;
    stacks.forEach((stack, place) => this.#grids[place].show(stack, base));
    byId("signs").hidden = !base;
  }
}

/** How a field differs from the base: a sign, "" where it doesn't. */
function mark(cell, base) {
  if (!base || cell.base_type === null || cell.base_type === cell.type) return "";
  if (cell.base_bits === null || cell.base_bits === cell.bits) return "≠";
  return cell.bits > cell.base_bits ? "▲" : "▼";
}

/** The table of one stack. */
class Grid {
  #open;
  #stack;
  #fields;
  #at = [0, 0];

  constructor(stack, open) {
    this.#open = open;
    this.#stack = stack;
    const { name, columns, rows } = stack;
    const layers = rows.some((row) => row.layer !== null);
    const heads = columns.map((it) => make("th", { scope: "col" }, ...breakable(it)));
    const head = make("tr", {}, make("th", { scope: "col" }, layers ? "layer" : ""), ...heads);
    this.#fields = rows.map((row, y) => row.cells.map((cell, x) => newField(cell, y, x)));
    const body = rows.map((row, y) =>
      make("tr", {}, make("th", { scope: "row" }, String(row.layer ?? "none")), ...this.#fields[y]));
    const label = name ? `Types: ${name}` : "Types by layer and role";
    this.table = make("table", { class: "map", role: "grid", "aria-label": label, "aria-readonly": "true" },
      name ? make("caption", {}, name) : null, make("thead", {}, head), make("tbody", {}, ...body));
    this.#fields[0]?.[0]?.setAttribute("tabindex", "0");
    this.table.addEventListener("keydown", (event) => this.#key(event));
    this.table.addEventListener("focusin", (event) => this.#focused(event.target));
    this.table.addEventListener("mouseover", (event) => this.#pointed(event.target));
    this.table.addEventListener("click", (event) => this.#clicked(event.target));
  }

  /** base: the name of what the mix is compared with, or null. */
  show(stack, base) {
    this.#stack = stack;
    stack.rows.forEach((row, y) => row.cells.forEach((cell, x) => {
      if (cell) this.#write(this.#fields[y][x], cell, mark(cell, base));
    }));
    if (this.table.contains(document.activeElement)) this.#tell(...this.#at);
  }

  #write(field, cell, sign) {
    const text = sign ? `${visible(cell.type)} ${sign}` : visible(cell.type);
    if (field.textContent !== text) field.textContent = text;
    const style = sign ? `${cell.shade} changed` : cell.shade;
    if (field.className !== style) field.className = style;
  }

  /** Say below the map what a field is. */
  #tell(y, x) {
    const cell = this.#stack.rows[y].cells[x];
    const size = cell ? `${bytesText(cell.bytes)} in ${counted(cell.tensors, "tensor")}` : "";
    fill(byId("cell"), cell ? `${cell.label}; ${size}` : "nothing is there");
  }

  #focused(target) {
    const place = placeOf(target);
    if (place === null) return;
    const [y, x] = this.#at;
    this.#fields[y][x].setAttribute("tabindex", "-1");
    target.setAttribute("tabindex", "0");
    this.#at = place;
    this.#tell(...place);
  }

  #pointed(target) {
    const place = placeOf(target.closest("td"));
    if (place !== null) this.#tell(...place);
  }

  #clicked(target) {
    const field = target.closest("td");
    const place = placeOf(field);
    if (place === null) return;
    field.focus();
    this.#opened(...place);
  }

  #opened(y, x) {
    const row = this.#stack.rows[y];
    if (!row.cells[x]) return;
    const role = this.#stack.columns[x];
    // Roles of another stack than the model's own have its name, and no layers: "v.blk.*.attn_q".
    if (this.#stack.name && row.layer !== null) this.#open(`${this.#stack.name}.*.${role}`, null);
    else this.#open(role, row.layer);
  }

  #key(event) {
    const place = placeOf(event.target);
    if (place === null || event.altKey || event.metaKey) return;
    const [y, x] = place;
    const [bottom, right] = [this.#fields.length - 1, this.#fields[0].length - 1];
    const moves = {
      ArrowUp: [y - 1, x],
      ArrowDown: [y + 1, x],
      ArrowLeft: [y, x - 1],
      ArrowRight: [y, x + 1],
      PageUp: [y - PAGE, x],
      PageDown: [y + PAGE, x],
      Home: [event.ctrlKey ? 0 : y, 0],
      End: [event.ctrlKey ? bottom : y, right],
    };
    if (event.key === "Enter") {
      event.preventDefault();
      this.#opened(y, x);
    } else if (event.key in moves) {
      event.preventDefault();
      const [toY, toX] = moves[event.key];
      this.#fields[Math.min(bottom, Math.max(0, toY))][Math.min(right, Math.max(0, toX))].focus();
    }
  }
}

function newField(cell, y, x) {
  const place = { class: "none", "data-y": String(y), "data-x": String(x), tabindex: "-1" };
  return make("td", place, cell ? null : make("span", { class: "unseen" }, "nothing"));
}

function placeOf(field) {
  return field?.dataset?.y === undefined ? null : [Number(field.dataset.y), Number(field.dataset.x)];
}

/** A name with places where it may break: behind each underscore and dot. */
function breakable(name) {
  return name.split(/(?<=[_.])/).flatMap((part, place) => (place ? [make("wbr"), part] : [part]));
}
