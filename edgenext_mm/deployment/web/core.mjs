// From images to results, without a browser's own resizing: the JavaScript twin of
// edgenext_mm/runtime. Images are {data: Uint8Array, width, height}, red-green-blue.

// Resizing.

const PILLOW_FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => cubic(Math.abs(x), -0.5)],
  lanczos: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function cubic(x, a) {
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

// The pixels that each new pixel is made of, and their weights. OpenCV's linear ones are whole numbers
// of 2 ** -11, Pillow's of 2 ** -22.
function opencvTaps(old, size, interpolation) {
  const taps = [];
  for (let i = 0; i < size; i++) {
    const exact = (i + 0.5) * (old / size) - 0.5;
    const position = interpolation === 'bilinear' ? Math.fround(exact) : exact;
    let first = Math.floor(position);
    let part = position - first;
    let index, weights;
    if (interpolation === 'nearest') {
      index = [Math.floor((i * old) / size)];
      weights = [1];
    } else if (interpolation === 'bilinear') {
      if (first < 0 || first >= old - 1) part = 0;
      first = Math.min(Math.max(first, 0), old - 1);
      index = [first, first + 1];
      weights = [Math.fround(1 - part), part].map((w) => roundHalfToEven(w * 2048));
    } else {
      const outer = cubic(1 + part, -0.75);
      const inner = [cubic(part, -0.75), cubic(1 - part, -0.75)];
      index = [first - 1, first, first + 1, first + 2];
      weights = [outer, ...inner, 1 - outer - inner[0] - inner[1]];
    }
    taps.push({
      index: index.map((j) => Math.min(Math.max(j, 0), old - 1)),
      weights,
    });
  }
  return taps;
}

function pillowTaps(old, size, interpolation) {
  const [reach, filter] = PILLOW_FILTERS[interpolation];
  const scale = old / size;
  const stretch = Math.max(scale, 1);
  const taps = [];
  for (let i = 0; i < size; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * stretch + 0.5));
    const last = Math.min(old, Math.trunc(centre + reach * stretch + 0.5));
    const index = Array.from({ length: last - first }, (_, k) => first + k);
    const values = index.map((j) => filter((j - centre + 0.5) / stretch));
    const sum = values.reduce((a, b) => a + b, 0);
    taps.push({ index, weights: values.map((v) => Math.round((v / sum) * 2 ** 22)) });
  }
  return taps;
}

const clamp = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);

export function resize(image, [width, height], interpolation, backend) {
  if (image.width === width && image.height === height) return image;
  const pillow = backend === 'pillow';
  const known = pillow ? Object.keys(PILLOW_FILTERS) : ['nearest', 'bilinear', 'bicubic'];
  if (!known.includes(interpolation)) {
    throw new Error(`This page cannot resize images with ${interpolation} of ${backend}.`);
  }
  const halves = image.width === 2 * width && image.height === 2 * height;
  if (!pillow && interpolation === 'bilinear' && halves) return meanOfFour(image, width, height);
  const taps = pillow ? pillowTaps : opencvTaps;
  const columns = taps(image.width, width, interpolation);
  const rows = taps(image.height, height, interpolation);
  // Pillow rounds to eight bits after each direction, OpenCV drops bits of linear sums.
  const linear = !pillow && interpolation === 'bilinear';
  const lines = new Float64Array(image.height * width * 3);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < width; x++) {
      const { index, weights } = columns[x];
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < index.length; k++) {
          sum += image.data[(y * image.width + index[k]) * 3 + c] * weights[k];
        }
        if (pillow) sum = clamp(Math.floor((sum + 2 ** 21) / 2 ** 22));
        lines[(y * width + x) * 3 + c] = linear ? Math.floor(sum / 16) : sum;
      }
    }
  }
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const { index, weights } = rows[y];
    for (let i = 0; i < width * 3; i++) {
      let sum = 0;
      for (let k = 0; k < index.length; k++) {
        const product = lines[index[k] * width * 3 + i] * weights[k];
        sum += linear ? Math.floor(product / 65536) : product;
      }
      if (linear) sum = Math.floor((sum + 2) / 4);
      else if (pillow) sum = Math.floor((sum + 2 ** 21) / 2 ** 22);
      else sum = roundHalfToEven(sum);
      data[y * width * 3 + i] = clamp(sum);
    }
  }
  return { data, width, height };
}

function meanOfFour(image, width, height) {
  const data = new Uint8Array(width * height * 3);
  const at = (x, y, c) => image.data[(y * image.width + x) * 3 + c];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        const [u, v] = [2 * x, 2 * y];
        const sum = at(u, v, c) + at(u + 1, v, c) + at(u, v + 1, c) + at(u + 1, v + 1, c);
        data[(y * width + x) * 3 + c] = (sum + 2) >> 2;
      }
    }
  }
  return { data, width, height };
}

