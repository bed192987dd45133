// Numbers as people read them, as quantrecipe's commands write them.

const BINARY = [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];
const MINUS = "−";

/** 16919593440 → "15.76 GiB". */
export function bytesText(bytes) {
  const [unit, size] = unitOf(bytes);
  return size === 1 ? `${Math.round(bytes)} bytes` : `${(bytes / size).toFixed(2)} ${unit}`;
}

/** The largest unit of which there is one at least: ["GiB", 2 ** 30]. */
export function unitOf(bytes) {
  return BINARY.find(([, size]) => Math.abs(bytes) >= size) ?? ["bytes", 1];
}

/** 16919593440 → "16,919,593,440". */
export function grouped(number) {
  return Math.round(number).toLocaleString("en-US");
}

/** 8030000000 → "8.03 B". */
export function countText(weights) {
  let unit = "";
  for (unit of ["", "K", "M", "B", "T"]) {
    if (Math.abs(weights) < 1000 || unit === "T") break;
    weights /= 1000;
  }
  return unit ? `${weights.toFixed(2)} ${unit}` : `${Math.round(weights)}`;
}

/** (1, "rule") → "1 rule"; (3, "rule") → "3 rules". */
export function counted(number, what) {
  return number === 1 ? `1 ${what}` : `${grouped(number)} ${what}s`;
}

/** Three digits, however small: 0.00412, 1.2e-05. */
export function lossText(loss) {
  if (loss === 0) return "0";
  if (Math.abs(loss) >= 1e-4) return String(Number(loss.toPrecision(3)));
  return loss.toExponential(1).replace(/e-(\d)$/, "e-0$1");
}

/** A difference with its sign: (−1.5, text) → "−1.5". text: writes a number that isn't negative. */
export function signed(number, text) {
  const amount = text(Math.abs(number));
  if (amount === text(0)) return amount;
  return `${number < 0 ? MINUS : "+"}${amount}`;
}

/** How much larger than a base: (0.9, 1) → "−10 %". */
export function shareText(value, base) {
  return `${signed(100 * (value / base - 1), (it) => it.toFixed(it < 9.95 ? 1 : 0))} %`;
}

/** 131072 → "128k"; 4000 → "4,000". */
export function tokensText(tokens) {
  return tokens % 1024 === 0 ? `${tokens / 1024}k` : grouped(tokens);
}
