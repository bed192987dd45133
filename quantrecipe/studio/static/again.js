// On the page that the server shows to who comes without a token: a tab that was reloaded has kept its own.
// It is tried once. Where it was of an earlier server, the page that says so stays.

const kept = sessionStorage.getItem("quantrecipe-token");
if (kept !== null && !new URL(window.location.href).searchParams.has("token")) {
  window.location.replace(`/?token=${encodeURIComponent(kept)}`);
}
