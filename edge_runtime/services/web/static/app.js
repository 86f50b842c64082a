"use strict";
const $ = (id) => document.getElementById(id);
const records = [];
let info = null;
let words = {};

function say(key) {
  return words[key] || key.slice(key.indexOf(".") + 1).replaceAll("_", " ");
}

async function translate() {
  const answer = await fetch("v1/messages" + location.search);
  if (!answer.ok) return;
  const found = await answer.json();
  words = found.messages;
  document.documentElement.lang = found.language;
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
}

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: "Bearer " + token } : {};
}

async function start() {
  const answer = await fetch("v1/info", { headers: headers() });
  $("token-section").hidden = answer.status !== 401;
  if (!answer.ok) { $("model").textContent = "A token is needed."; return; }
  info = await answer.json();
  $("model").textContent = info.model.name + " " + info.model.version + " on " + info.engine +
    "; " + say("page.point") + " " + info.operating_point + ": " + say("decision.pneumonia") +
    " ≥ " + info.threshold.toFixed(4);
  $("use").textContent = info.intended_use;
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

async function post(path, file) {
  for (let attempt = 0; ; attempt++) {
    const answer = await fetch(path, {
      method: "POST", body: file,
      headers: { ...headers(), "x-source": encodeURIComponent(file.name) },
    });
    if (answer.status !== 503 || attempt > 30) return answer;
    await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("retry-after") || 1)));
  }
}

async function screenOne(file) {
  const item = element("li");
  item.append(element("p", "quiet", file.name + " …"));
  $("results").prepend(item);
  let record;
  try {
    const answer = await post("v1/screen", file);
    const body = await answer.json();
    record = answer.ok ? body
      : { source: file.name, status: "error", error: body.error, probability: null, decision: null };
  } catch (problem) {
    record = { source: file.name, status: "error", probability: null, decision: null,
      error: { code: "no_answer", message: "the device did not answer: " + problem.message } };
  }
  records.push(record);
  show(item, record);
  if (record.status !== "error") await showPicture(item, file);
  $("csv").disabled = $("clear").disabled = false;
}

function show(item, record) {
  item.replaceChildren();
  item.dataset.status = record.status;
  const text = element("div", "words");
  text.append(element("h3", "", record.source));
  const verdict = record.decision || record.status;
  text.append(element("p", "decision " + verdict,
    say((record.decision ? "decision." : "status.") + verdict)));
  if (record.probability !== null) {
    const scale = element("div", "scale " + verdict);
    const value = element("div", "value");
    value.style.width = 100 * record.probability + "%";
    const cut = element("div", "cut");
    cut.style.left = 100 * record.threshold + "%";
    cut.title = "operating point";
    scale.append(value, cut);
    text.append(scale);
    text.append(element("p", "", say("page.probability") + " " + record.probability.toFixed(4) +
      ", " + say("page.point") + " " + record.operating_point + ": " + record.threshold.toFixed(4)));
  }
  if (record.error) {
    text.append(element("p", "error", say("error." + record.error.code)));
    text.append(element("p", "quiet", record.error.message));
  }
  const flags = record.quality ? record.quality.flags : [];
  for (const flag of flags) text.append(element("p", "quiet", say("flag." + flag)));
  item.append(text);
}

async function showPicture(item, file) {
  const box = element("div", "picture");
  for (const [layer, text] of [["image", "Radiograph"], ["map", "Heatmap of the evidence"]]) {
    const answer = await post("v1/heatmap?layer=" + layer, file);
    if (!answer.ok) return;
    const picture = element("img", layer === "map" ? "heat" : "");
    picture.alt = text;
    picture.src = URL.createObjectURL(await answer.blob());
    box.append(picture);
  }
  item.prepend(box);
  applyOpacity();
}

function applyOpacity() {
  const value = $("heat").checked ? $("opacity").value / 100 : 0;
  for (const picture of document.querySelectorAll("img.heat")) picture.style.opacity = value;
}

async function screenAll(files) {
  let done = 0;
  for (const file of files) {
    $("status").textContent = "Screening " + (done + 1) + " of " + files.length + "…";
    await screenOne(file);
    done += 1;
  }
  $("status").textContent = done + (done === 1 ? " image" : " images") + " done.";
}

function cell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (/^[=+\-@\t]/.test(text) && isNaN(Number(text))) text = "'" + text;  // no formula in a spreadsheet
  return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function csv() {
  const columns = [
    ["source", (r) => r.source], ["sha256", (r) => r.sha256], ["status", (r) => r.status],
    ["probability", (r) => r.probability], ["decision", (r) => r.decision],
    ["operating_point", (r) => r.operating_point], ["threshold", (r) => r.threshold],
    ["flags", (r) => (r.quality ? r.quality.flags.join(" ") : "")],
    ["error_code", (r) => r.error && r.error.code], ["error_message", (r) => r.error && r.error.message],
  ];
  const lines = [columns.map(([name]) => name).join(",")];
  for (const record of records) lines.push(columns.map(([, get]) => cell(get(record))).join(","));
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = "cxr-edge.csv";
  link.click();
}

$("files").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  screenAll(files);
});
for (const name of ["dragover", "dragenter"]) {
  $("drop").addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  screenAll([...event.dataTransfer.files]);
});
$("opacity").addEventListener("input", applyOpacity);
$("heat").addEventListener("change", applyOpacity);
$("csv").addEventListener("click", csv);
$("clear").addEventListener("click", () => {
  records.length = 0;
  $("results").replaceChildren();
  $("csv").disabled = $("clear").disabled = true;
  $("status").textContent = "";
});
$("token-save").addEventListener("click", () => {
  sessionStorage.setItem("token", $("token").value);
  start();
});
translate().then(start);
