"use strict";
const $ = (id) => document.getElementById(id);
let words = {}, films = [], labels = [], file = "", at = 0, shown = null;
const done = []; // what undo takes back: [film, label before]

function say(key) {
  return words[key] || key.slice(key.indexOf(".") + 1).replaceAll("_", " ");
}

function fill(key, values) {
  return say(key).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: "Bearer " + token } : {};
}

async function start() {
  const told = await (await fetch("v1/messages" + location.search)).json();
  if (told.messages) {
    words = told.messages;
    document.documentElement.lang = told.language;
    for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  }
  const answer = await fetch("v1/labels", { headers: headers() });
  $("token-section").hidden = answer.status !== 401;
  if (!answer.ok) { $("status").textContent = answer.status === 401 ? say("page.token_needed") : (await answer.json()).error.message; return; }
  ({ films, labels, file } = await answer.json());
  const open = labels.indexOf("");
  show(open < 0 ? 0 : open);
}

async function picture(number) {
  const answer = await fetch(`v1/labels/${number}/film`, { headers: headers() });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return URL.createObjectURL(await answer.blob());
}

const ahead = new Map(); // the next film is fetched while one is looked at

function fetched(number) {
  if (!ahead.has(number)) ahead.set(number, picture(number).catch((error) => error));
  return ahead.get(number);
}

async function show(number) {
  at = number;
  paint();
  $("film").classList.remove("large");
  const found = await fetched(number);
  if (at !== number) return; // somebody went on
  if (found instanceof Error) {
    $("picture").removeAttribute("src");
    $("status").textContent = found.message;
  } else {
    $("picture").src = found;
    $("status").textContent = "";
  }
  shown = number;
  for (const [key, one] of ahead) {
    if (Math.abs(key - at) > 3) { ahead.delete(key); one.then((url) => typeof url === "string" && URL.revokeObjectURL(url)); }
  }
  if (number + 1 < films.length) fetched(number + 1);
}

function paint() {
  const count = (label) => labels.filter((each) => each === label).length;
  const labelled = labels.length - count("");
  $("progress").textContent = fill("label.progress", { at: at + 1, films: films.length, labelled, ill: count("1"), normal: count("0"), unsure: count("?"), file });
  $("name").textContent = films[at] || "";
  for (const button of document.querySelectorAll("[data-label]")) {
    button.setAttribute("aria-pressed", String(labels[at] === button.dataset.label));
  }
  $("undo").disabled = done.length === 0;
  $("back").disabled = at === 0;
  $("next").disabled = at + 1 >= films.length;
}

// One after the other, so that a slow disk changes no order.
let turn = Promise.resolve();

function put(number, label) {
  turn = turn.then(async () => {
    const answer = await fetch(`v1/labels/${number}`, {
      method: "PUT", headers: { ...headers(), "content-type": "application/json" }, body: JSON.stringify({ label }),
    });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    labels[number] = label;
    paint();
  });
  const mine = turn;
  turn = turn.catch(() => {});
  return mine;
}

async function label(value) {
  const number = at;
  // Nobody labels a film that is not on the screen yet.
  if (shown !== number || !films.length) return;
  const before = labels[number];
  try {
    await put(number, value);
  } catch (error) {
    $("status").textContent = error.message;
    return;
  }
  done.push([number, before]);
  paint();
  if (at !== number) return;
  const rest = labels.indexOf("", number + 1);
  const open = rest < 0 ? labels.indexOf("") : rest;
  if (open >= 0) show(open);
  else { $("status").textContent = fill("label.all_done", { file }); }
}

async function undo() {
  if (!done.length) return;
  const [number, before] = done.pop();
  try {
    await put(number, before);
    show(number);
  } catch (error) {
    done.push([number, before]);
    $("status").textContent = error.message;
  }
}

const KEYS = { n: "0", 0: "0", p: "1", 1: "1", u: "?", "?": "?" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "INPUT") return;
  const key = event.key.toLowerCase();
  if (key in KEYS) label(KEYS[key]);
  else if (key === "z" || key === "backspace") undo();
  else if (key === "arrowleft" && at > 0) show(at - 1);
  else if (key === "arrowright" && at + 1 < films.length) show(at + 1);
  else return;
  event.preventDefault();
});
for (const button of document.querySelectorAll("[data-label]")) button.addEventListener("click", () => label(button.dataset.label));
$("back").addEventListener("click", () => show(at - 1));
$("next").addEventListener("click", () => show(at + 1));
$("undo").addEventListener("click", undo);
$("film").addEventListener("click", () => $("film").classList.toggle("large"));
$("token-save").addEventListener("click", () => { sessionStorage.setItem("token", $("token").value); start(); });
start().catch((error) => { $("status").textContent = error.message; });