// Preprocessing.

const STEPS = {
  Resize({ scale, scale_factor: factor, keep_ratio: keep, interpolation, backend }) {
    return (image) => {
      const { width, height } = image;
      const target = typeof scale === 'number' ? [scale, scale] : scale;
      let factors = typeof factor === 'number' ? [factor, factor] : factor;
      if (target && !keep) return resize(image, target, interpolation ?? 'bilinear', backend);
      if (target) {
        const [long, short] = [Math.max(...target), Math.min(...target)];
        const f = Math.min(long / Math.max(width, height), short / Math.min(width, height));
        factors = [f, f];
      }
      const size = [Math.floor(width * factors[0] + 0.5), Math.floor(height * factors[1] + 0.5)];
      return resize(image, size, interpolation ?? 'bilinear', backend);
    };
  },
  ResizeEdge({ scale, edge = 'short', interpolation = 'bilinear', backend }) {
    return (image) => {
      const { width, height } = image;
      const byWidth = { short: width < height, long: width > height }[edge] ?? edge === 'width';
      const size = byWidth
        ? [scale, Math.trunc((scale * height) / width)]
        : [Math.trunc((scale * width) / height), scale];
      return resize(image, size, interpolation, backend);
    };
  },
  CenterCrop({ crop_size: size }) {
    const [cropWidth, cropHeight] = typeof size === 'number' ? [size, size] : size;
    return (image) => {
      const width = Math.min(cropWidth, image.width);
      const height = Math.min(cropHeight, image.height);
      const left = Math.max(0, roundHalfToEven((image.width - cropWidth) / 2));
      const top = Math.max(0, roundHalfToEven((image.height - cropHeight) / 2));
      const data = new Uint8Array(width * height * 3);
      for (let y = 0; y < height; y++) {
        const start = ((top + y) * image.width + left) * 3;
        data.set(image.data.subarray(start, start + width * 3), y * width * 3);
      }
      return { data, width, height };
    };
  },
};

function roundHalfToEven(x) {
  const floor = Math.floor(x);
  return x - floor === 0.5 ? floor + (floor % 2) : Math.round(x);
}

const nameOf = (step) => step.type.split('.').pop();

// Throws if the page cannot follow the pipeline of a model.
export function checkMetadata(metadata) {
  const unknown = metadata.preprocessing.steps.map(nameOf).find((name) => !(name in STEPS));
  if (unknown) throw new Error(`The test pipeline has the step ${unknown}, unknown to this page.`);
  if (!Object.keys(metadata.results).length) {
    throw new Error('The file holds raw outputs. Export the model with --include decode.');
  }
}

// An image after the steps of the pipeline, with the factors by which it was resized.
export function prepare(image, metadata) {
  let [current, size] = [image, [image.width, image.height]];
  for (const step of metadata.preprocessing.steps) {
    const next = STEPS[nameOf(step)]({ backend: 'cv2', ...step })(current);
    if (nameOf(step).startsWith('Resize')) size = [next.width, next.height];
    current = next;
  }
  const factors = [size[0] / image.width, size[1] / image.height];
  return { image: current, original: [image.height, image.width], factors };
}

// The input of the file: its dimensions, data and type.
export function inputOf({ image }, metadata) {
  const { preprocessing, dynamic, include, task } = metadata;
  const divisor =
    preprocessing.testing?.size_divisor || preprocessing.pad_size_divisor || 1;
  const padded = (side) => Math.ceil(side / divisor) * divisor;
  const height = dynamic.includes('height') ? padded(image.height) : metadata.shape[0];
  const width = dynamic.includes('width') ? padded(image.width) : metadata.shape[1];
  const same = image.height === height && image.width === width;
  if (image.height > height || image.width > width || (task === 'classification' && !same)) {
    const given = `${image.width}x${image.height}`;
    throw new Error(`The file takes ${width}x${height} pixels, the image has ${given}.`);
  }
  const { mean, std, pad_value: value } = preprocessing;
  const flips = preprocessing.channel_order === 'BGR';
  const order = flips ? [2, 1, 0] : [0, 1, 2]; // of channels of the network, in RGB
  if (include.includes('preprocess')) {
    const data = new Uint8Array(height * width * 3);
    const fill = [0, 1, 2].map((c) => clamp(roundHalfToEven(mean[c] + value * std[c])))
      .map((_, c, values) => values[order[c]]);
    for (let i = 0; i < height * width; i++) data.set(fill, 3 * i);
    for (let y = 0; y < image.height; y++) {
      const start = y * image.width * 3;
      data.set(image.data.subarray(start, start + image.width * 3), y * width * 3);
    }
    return { type: 'uint8', data, dims: [1, height, width, 3], shape: [height, width] };
  }
  const data = new Float32Array(height * width * 3).fill(value);
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < image.height; y++) {
      for (let x = 0; x < image.width; x++) {
        const value = image.data[(y * image.width + x) * 3 + order[c]];
        data[(c * height + y) * width + x] = (value - mean[c]) / std[c];
      }
    }
  }
  return { type: 'float32', data, dims: [1, 3, height, width], shape: [height, width] };
}

