// The service counts code points, JavaScript's strings count UTF-16 units: an emoji is one of the first, two of these.

/**
 * Turn a range of code points into one of UTF-16 units.
 * @param {string} text what the offsets count in
 * @param {number} start first code point
 * @param {number} end code point after the last
 * @returns {[number, number]} the range for text.slice
 */
export function toUnits(text, start, end) {
  const units = [text.length, text.length];
  let unit = 0;
  let point = 0;
  for (;;) {
    if (point === start) units[0] = unit;
    if (point === end) {
      units[1] = unit;
      break;
    }
    if (unit >= text.length) break;
    unit += text.codePointAt(unit) > 0xffff ? 2 : 1;
    point += 1;
  }
  return units;
}

/** How many code points a text has. */
export function countPoints(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
