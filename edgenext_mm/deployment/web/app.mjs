// The page: reads images, runs the model in ONNX Runtime Web, draws results.
import { checkMetadata, corners, inputOf, prepare, resultOf } from './core.mjs';

const $ = (id) => document.getElementById(id);
const state = { metadata: null, session: null, image: null, outcome: null, stream: null };
const RUNTIMES = { wasm: 'ort.wasm.min.mjs', webgpu: 'ort.webgpu.min.mjs' };

async function start() {
  try {
    const response = await fetch('model.json');
    state.metadata = await response.json();
    checkMetadata(state.metadata);
    document.title = state.metadata.title;
    $('title').textContent = state.metadata.title;
    $('backend').append(new Option('CPU (WebAssembly)', 'wasm'));
    if (await navigator.gpu?.requestAdapter().catch(() => null)) {
      $('backend').append(new Option('GPU (WebGPU)', 'webgpu'));
    }
    $('threshold').hidden = !state.metadata.task.endsWith('detection');
    await open($('backend').value);
    $('hint').textContent = 'Drop an image here, paste one, choose one, or use the camera.';
    document.body.dataset.ready = 'yes';
  } catch (error) {
    show(error);
  }
}

async function open(backend) {
  const ort = await import(new URL(`ort/${RUNTIMES[backend]}`, import.meta.url));
  ort.env.wasm.wasmPaths = new URL('ort/', import.meta.url).href;
  // Threads need a page that is isolated from others: see the headers in docs/deployment.md.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
  const options = { executionProviders: [backend], logSeverityLevel: 3 };
  state.session = await ort.InferenceSession.create('model.onnx', options);
  state.ort = ort;
  state.backend = backend;
}

// The pixels of a picture, without colour management, which Python does not do either.
async function pixelsOf(source) {
  const options = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' };
  const bitmap = await createImageBitmap(source, options);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const data = new Uint8Array(bitmap.width * bitmap.height * 3);
  for (let i = 0, j = 0; i < rgba.length; i += 4) {
    data[j++] = rgba[i];
    data[j++] = rgba[i + 1];
    data[j++] = rgba[i + 2];
  }
  return { image: { data, width: bitmap.width, height: bitmap.height }, bitmap };
}

export async function predict(image, scoreThr = 0) {
  const { metadata, session, ort } = state;
  const started = performance.now();
  const prepared = prepare(image, metadata);
  const { type, data, dims, shape } = inputOf(prepared, metadata);
  const feeds = { images: new ort.Tensor(type, data, dims) };
  const ready = performance.now();
  const found = await session.run(feeds);
  const ran = performance.now();
  const outputs = session.outputNames.map((name) => found[name]);
  const result = resultOf(outputs, prepared, shape, metadata, scoreThr);
  const done = performance.now();
  return {
    result,
    times: { Preparing: ready - started, Network: ran - ready, Result: done - ran },
  };
}

async function run(source) {
  $('error').textContent = '';
  const { image, bitmap } = await pixelsOf(source);
  const threshold = state.metadata.task.endsWith('detection') ? Number($('score').value) : 0;
  const outcome = await predict(image, threshold);
  Object.assign(state, { source, outcome });
  draw(bitmap, outcome.result);
  list(outcome);
}

function colourOf(i) {
  const [r, g, b] = state.metadata.palette[i] ?? [];
  if (r !== undefined && r + g + b > 0) return [r, g, b];
  const turn = (i * 137.5) % 360;
  const part = (shift) => Math.round(255 * (0.5 + 0.45 * Math.cos(((turn - shift) * Math.PI) / 180)));
  return [part(0), part(120), part(240)];
}

const css = (i) => `rgb(${colourOf(i).join(' ')})`;

function draw(bitmap, result) {
  const canvas = $('canvas');
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.hidden = false;
  $('hint').hidden = true;
  const context = canvas.getContext('2d');
  context.drawImage(bitmap, 0, 0);
  if (result.sem_seg) drawMask(context, result);
  if (Array.isArray(result)) result.forEach((object) => drawObject(context, object));
}

function drawMask(context, { sem_seg: labels, width, height }) {
  const image = context.getImageData(0, 0, width, height);
  labels.forEach((label, i) => {
    colourOf(label).forEach((value, c) => {
      image.data[4 * i + c] = 0.45 * image.data[4 * i + c] + 0.55 * value;
    });
  });
  context.putImageData(image, 0, 0);
}

