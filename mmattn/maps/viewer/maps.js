// Numbers: unpacking the tables of tables.py, and the map that a view asks for.

const UNSIGNED_TOP = 254;
const SIGNED_ZERO = 127;
const NOT_A_NUMBER = 255;
const [CONSTANT, CONSTANT_LESS_MEAN] = [1, 2];

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

async function inflated(base64) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error(
      "This browser cannot unpack the maps: it has no DecompressionStream. " +
        "Chrome and Edge 80, Safari 16.4 and Firefox 113 have it.",
    );
  }
  const packed = new Blob([bytesOf(base64)]).stream();
  return new Response(packed.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}

class Tables {
  // float32 [rows, 4], then one byte a cell, then one a row.
  constructor(buffer, rows) {
    this.statistics = new Float32Array(buffer, 0, 4 * rows);
    this.levels = new Uint8Array(buffer, 16 * rows);
    this.flags = this.levels.subarray(this.levels.length - rows);
  }

  // One row as numbers, with what is known of it: a map.
  row(table, index) {
    const [scale, peak, mass, entropy] = this.statistics.subarray(4 * (table.row + index));
    const start = table.cell + index * table.columns;
    const levels = this.levels.subarray(start, start + table.columns);
    const [zero, top] = table.signed ? [SIGNED_ZERO, SIGNED_ZERO] : [0, UNSIGNED_TOP];
    const values = Float32Array.from(levels, (level) =>
      level === NOT_A_NUMBER ? NaN : ((level - zero) / top) * scale,
    );
    const flags = this.flags[table.row + index];
    const constant = Boolean(flags & CONSTANT);
    const constantLessMean = Boolean(flags & CONSTANT_LESS_MEAN);
    return { values, peak, mass, entropy, signed: table.signed, constant, constantLessMean };
  }
}

// Tables of one kind hold planes (heads of a layer, their mean, next layer …, mean of all layers)
// and in each a row for every query: a word, a token or a patch.
function planeOf(kind, layer, head) {
  const width = kind.heads + 1;
  if (layer === null) return kind.layers.length * width;
  return layer * width + (head === null ? kind.heads : head);
}

function planesOf(kind) {
  return kind.layers.length * (kind.heads + 1) + 1;
}

function rowOf(tables, kind, query, layer, head) {
  const queries = kind.table.rows / planesOf(kind);
  return tables.row(kind.table, planeOf(kind, layer, head) * queries + query);
}

// A map less the mean of all words' maps: what this word sees that others do not.
function lessMean(map, others) {
  const values = map.values.map(
    (value, i) => value - others.reduce((sum, other) => sum + other.values[i], 0) / others.length,
  );
  const constant = map.constantLessMean;
  const known = values.filter(Number.isFinite);
  if (constant) flatten(values, known, Math.max(...others.map(({ peak }) => Math.abs(peak))));
  const peak = known.reduce((far, value) => (Math.abs(value) > Math.abs(far) ? value : far), 0);
  const mass = known.reduce((sum, value) => sum + value, 0);
  return { values, peak, mass, entropy: NaN, signed: true, constant };
}

// Make one value of values that differ by the rounding of levels up to `size`; near 0 make it 0.
function flatten(values, known, size) {
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  const one = Math.abs(mean) < 1e-6 * size ? 0 : mean;
  known.fill(one);
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i])) values[i] = one;
}

// What is odd about a map, in words; nothing for most.
function oddities(map) {
  const bad = map.values.filter((value) => !Number.isFinite(value)).length;
  const said = [];
  if (bad) said.push(`${bad} of ${map.values.length} values are not finite numbers (hatched)`);
  if (map.constant && map.values.length > 1) {
    said.push(`constant: every ${bad ? "other " : ""}patch has ${number(map.peak)}`);
  }
  return said;
}

// The ends of the colours for maps that share a scale, as scale.py has them: from 0, or evenly
// around 0 where values have signs; to the largest size, but at least some times the mean size.
function scaleOf(maps) {
  let top = 0;
  for (const { values } of maps) {
    const sizes = values.filter(Number.isFinite).map(Math.abs);
    const sum = sizes.reduce((total, size) => total + size, 0);
    for (const size of sizes) top = Math.max(top, size);
    top = Math.max(top, (LOOK.flat * sum) / values.length);
  }
  return maps.some((map) => map.signed) ? { low: -top, high: top } : { low: 0, high: top };
}

// Two significant digits, or the whole number from 10 on, as in the pictures; zero as a bare 0.
function number(value) {
  if (!Number.isFinite(value)) return "not a number";
  const size = Math.abs(value);
  let text = size.toPrecision(2);
  if (size === 0) text = "0";
  else if (size >= 9.95 && size < 99999.5) text = size.toFixed(0);
  else if (size < 0.001 || size >= 99999.5) text = size.toExponential(1).replace("e+", "e");
  return (value < 0 ? "-" : "").concat(text).replaceAll("-", "−");
}