// Results: the same keys as in Python. `outputs` are {data, dims} in the order of the metadata.
export function resultOf(outputs, prepared, shape, metadata, scoreThr = 0) {
  if (metadata.task === 'classification') return classesOf(outputs[0].data, metadata);
  if (metadata.task === 'segmentation') return masksOf(outputs[0], prepared, shape, metadata);
  return objectsOf(outputs, prepared, shape, metadata, scoreThr);
}

function scoresOf(output, { results, include }) {
  if (include.includes('decode')) return Array.from(output);
  if (results.activation !== 'softmax') return Array.from(output, (v) => 1 / (1 + Math.exp(-v)));
  const highest = output.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Array.from(output, (v) => Math.exp(v - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / sum);
}

function classesOf(output, metadata) {
  const { results, classes } = metadata;
  const scores = scoresOf(output, metadata);
  const name = (i) => classes[i] ?? String(i);
  if (results.activation === 'softmax') {
    const label = scores.indexOf(Math.max(...scores));
    return { pred_label: label, pred_class: name(label), pred_scores: scores };
  }
  const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a]);
  const found = results.threshold === null
    ? order.slice(0, results.topk)
    : scores.map((_, i) => i).filter((i) => scores[i] >= results.threshold);
  return { pred_labels: found, pred_classes: found.map(name), pred_scores: scores };
}

function masksOf({ data, dims }, { image, original }, shape, { results, include }) {
  const [height, width] = original;
  const labels = new Int32Array(height * width);
  if (include.includes('decode')) {
    for (let y = 0; y < height; y++) {
      const row = Math.trunc((y + 0.5) * (image.height / height));
      for (let x = 0; x < width; x++) {
        const column = Math.trunc((x + 0.5) * (image.width / width));
        labels[y * width + x] = Number(data[row * dims[2] + column]);
      }
    }
    return { sem_seg: labels, width, height };
  }
  const [, channels, rows, columns] = dims;
  const best = new Float32Array(height * width).fill(-Infinity);
  for (let c = 0; c < channels; c++) {
    const map = { data: data.subarray(c * rows * columns, (c + 1) * rows * columns), rows, columns };
    const input = resizeMap(map, shape, results.align_corners);
    const logits = resizeMap(crop(input, image), original, results.align_corners).data;
    for (let i = 0; i < labels.length; i++) {
      if (channels === 1) labels[i] = 1 / (1 + Math.exp(-logits[i])) > results.threshold ? 1 : 0;
      else if (logits[i] > best[i]) [best[i], labels[i]] = [logits[i], c];
    }
  }
  return { sem_seg: labels, width, height };
}

function crop({ data, columns }, { width, height }) {
  const kept = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    kept.set(data.subarray(y * columns, y * columns + width), y * width);
  }
  return { data: kept, rows: height, columns: width };
}

function resizeMap({ data, rows, columns }, [height, width], alignCorners) {
  if (rows === height && columns === width) return { data, rows, columns };
  const places = (old, size) =>
    Array.from({ length: size }, (_, i) => {
      let at = alignCorners ? (i * (old - 1)) / Math.max(size - 1, 1) : (i + 0.5) * (old / size) - 0.5;
      at = Math.min(Math.max(at, 0), old - 1);
      const low = Math.floor(at);
      return [low, Math.min(low + 1, old - 1), at - low];
    });
  const [ys, xs] = [places(rows, height), places(columns, width)];
  const result = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    const [top, bottom, v] = ys[y];
    for (let x = 0; x < width; x++) {
      const [left, right, u] = xs[x];
      const a = data[top * columns + left] * (1 - v) + data[bottom * columns + left] * v;
      const b = data[top * columns + right] * (1 - v) + data[bottom * columns + right] * v;
      result[y * width + x] = a * (1 - u) + b * u;
    }
  }
  return { data: result, rows: height, columns: width };
}

