// What the browser keeps: the models that were opened, and for a reload what is open in this tab.

const MODELS = "quantrecipe-models";
const TAB = "quantrecipe-tab";
const MOST_MODELS = 8;

function read(store, key) {
  try {
    return JSON.parse(store.getItem(key));
  } catch {
    return null;
  }
}

function write(store, key, value) {
  try {
    store.setItem(key, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing only has nothing to remember.
  }
}

/** Models that were opened, the newest first. */
export function recentModels() {
  const kept = read(localStorage, MODELS);
  return Array.isArray(kept) ? kept.filter((it) => typeof it === "string").slice(0, MOST_MODELS) : [];
}

export function keepModel(model) {
  write(localStorage, MODELS, [model, ...recentModels().filter((it) => it !== model)].slice(0, MOST_MODELS));
}

/** What this tab had open at the server of this token: {model, text}, each a text or null. */
export function openTab(token) {
  const kept = read(sessionStorage, TAB);
  const own = kept !== null && kept.token === token;
  return { model: own ? kept.model : null, text: own ? kept.text : null };
}

export function keepTab(token, model, text) {
  write(sessionStorage, TAB, { token, model, text });
}
