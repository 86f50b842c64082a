"use strict";
const $ = (id) => document.getElementById(id);
const records = [];
let info = null;
let words = {};

function say(key) {
  return words[key] || key.slice(key.indexOf(".") + 1).replaceAll("_", " ");
}

// As messages.say_of does.
function sayOf(key) {
  const own = info && info.positive ? key + "." + info.positive : key;
  return words[own] || say(key);
}

function fill(key, values) {
  return say(key).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

async function translate() {
  const answer = await fetch("v1/messages" + location.search);
  const found = await answer.json();
  if (!answer.ok) { $("status").textContent = found.error.message; return; }
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
  if (!answer.ok) {
    const found = answer.status === 401 ? null : (await answer.json()).error;
    $("model").textContent = found ? words["error." + found.code] || found.message : say("page.token_needed");
    return;
  }
  info = await answer.json();
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = sayOf(node.dataset.say);
  const told = [
    fill("report.model", { model: info.model.name + " " + info.model.version, engine: info.engine }),
    fill("report.point", { point: info.operating_point }),
  ];
  if (info.site) told.push(fill("report.site", { site: info.site }));
  if (info.population) told.push(fill("population.decided", { population: say("population." + info.population) }));
  $("model").textContent = told.join("; ");
  offerPopulations(Object.keys(info.populations));
  const translated = info.translations[document.documentElement.lang];
  $("use").textContent = translated || info.intended_use;
  $("use").lang = translated ? document.documentElement.lang : "en";
}

function offerPopulations(names) {
  $("whose").hidden = names.length === 0;
  // Without a page's own server nothing reads the age in a file.
  if (info.knows_ages === false) $("population").options[0].textContent = say("population.any");
  for (const option of [...$("population").options].slice(1)) option.remove();
  for (const name of names) {
    const option = element("option", "", say("population." + name));
    option.value = name;
    $("population").append(option);
  }
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
  const whose = $("population").value;  // as it is now, for the pictures too
  const item = element("li");
  item.append(element("p", "quiet", file.name + " …"));
  $("results").prepend(item);
  let record;
  try {
    const answer = await post("v1/screen?population=" + whose, file);
    const body = await answer.json();
    record = answer.ok ? body
      : { source: file.name, status: "error", error: body.error, probability: null, decision: null };
  } catch (problem) {
    record = { source: file.name, status: "error", probability: null, decision: null,
      error: { code: "no_answer", message: problem.message } };
  }
  records.push(record);
  show(item, record);
  if (record.status !== "error") await showPicture(item, file, record.decision !== null, whose);
  $("csv").disabled = $("clear").disabled = false;
}

function show(item, record) {
  item.replaceChildren();
  item.dataset.status = record.status;
  const text = element("div", "words");
  text.append(element("h3", "", record.source));
  const verdict = record.decision || record.status;
  const word = say((record.decision ? "decision." : "status.") + verdict);
  text.append(element("p", "decision " + verdict, word[0].toUpperCase() + word.slice(1)));
  if (record.probability !== null) text.append(...scale(record, verdict));
  if (words["meaning." + verdict]) text.append(element("p", "", sayOf("meaning." + verdict)));
  if (record.findings) text.append(findingList(item, record));
  if (record.error) {
    const told = words["error." + record.error.code] || record.error.message;
    text.append(element("p", "error", told));
  }
  const manner = record.decision ? "quiet" : "";  // why there is none is the message
  for (const reason of reasons(record)) text.append(element("p", manner, reason));
  item.append(text);
}

// As messages.told_findings does; a click shows what argues for one finding.
function findingList(item, record) {
  const list = element("ul", "findings");
  const named = Object.entries(record.findings);
  named.sort(([, a], [, b]) => (a.decision === "absent") - (b.decision === "absent"));
  for (const [name, one] of named) {
    const told = fill("finding.line", { name, state: say("finding." + one.decision), times: times(one) });
    const line = element("li", one.decision);
    const button = element("button", "", told);
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => pick(item, button, name));
    line.append(button);
    list.append(line);
  }
  return list;
}

