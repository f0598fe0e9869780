// Pictures: laying a map on an image's pixels, as geometry.py and render.py do.

// How the library draws, from the page's data: 256 times RGB for heat and for values with signs,
// opacity where there is no attention (`veil`) and at the top of the scale (`alpha`), how fast it
// rises where values have signs (`steep`), and `flat`.
let LOOK = {};

function setLook(look) {
  LOOK = { ...look, heat: bytesOf(look.heat), signed: bytesOf(look.signed) };
}

// Levels of heat are whole numbers 0 to 255 that scale.py and colours.py define: where values have
// signs, 127 is zero, and 0 and 254 are the ends.
function clippedLevel(heat) {
  return Math.max(0, Math.min(255, Math.floor(heat)));
}

function heatRule(scale, signed) {
  const top = scale.high || 1;
  return signed ? { times: 127 / top, plus: 127.5 } : { times: 256 / top, plus: 1e-5 };
}

function colourOf(value, scale, signed) {
  const { times, plus } = heatRule(scale, signed);
  const level = clippedLevel(value * times + plus);
  return (signed ? LOOK.signed : LOOK.heat).subarray(3 * level, 3 * level + 3);
}

async function loadedImage(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

// The pixels of an image at a size: grey (ITU-R BT.601) and colour.
function pixelsOf(image, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = width < image.naturalWidth;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data;
  const grey = new Uint8Array(width * height);
  for (let i = 0; i < grey.length; i++) {
    const at = 4 * i;
    grey[i] = Math.round(0.299 * rgba[at] + 0.587 * rgba[at + 1] + 0.114 * rgba[at + 2]);
  }
  return { width, height, rgba, grey };
}

// The size at which an image is drawn: a small one enlarged by a whole factor, so that its pixels
// stay visible, a large one reduced to `side`.
function drawnSize(image, side) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const ratio = side / Math.max(width, height);
  const factor = ratio >= 1 ? Math.floor(ratio) : ratio;
  return [Math.max(1, Math.round(width * factor)), Math.max(1, Math.round(height * factor))];
}

// How much each cell counts for each pixel on one axis, where the network's picture spans
// start..stop of the pixels. Where pixels are coarser than cells they average over their area.
function axis(pixels, start, stop, cells, smooth) {
  const weights = new Float32Array(pixels * cells);
  const seen = new Uint8Array(pixels);
  // The cells from..to of a pixel are those that count for it: four of them at most, mostly.
  const [from, to] = [new Uint16Array(pixels), new Uint16Array(pixels)];
  const span = stop - start;
  for (let pixel = 0; pixel < pixels; pixel++) {
    const low = ((pixel - start) / span) * cells;
    const high = ((pixel + 1 - start) / span) * cells;
    const centre = (low + high) / 2;
    seen[pixel] = centre >= 0 && centre < cells;
    const row = weights.subarray(pixel * cells, (pixel + 1) * cells);
    if (high - low > 1 + 1e-9) spread(row, low, high);
    else if (seen[pixel] && smooth) interpolate(row, centre);
    else if (seen[pixel]) row[Math.floor(centre)] = 1;
    from[pixel] = Math.max(0, row.findIndex(Boolean));
    to[pixel] = row.findLastIndex(Boolean) + 1;
  }
  return { weights, seen, from, to };
}

function spread(row, low, high) {
  for (let cell = 0; cell < row.length; cell++) {
    const shared = Math.min(high, cell + 1) - Math.max(low, cell);
    row[cell] = Math.max(0, shared) / (high - low);
  }
}

// Keys' cubic kernel with a = -1/2; beyond the border the border's cell is repeated.
function interpolate(row, centre) {
  const first = Math.floor(centre - 0.5) - 1;
  for (let cell = first; cell < first + 4; cell++) {
    const inside = Math.max(0, Math.min(row.length - 1, cell));
    row[inside] += cubic(Math.abs(centre - 0.5 - cell));
  }
}

function cubic(distance) {
  if (distance <= 1) return (1.5 * distance - 2.5) * distance ** 2 + 1;
  return distance < 2 ? ((-0.5 * distance + 2.5) * distance - 4) * distance + 2 : 0;
}

// Where the cells of a grid lie among the pixels: both axes, kept while nothing of it changes.
const keptAxes = new Map();

function axesOf(pixels, placed, grid, smooth) {
  const { width, height } = pixels;
  const key = [width, height, placed.size, placed.box, grid, smooth].join();
  if (!keptAxes.has(key)) {
    const [rows, columns] = [height / placed.size[0], width / placed.size[1]];
    const [top, left, bottom, right] = placed.box;
    if (keptAxes.size > 16) keptAxes.clear();
    keptAxes.set(key, {
      rows: axis(height, top * rows, bottom * rows, grid[0], smooth),
      columns: axis(width, left * columns, right * columns, grid[1], smooth),
    });
  }
  return keptAxes.get(key);
}

