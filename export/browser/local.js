// Answers what app.js asks of a server, in this very page: films go nowhere.
//
// The page is the one of `cxr-edge serve`. Preparation, quality gate and decision are the portable C
// sources in cxr.wasm, the network runs in ONNX Runtime's wasm. Nothing is kept.
"use strict";
(() => {
  const fetched = window.fetch.bind(window);
  const MOST_BYTES = 64e6, MOST_PIXELS = 64e6;
  const FLAGS = ["too_small", "extreme_aspect", "colour", "low_contrast", "saturated", "inverted",
    "not_chest_like", "rotated", "mirrored", "incomplete", "degraded", "out_of_distribution"];
  const PNG_MARK = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  const examined = new WeakMap(); // by file: what the pictures are drawn from

  class FilmError extends Error {
    constructor(code, message) { super(message); this.code = code; }
  }

  // --- the memory of cxr.wasm: one film at a time -------------------------------------------------

  let C, bundle, session, ort;
  let heap = 0;

  function reserve(bytes) {
    const at = heap;
    heap = (heap + bytes + 15) & ~15;
    const missing = heap - C.memory.buffer.byteLength;
    if (missing > 0) {
      try { C.memory.grow(Math.ceil(missing / 65536)); }
      catch { throw new FilmError("image_too_large", "no memory for it"); }
    }
    return at;
  }

  const bytesAt = (at, count) => new Uint8Array(C.memory.buffer, at, count);

  function put(array) {
    const at = reserve(array.byteLength);
    bytesAt(at, array.byteLength).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    return at;
  }

  // --- start: everything is loaded, then the known answers are reproduced -----------------------

  // From a USB stick, where pages may read no files: all of them stand in files.js, if it was asked
  // for (`export web --usb`).
  const isLocal = location.protocol === "file:";
  let embedded = null;

  function embed() {
    embedded = embedded || new Promise((done, fail) => {
      const script = document.createElement("script");
      script.src = "files.js";
      script.onload = () => done(window.cxrFiles);
      script.onerror = () => fail(new Error("files.js is missing: export web --usb"));
      document.head.append(script);
    });
    return embedded;
  }

  async function file(path) {
    if (isLocal) {
      const text = (await embed())[path];
      if (text === undefined) throw new Error(path + ": missing");
      return new Response(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
    }
    const answer = await fetched(path);
    if (!answer.ok) throw new Error(path + ": " + answer.status);
    return answer;
  }

  async function start() {
    bundle = await (await file("bundle.json")).json();
    const math = { exp: Math.exp, log: Math.log, log1p: Math.log1p, expm1: Math.expm1 };
    const built = await WebAssembly.instantiate(await (await file("cxr.wasm")).arrayBuffer(), { env: math });
    C = built.instance.exports;
    // A page from a stick may import no file, but what it holds itself.
    const held = isLocal ? new Blob([await (await file("ort.mjs")).arrayBuffer()], { type: "text/javascript" }) : null;
    ort = await import(held ? URL.createObjectURL(held) : "./ort.mjs");
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await (await file("ort.wasm")).arrayBuffer();
    const model = await (await file("model.onnx")).arrayBuffer();
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    for (const known of bundle.known_answers) {
      const pixels = Uint8Array.from(atob(known.tensor_base64), (c) => c.charCodeAt(0));
      const { map } = await infer(pixels);
      heap = C.__heap_base.value;
      C.probability(put(map));
      known.logits.forEach((expected, unit) => {
        if (!(Math.abs(C.logit(unit) - expected) <= known.tolerance)) throw new Error("page.wrong_answers");
      });
    }
  }

  async function infer(pixels) {
    const { height, width } = bundle.input;
    const image = new ort.Tensor("uint8", pixels, [1, height, width, 1]);
    const out = await session.run({ image });
    return { map: out.map.data, features: out.features.data };
  }

  const ready = start();
  ready.catch((problem) => console.error(problem));
  if ("serviceWorker" in navigator && !isLocal) {
    navigator.serviceWorker.register("sw.js").catch((problem) => console.warn(problem));
  }

  // --- from a file to grey pixels in the memory of cxr.wasm -------------------------------------

  const begins = (bytes, mark) => mark.every((value, i) => bytes[i] === value);

  async function decode(file) {
    if (file.size === 0) throw new FilmError("empty_file", "the file is empty (0 bytes)");
    if (file.size > MOST_BYTES) throw new FilmError("file_too_large", "more than 64 MB");
    const bytes = new Uint8Array(await file.arrayBuffer());
    if (begins(bytes, PNG_MARK)) {
      const film = await decodePng(bytes);
      if (film) return { bytes, ...film };
    }
    if (String.fromCharCode(...bytes.subarray(128, 132)) === "DICM") {
      throw new FilmError("unsupported_format", "DICOM is not read in the browser: export PNG or JPEG");
    }
    return { bytes, ...(await decodeByBrowser(file, begins(bytes, [0xff, 0xd8, 0xff]))) };
  }

  async function decodeByBrowser(file, isJpeg) {
    let picture;
    try {
      picture = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    } catch {
      if (isJpeg) throw new FilmError("corrupt_image", "damaged or truncated JPEG");
      throw new FilmError("unsupported_format", "no picture that this browser reads");
    }
    const { width, height } = picture;
    if (width * height > MOST_PIXELS) throw new FilmError("image_too_large", "more than 64 million pixels");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    picture.close();
    const rgba = context.getImageData(0, 0, width, height).data;
    const at = put(rgba);
    const chroma = C.chroma(at, height, width);
    C.luma(at, width * height, at);
    // A JPEG decoder would do this while decoding: half, a quarter or an eighth, as long as both
    // sides stay as large as the model needs them.
    const [rows, columns] = bundle.input.least;
    const room = Math.min(Math.floor(width / columns), Math.floor(height / rows));
    const step = isJpeg ? [8, 4, 2, 1].find((s) => s === 1 || room >= s) : 1;
    if (step > 1) C.shrink(at, height, width, step);
    return { at, chroma, width: Math.ceil(width / step), height: Math.ceil(height / step), stored: [height, width] };
  }

  // PNG by its specification (W3C PNG, third edition), so that every bit counts: canvases give 8.
  // null for what is left to the browser: interlaced pictures, and those with transparency.
  async function decodePng(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const damaged = () => new FilmError("corrupt_image", "damaged or truncated PNG");
    let palette = null, at = 8, head = null;
    const parts = [];
    for (let ended = false; !ended;) {
      if (at + 12 > bytes.length) throw damaged();
      const length = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
      const data = bytes.subarray(at + 8, at + 8 + length);
      if (at + 12 + length > bytes.length || crc(bytes.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length)) throw damaged();
      if (type === "IHDR") head = new DataView(data.buffer, data.byteOffset, length);
      if (type === "PLTE") palette = data;
      if (type === "tRNS") return null;
      if (type === "IDAT") parts.push(data);
      ended = type === "IEND";
      at += 12 + length;
    }
    if (!head || head.byteLength !== 13) throw damaged();
    const [width, height] = [head.getUint32(0), head.getUint32(4)];
    const [depth, kind, interlaced] = [head.getUint8(8), head.getUint8(9), head.getUint8(12)];
    const channels = { 0: 1, 2: 3, 3: 1 }[kind];
    if (!channels || interlaced) return null;
    if (!width || !height || width * height > MOST_PIXELS) throw new FilmError("image_too_large", "more than 64 million pixels");
    const stride = Math.ceil((width * channels * depth) / 8), unit = Math.max(1, (channels * depth) >> 3);
    const lines = await inflate(parts, (stride + 1) * height, damaged);
    unfilter(lines, stride, height, unit, damaged);
    if (kind === 0 && depth === 16) {
      const pixels = reserve(2 * width * height), wide = bytesAt(pixels, 2 * width * height);
      for (let y = 0; y < height; y++) wide.set(lines.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1)), y * stride);
      C.narrow(pixels, width * height);
      return { at: pixels, chroma: 0, width, height, stored: [height, width] };
    }
    const grey = kind === 0, rgba = reserve(width * height * (grey ? 1 : 4));
    const out = bytesAt(rgba, width * height * (grey ? 1 : 4)), step = depth === 16 ? 2 : 1;
    for (let y = 0; y < height; y++) {
      const line = lines.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1));
      for (let x = 0; x < width; x++) {
        const to = y * width + x;
        if (kind === 2) {
          for (let c = 0; c < 3; c++) out[4 * to + c] = line[(3 * x + c) * step];
          continue;
        }
        const bit = x * depth, value = depth >= 8 ? line[x] : (line[bit >> 3] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
        if (grey) out[to] = depth >= 8 ? value : (value * 255) / ((1 << depth) - 1);
        else {
          if (!palette || 3 * value + 2 >= palette.length) throw damaged();
          for (let c = 0; c < 3; c++) out[4 * to + c] = palette[3 * value + c];
        }
      }
    }
    if (grey) return { at: rgba, chroma: 0, width, height, stored: [height, width] };
    const chroma = C.chroma(rgba, height, width);
    C.luma(rgba, width * height, rgba);
    return { at: rgba, chroma, width, height, stored: [height, width] };
  }

  async function inflate(parts, size, damaged) {
    const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    const all = new Uint8Array(size);
    let at = 0;
    try {
      for (let step = await reader.read(); !step.done && at < size; step = await reader.read()) {
        all.set(step.value.subarray(0, size - at), at);
        at += step.value.length;
      }
    } catch { throw damaged(); }
    reader.cancel().catch(() => {});
    if (at < size) throw damaged();
    return all;
  }

  function unfilter(lines, stride, height, unit, damaged) {
    for (let y = 0; y < height; y++) {
      const from = y * (stride + 1) + 1, above = from - stride - 1, kind = lines[from - 1];
      if (kind > 4) throw damaged();
      for (let i = 0; i < stride && kind; i++) {
        const a = i >= unit ? lines[from + i - unit] : 0, b = y ? lines[above + i] : 0;
        const c = i >= unit && y ? lines[above + i - unit] : 0;
        let guess = [0, a, b, (a + b) >> 1][kind];
        if (kind === 4) {
          const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
          guess = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
        }
        lines[from + i] += guess;
      }
    }
  }

  const CRC = Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n >>> 0;
  });

  function crc(bytes) {
    let value = 0xffffffff;
    for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
    return (value ^ 0xffffffff) >>> 0;
  }

  // --- one film ----------------------------------------------------------------------------------

  let turn = Promise.resolve(); // films share the memory of cxr.wasm

  function examine(file, population) {
    const next = turn.then(() => examineNow(file, population));
    turn = next.catch(() => {});
    return next;
  }

  async function examineNow(file, population) {
    const whose = population ? bundle.populations.findIndex((each) => each.name === population) : -1;
    const points = whose < 0 ? bundle.operating_points : bundle.populations[whose].operating_points;
    const place = bundle.operating_points.findIndex((each) => each.name === bundle.info.operating_point);
    const record = {
      schema: "cxr-edge/result/1", source: file.name, sha256: null, status: "error", probability: null, decision: null,
      operating_point: points[place].name, threshold: points[place].threshold,
      quality: { accepted: true, flags: [], ood_score: null },
      model: { ...bundle.info.model, sha256: bundle.sha256, engine: bundle.info.engine }, error: null,
    };
    if (whose >= 0) record.population = population;
    if (bundle.site) record.site = bundle.site;
    heap = C.__heap_base.value;
    let film;
    try {
      film = await decode(file);
      record.sha256 = await digest(film.bytes);
    } catch (problem) {
      if (!(problem instanceof FilmError)) throw problem;
      record.error = { code: problem.code, message: file.name + ": " + problem.message };
      return { record };
    }
    const { height, width } = bundle.input;
    const tensor = reserve(height * width), size = C.scratch_bytes(film.height, film.width);
    const scratch = size ? reserve(size) : 0;
    if (!size || C.prepare(film.at, film.height, film.width, tensor, scratch, size)) {
      record.error = { code: "image_too_large", message: file.name + ": a side of more than 65535 pixels" };
      return { record };
    }
    const pixels = bytesAt(tensor, height * width).slice();
    const { map, features } = await infer(pixels);
    const pooled = put(features);
    const flags = C.judge(...film.stored, film.chroma, tensor, pooled);
    const probability = Math.round(C.probability(put(map), pooled) * 1e8) / 1e8;
    record.quality = {
      accepted: C.is_accepted() === 1,
      flags: FLAGS.filter((_, bit) => flags & (1 << bit)),
      ood_score: Math.round(C.ood_score() * 1e4) / 1e4,
    };
    record.status = record.quality.accepted ? "ok" : "rejected";
    if (record.quality.accepted) {
      record.probability = probability;
      record.decision = ["normal", "uncertain", bundle.info.positive][C.decide(place, whose, probability)];
      if (bundle.findings.length) {
        record.findings = Object.fromEntries(bundle.findings.map((each, i) => [each.name, {
          probability: Math.round(C.finding(i) * 1e8) / 1e8,
          threshold: each.operating_points[place].threshold,
          decision: ["absent", "uncertain", "present"][C.decide_finding(i, place)],
        }]));
        const found = Object.values(record.findings).some((one) => one.decision !== "absent");
        if (record.decision === "normal" && found) record.decision = "uncertain";
      }
    }
    return { record, pixels, map, aspect: film.stored[1] / film.stored[0] };
  }

  async function digest(bytes) {
    if (!crypto.subtle) return null; // a page that is neither https nor on this machine
    const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // --- pictures, as edge_runtime/records/heatmap.py draws them -----------------------------------

  const SCALE = 3, LONGEST = 5, FULL_SCALE = 8, OPACITY = 0.55;
  const COLOURS = [[0, 255, 235, 80], [0.5, 253, 141, 40], [1, 200, 10, 20]];

  function pictureSize(aspect) {
    const longer = SCALE * Math.max(bundle.input.height, bundle.input.width);
    const within = Math.min(Math.max(aspect, 1 / LONGEST), LONGEST);
    return within < 1 ? [longer, Math.max(1, Math.round(longer * within))] : [Math.max(1, Math.round(longer / within)), longer];
  }

  function canvasOf(height, width, paint) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    paint(image.data);
    context.putImageData(image, 0, 0);
    return canvas;
  }

  function drawFilm({ pixels, aspect }) {
    const { height, width } = bundle.input, [tall, wide] = pictureSize(aspect);
    const small = canvasOf(height, width, (data) => {
      pixels.forEach((value, i) => data.set([value, value, value, 255], 4 * i));
    });
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [wide, tall];
    canvas.getContext("2d").drawImage(small, 0, 0, wide, tall);
    return canvas;
  }

  // (rows, columns) log odds of any disease, or of one finding.
  function evidence(map, finding) {
    const { rows, columns, units, softmax } = bundle.map, first = softmax ? 1 : 0;
    const chosen = finding === null ? [...Array(units - first).keys()] : [finding];
    return Float64Array.from({ length: rows * columns }, (_, cell) =>
      Math.max(...chosen.map((i) => map[cell * units + first + i] - (softmax ? map[cell * units] : 0))));
  }

  // Bicubic with a = -0.5, which is Pillow's; along rows of (count, size) -> (count, to).
  function enlarge(values, count, size, to) {
    const cubic = (x) => {
      const t = Math.abs(x);
      if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
      return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
    };
    const out = new Float64Array(count * to), scale = Math.max(1, size / to);
    for (let o = 0; o < to; o++) {
      const centre = ((o + 0.5) * size) / to;
      const from = Math.max(0, Math.floor(centre - 2 * scale + 0.5)), end = Math.min(size, Math.floor(centre + 2 * scale + 0.5));
      const weights = [];
      for (let i = from; i < end; i++) weights.push(cubic((i - centre + 0.5) / scale));
      const sum = weights.reduce((a, b) => a + b, 0);
      for (let row = 0; row < count; row++) {
        let value = 0;
        weights.forEach((weight, k) => { value += (weight / sum) * values[row * size + from + k]; });
        out[row * to + o] = value;
      }
    }
    return out;
  }

  function turned(values, rows, columns) {
    return Float64Array.from({ length: rows * columns }, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]);
  }

  function drawHeat({ map, aspect }, finding) {
    const { rows, columns } = bundle.map, [tall, wide] = pictureSize(aspect);
    const above = evidence(map, finding).map((value) => value - bundle.evidence_floor);
    const across = enlarge(above, rows, columns, wide);
    const smooth = turned(enlarge(turned(across, rows, wide), wide, rows, tall), wide, tall);
    return canvasOf(tall, wide, (data) => {
      smooth.forEach((value, i) => {
        const level = Math.min(Math.max(value / FULL_SCALE, 0), 1);
        const [low, high] = level < 0.5 ? [COLOURS[0], COLOURS[1]] : [COLOURS[1], COLOURS[2]];
        const share = (level - low[0]) * 2;
        for (let c = 1; c < 4; c++) data[4 * i + c - 1] = low[c] + share * (high[c] - low[c]) + 0.5;
        data[4 * i + 3] = 255 * OPACITY * Math.sqrt(level) + 0.5;
      });
    });
  }

  // --- what app.js asks --------------------------------------------------------------------------

  const json = (value, status = 200) => new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json" } });
  const problem = (status, code, message) => json({ error: { code, message } }, status);

  async function answerMessages(query) {
    const all = await (await file("messages.json")).json();
    const wanted = query.get("lang");
    if (wanted !== null && !(wanted in all)) return problem(400, "bad_request", "lang must be one of " + Object.keys(all).join(", "));
    const language = wanted || navigator.languages.map((name) => name.slice(0, 2)).find((name) => name in all) || "en";
    const messages = { ...all[language] };
    for (const key of Object.keys(messages)) {
      if (key.endsWith(".browser")) messages[key.slice(0, -8)] = messages[key]; // what is so here alone
    }
    return json({ language, messages });
  }

  async function answer(path, query, body) {
    if (path === "v1/messages") {
      try { return await answerMessages(query); } catch (fault) { return problem(500, "not_loaded", fault.message); }
    }
    try { await ready; }
    catch (fault) {
      const wrong = fault.message === "page.wrong_answers";
      return problem(500, wrong ? "wrong_answers" : "not_loaded", String(fault.message));
    }
    if (path === "v1/info") return json(bundle.info);
    const population = query.get("population") || null;
    if (path === "v1/screen") {
      const examination = await examine(body, population);
      if (examination.pixels) examined.set(body, examination);
      return json(examination.record);
    }
    const examination = examined.get(body), layer = query.get("layer");
    if (!examination) return problem(422, "corrupt_image", "there is nothing to draw");
    if (layer !== "image" && examination.record.decision === null) return problem(422, "rejected", "there is no evidence");
    const named = bundle.findings.findIndex((each) => each.name === query.get("finding"));
    const canvas = layer === "image" ? drawFilm(examination) : drawHeat(examination, named < 0 ? null : named);
    return new Response(await new Promise((done) => canvas.toBlob(done, layer === "image" ? "image/jpeg" : "image/png")));
  }

  window.fetch = (resource, options = {}) => {
    const [path, query] = String(resource).split("?");
    if (!path.startsWith("v1/")) return fetched(resource, options);
    return answer(path, new URLSearchParams(query || ""), options.body);
  };
})();