function drawObject(context, { box, label, score, class: name }) {
  const size = Math.max(context.canvas.width, context.canvas.height);
  const [x1, y1, x2, y2] = box;
  const points = box.length === 5 ? corners(box) : [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];
  context.lineWidth = Math.max(1.5, size / 320);
  context.strokeStyle = css(label);
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  context.closePath();
  context.stroke();
  const text = `${name} ${(100 * score).toFixed(0)}%`;
  const high = Math.max(11, size / 45);
  context.font = `${high}px system-ui, sans-serif`;
  const [x, y] = [Math.min(...points.map((p) => p[0])), Math.min(...points.map((p) => p[1]))];
  const top = Math.max(y - high * 1.25, 0);
  context.fillStyle = css(label);
  context.fillRect(x, top, context.measureText(text).width + high / 2, high * 1.25);
  context.fillStyle = colourOf(label).reduce((a, b) => a + b) > 400 ? '#000' : '#fff';
  context.fillText(text, x + high / 4, top + high);
}

function list({ result, times }) {
  const rows = rowsOf(result);
  $('list').replaceChildren(
    ...rows.slice(0, 100).map(([label, name, value]) => {
      const item = document.createElement('li');
      const [mark, text, number] = ['i', 'span', 'b'].map((tag) => document.createElement(tag));
      mark.style.background = css(label);
      [text.textContent, number.textContent] = [name, value];
      item.append(mark, text, number);
      return item;
    }),
  );
  const threads = state.backend === 'wasm' ? `${state.ort.env.wasm.numThreads} threads` : 'GPU';
  const lines = Object.entries(times).map(([name, ms]) => [name, `${ms.toFixed(1)} ms`]);
  $('times').replaceChildren(
    ...[...lines, ['Runs on', threads]].flatMap(([name, value]) => {
      const [term, detail] = ['dt', 'dd'].map((tag) => document.createElement(tag));
      [term.textContent, detail.textContent] = [name, value];
      return [term, detail];
    }),
  );
}

function rowsOf(result) {
  const percent = (value) => `${(100 * value).toFixed(1)}%`;
  if (Array.isArray(result)) {
    $('summary').textContent = `${result.length} object${result.length === 1 ? '' : 's'}`;
    return result.map((o) => [o.label, o.class, percent(o.score)]);
  }
  const { classes } = state.metadata;
  if (result.sem_seg) {
    $('summary').textContent = 'Share of the image';
    const counts = new Map();
    result.sem_seg.forEach((label) => counts.set(label, (counts.get(label) ?? 0) + 1));
    return [...counts]
      .sort((a, b) => b[1] - a[1])
      .map(([label, n]) => [label, classes[label] ?? label, percent(n / result.sem_seg.length)]);
  }
  $('summary').textContent = result.pred_class ?? (result.pred_classes.join(', ') || 'none');
  return result.pred_scores
    .map((score, i) => [i, classes[i] ?? i, score])
    .sort((a, b) => b[2] - a[2])
    .slice(0, 10)
    .map(([label, name, score]) => [label, name, percent(score)]);
}

function show(error) {
  console.warn(error);
  $('error').textContent = error.message ?? String(error);
}

const guarded = (action) => (...given) => action(...given).catch(show);
const runSafely = guarded(run);

async function toggleCamera() {
  if (state.stream) {
    state.stream.getTracks().forEach((track) => track.stop());
    state.stream = null;
    $('camera').textContent = 'Use the camera';
    return;
  }
  if (!navigator.mediaDevices) throw new Error('The camera needs a page from https or localhost.');
  const video = { facingMode: 'environment' };
  state.stream = await navigator.mediaDevices.getUserMedia({ video });
  $('camera').textContent = 'Stop the camera';
  $('video').srcObject = state.stream;
  await $('video').play();
  while (state.stream) {
    if ($('video').readyState >= 2) await run($('video'));
    await new Promise(requestAnimationFrame);
  }
}

$('file').onchange = ({ target }) => target.files[0] && runSafely(target.files[0]);
$('camera').onclick = guarded(toggleCamera);
$('backend').onchange = guarded(async ({ target }) => {
  await open(target.value);
  if (state.source) await run(state.source);
});
$('score').oninput = ({ target }) => {
  $('shown').textContent = Number(target.value).toFixed(2);
  if (state.source && !state.stream) runSafely(state.source);
};
document.addEventListener('paste', ({ clipboardData }) => {
  if (clipboardData.files[0]) runSafely(clipboardData.files[0]);
});
for (const kind of ['dragover', 'dragleave', 'drop']) {
  $('drop').addEventListener(kind, (event) => {
    event.preventDefault();
    $('drop').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop' && event.dataTransfer.files[0]) runSafely(event.dataTransfer.files[0]);
  });
}

// For scripts: a picture by its address, and the result as in Python.
window.edgenext = {
  async predict(url, scoreThr = 0) {
    const blob = await (await fetch(url)).blob();
    const { image } = await pixelsOf(blob);
    return predict(image, scoreThr);
  },
  async show(url) {
    await run(await (await fetch(url)).blob());
  },
};

start();