// rows [height, h] times cells [h, w] times columns [w, width].
function projected(cells, [h, w], axes, height, width) {
  const result = new Float32Array(height * width);
  const line = new Float32Array(w);
  const { rows, columns } = axes;
  for (let y = 0; y < height; y++) {
    line.fill(0);
    for (let r = rows.from[y]; r < rows.to[y]; r++) {
      const weight = rows.weights[y * h + r];
      for (let c = 0; c < w; c++) line[c] += weight * cells[r * w + c];
    }
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let c = columns.from[x]; c < columns.to[x]; c++) {
        sum += columns.weights[x * w + c] * line[c];
      }
      result[y * width + x] = sum;
    }
  }
  return result;
}

// The opacity of the 256 levels: it rises from the veil to `alpha`; where values have signs, from 0
// and faster, as colours near zero are almost white there.
function opacities(signed, alpha) {
  const veil = Math.min(LOOK.veil, alpha);
  return Float32Array.from({ length: 256 }, (_, level) => {
    const strength = Math.min(1, (LOOK.steep * Math.abs(level - 127)) / 127);
    return signed ? alpha * strength : veil + ((alpha - veil) * level) / 255;
  });
}

// The sheet that unseen pixels fade into.
function sheet() {
  return getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g).map(Number);
}

// Draw a map over an image. `placed` says where the network's picture lies on the original; what
// it did not see fades. At opacity 0 the image stands alone, in its colours.
function paint(canvas, pixels, map, { placed, grid, scale, smooth, alpha }) {
  const { width, height, grey, rgba } = pixels;
  const axes = axesOf(pixels, placed, grid, smooth);
  const known = map.values.map((value) => (Number.isFinite(value) ? value : 0));
  const values = projected(known, grid, axes, height, width);
  const { times, plus } = heatRule(scale, map.signed);
  const colours = map.signed ? LOOK.signed : LOOK.heat;
  const opacity = opacities(map.signed, alpha);
  const hatched = hatching(map, pixels, placed, grid);
  const colour = Math.max(0, 1 - alpha / LOOK.veil); // how much of the image's own colour is left
  // What the veil does where the colours near zero are black.
  const dim = map.signed ? 1 - Math.min(LOOK.veil, alpha) : 1;
  const fade = sheet();
  const data = new ImageData(width, height);
  for (let i = 0; i < grey.length; i++) {
    const level = clippedLevel(values[i] * times + plus);
    const seen = axes.rows.seen[(i / width) | 0] && axes.columns.seen[i % width];
    const over = opacity[level];
    for (let c = 0; c < 3; c++) {
      const under = grey[i] + (rgba[4 * i + c] - grey[i]) * colour;
      const mixed = (1 - over) * under * dim + over * colours[3 * level + c];
      data.data[4 * i + c] = seen || !alpha ? mixed : 0.3 * under + 0.7 * fade[c];
    }
    if (seen && alpha && hatched && hatched(i)) data.data.set([214, 40, 150], 4 * i);
    data.data[4 * i + 3] = 255;
  }
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(data, 0, 0);
}

// Whether a pixel is on a stripe of a patch whose value is no number; null if all are numbers.
function hatching(map, pixels, placed, grid) {
  if (map.values.every(Number.isFinite)) return null;
  const { rows, columns } = axesOf(pixels, placed, grid, false);
  const bad = map.values.map((value) => (Number.isFinite(value) ? 0 : 1));
  const marked = projected(bad, grid, { rows, columns }, pixels.height, pixels.width);
  return (i) => marked[i] > 0.5 && (((i / pixels.width) | 0) + (i % pixels.width)) % 8 < 4;
}

// Draw a map alone, one pixel a patch.
function paintCells(canvas, map, [h, w], scale) {
  [canvas.width, canvas.height] = [w, h];
  const data = new ImageData(w, h);
  map.values.forEach((value, i) => {
    const known = Number.isFinite(value);
    data.data.set(known ? colourOf(value, scale, map.signed) : [214, 40, 150], 4 * i);
    data.data[4 * i + 3] = 255;
  });
  canvas.getContext("2d").putImageData(data, 0, 0);
}

// The colour bar, low to high.
function paintRamp(canvas, signed) {
  const low = signed ? -1 : 0;
  const values = Float32Array.from(
    { length: canvas.width },
    (_, i) => low + ((1 - low) * i) / (canvas.width - 1),
  );
  paintCells(canvas, { values, signed }, [1, canvas.width], { low, high: 1 });
}

// Colour an element as a value on a scale, with text that stays readable.
function tint(made, value, scale, signed = false) {
  const [r, g, b] = colourOf(value, scale, signed);
  made.style.backgroundColor = `rgb(${r}, ${g}, ${b})`;
  // Relative luminance (WCAG 2.2): at 0.179 black and white have the same contrast, 4.6 to 1.
  const [red, green, blue] = [r, g, b].map((level) => {
    const share = level / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  made.style.color = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

function clearTint(made) {
  made.style.backgroundColor = "";
  made.style.color = "";
}