async function pick(item, button, name) {
  const heat = item.querySelector("img.heat");
  if (!heat || !item.heatOf) return;
  const chosen = button.getAttribute("aria-pressed") === "true" ? "" : name;
  const source = await item.heatOf(chosen);
  if (!source) return;
  heat.src = source;
  for (const other of item.querySelectorAll(".findings button")) other.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-pressed", String(chosen !== ""));
}

// As messages.reasons does.
function reasons(record) {
  let flags = record.quality ? record.quality.flags : [];
  const refused = record.status === "rejected";
  if (refused && flags.length > 1) flags = flags.filter((flag) => flag !== "out_of_distribution");
  return flags.map((flag) => say(refused && words["refused." + flag] ? "refused." + flag : "flag." + flag));
}

// As report.place_on_scale and messages.times_threshold do.
function logOdds(probability) {
  const clipped = Math.min(Math.max(probability, 1e-8), 1 - 1e-8);
  return Math.log(clipped / (1 - clipped));
}

function place(probability) {
  return Math.min(Math.max(50 + 50 * logOdds(probability) / 7, 0), 100);
}

function times(record) {
  const value = Math.exp(logOdds(record.probability) - logOdds(record.threshold));
  if (value > 1000) return "> 1000";
  if (value < 1 / 1000) return "< 0.001";
  const digits = Math.max(0, 1 - Math.floor(Math.log10(value)));
  return (Math.floor(value * 10 ** digits + 1e-9) / 10 ** digits).toFixed(digits);
}

function scale(record, verdict) {
  const bar = element("div", "scale " + verdict);
  bar.setAttribute("role", "img");
  bar.title = fill("score.bar", { times: times(record) });
  bar.setAttribute("aria-label", bar.title);
  const uncertain = info && (info.populations[record.population] || info).uncertain;
  if (uncertain && record.operating_point === info.operating_point) {
    const band = element("div", "band");
    band.style.left = place(uncertain[0]) + "%";
    band.style.width = place(uncertain[1]) - place(uncertain[0]) + "%";
    bar.append(band);
  }
  const cut = element("div", "cut");
  cut.style.left = place(record.threshold) + "%";
  const value = element("div", "value");
  value.style.left = place(record.probability) + "%";
  bar.append(cut, value);
  let told = fill("score.times", { times: times(record) });
  if (record.population) {
    told += "; " + fill("population.decided", { population: say("population." + record.population) });
  }
  return [bar, element("p", "quiet", told)];
}

async function showPicture(item, file, judged, whose) {
  const box = element("button", "picture");
  box.type = "button";
  box.title = say("picture.enlarge");
  box.addEventListener("click", () => box.classList.toggle("large"));
  const kept = {};
  item.heatOf = async (finding) => {
    if (!(finding in kept)) {
      const path = "v1/heatmap?layer=map&population=" + whose + "&finding=" + encodeURIComponent(finding);
      const answer = await post(path, file);
      if (!answer.ok) return "";
      kept[finding] = URL.createObjectURL(await answer.blob());
    }
    return kept[finding];
  };
  const layers = [["image", say("page.radiograph")]];
  if (judged) layers.push(["map", say("page.heatmap")]);
  for (const [layer, text] of layers) {
    const answer = await post("v1/heatmap?layer=" + layer + "&population=" + whose, file);
    if (!answer.ok) return;
    const picture = element("img", layer === "map" ? "heat" : "");
    picture.alt = text;
    picture.src = URL.createObjectURL(await answer.blob());
    box.append(picture);
  }
  item.prepend(box);
  if (judged) $("legend").hidden = false;
  applyOpacity();
}

function applyOpacity() {
  const value = $("heat").checked ? $("opacity").value / 100 : 0;
  for (const picture of document.querySelectorAll("img.heat")) picture.style.opacity = value;
}

async function screenAll(files) {
  let done = 0;
  for (const file of files) {
    $("status").textContent = fill("page.screening", { n: done + 1, total: files.length });
    await screenOne(file);
    done += 1;
  }
  $("status").textContent = fill("page.done", { n: done });
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
    ["population", (r) => r.population],
    ["flags", (r) => (r.quality ? r.quality.flags.join(" ") : "")],
    ["findings", (r) => (r.findings ? Object.entries(r.findings).map(([name, one]) => name + " " + one.decision + " " + one.probability).join("; ") : "")],
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
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const box of document.querySelectorAll(".picture.large")) box.classList.remove("large");
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