function objectsOf(outputs, prepared, shape, metadata, scoreThr) {
  return select(outputs, prepared, shape, metadata.results)
    .filter((object) => object.score >= scoreThr)
    .map((object) => ({ ...object, class: metadata.classes[object.label] ?? `${object.label}` }));
}

// The order of steps is that of edgenext_mm/runtime/boxes.py.
export function select([boxes, scores, quality], { image, factors }, shape, selection) {
  const count = boxes.dims[2];
  const classes = scores.dims[2];
  const found = [];
  let start = 0;
  selection.strides.forEach((stride, level) => {
    const cells = Math.ceil(shape[0] / stride) * Math.ceil(shape[1] / stride);
    const end = start + (selection.sizes?.[level] ?? cells * selection.num_priors[level]);
    const best = [];
    for (let i = start * classes; i < end * classes; i++) {
      if (scores.data[i] > selection.score_thr) best.push(i);
    }
    best.sort((a, b) => scores.data[b] - scores.data[a]);
    for (const i of best.slice(0, selection.nms_pre)) {
      const row = Math.floor(i / classes);
      let box = Array.from(boxes.data.subarray(row * count, (row + 1) * count));
      if (selection.clip) box = clipped(box, image);
      box = rescaled(box, factors);
      const sides = count === 5 ? box.slice(2, 4) : [box[2] - box[0], box[3] - box[1]];
      const least = selection.min_bbox_size;
      if (least !== null && !(Math.min(...sides) > least)) continue;
      const score = scores.data[i] * (quality ? quality.data[row] : 1);
      found.push({ box, score, label: i % classes });
    }
    start = end;
  });
  found.sort((a, b) => b.score - a.score);
  return nms(found, selection);
}

function clipped(box, { width, height }) {
  const within = (value, limit) => Math.min(Math.max(value, 0), limit);
  if (box.length === 5) {
    return [within(box[0], width - 1), within(box[1], height - 1), ...box.slice(2)];
  }
  return box.map((value, i) => within(value, i % 2 ? height : width));
}

function rescaled(box, factors) {
  const [x, y] = factors.map((factor) => 1 / factor);
  if (box.length === 4) return [box[0] * x, box[1] * y, box[2] * x, box[3] * y];
  const [cos, sin] = [Math.cos(box[4]), Math.sin(box[4])];
  return [
    box[0] * x,
    box[1] * y,
    box[2] * Math.hypot(x * cos, y * sin),
    box[3] * Math.hypot(x * sin, y * cos),
    Math.atan2(x * sin, y * cos),
  ];
}

export function nms(objects, selection) {
  const kept = [];
  for (const object of objects) {
    if (kept.length === selection.max_per_img) break;
    const overlaps = kept.some(
      (other) =>
        (selection.class_agnostic || other.label === object.label) &&
        iou(other.box, object.box) > selection.iou_threshold,
    );
    if (!overlaps) kept.push(object);
  }
  return kept;
}

export function iou(a, b) {
  const area = (box) =>
    box.length === 5 ? box[2] * box[3] : (box[2] - box[0]) * (box[3] - box[1]);
  let common;
  if (a.length === 5) {
    common = polygonArea(clipPolygon(corners(a), corners(b)));
  } else {
    const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
    const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    common = Math.max(width, 0) * Math.max(height, 0);
  }
  return common / Math.max(area(a) + area(b) - common, 1e-6);
}

export function corners([x, y, width, height, angle]) {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([a, b]) => [
    x + (a * width * cos - b * height * sin) / 2,
    y + (a * width * sin + b * height * cos) / 2,
  ]);
}

// The part of a polygon inside a convex one, side by side (Sutherland and Hodgman).
function clipPolygon(subject, window) {
  let points = subject;
  window.forEach((from, i) => {
    const to = window[(i + 1) % window.length];
    const side = (p) => (to[0] - from[0]) * (p[1] - from[1]) - (to[1] - from[1]) * (p[0] - from[0]);
    const next = [];
    points.forEach((point, j) => {
      const other = points[(j + 1) % points.length];
      const [s, t] = [side(point), side(other)];
      if (s >= 0) next.push(point);
      if (s >= 0 !== t >= 0) {
        const u = s / (s - t);
        next.push([point[0] + u * (other[0] - point[0]), point[1] + u * (other[1] - point[1])]);
      }
    });
    points = next;
  });
  return points;
}

function polygonArea(points) {
  let doubled = 0;
  points.forEach(([x, y], i) => {
    const [u, v] = points[(i + 1) % points.length];
    doubled += x * v - u * y;
  });
  return Math.abs(doubled) / 2;
}
