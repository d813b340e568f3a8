"use strict";
// A picture is sent twice: to the model and to its classical filter. All else happens here.
const NAMES = { input: "input", filter: "classical filter", model: "model", difference: "difference" };
const at = (id) => document.getElementById(id);
let models = [];
let file = null; // the last picture given
let shown = {}; // what there is to see: canvases by the keys of NAMES
let running = null; // ends the requests under way

function canvasOf(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // as the server sees transparent pixels
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  return canvas;
}

const pixels = (canvas) =>
  canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);

// The values of the model's settings, as the server takes them.
const values = () => new URLSearchParams(
  [...at("settings").querySelectorAll("input")].map((one) => ["set", `${one.name}=${one.value}`]));

function offerSettings(settings) {
  at("settings").replaceChildren(...settings.map(({ name, low, high, step }) => {
    const [label, input, shown] = ["label", "input", "output"].map((tag) => document.createElement(tag));
    Object.assign(input, { type: "range", name, min: low, max: high, step: step || (high - low) / 100 });
    input.value = (low + high) / 2;
    const show = () => { shown.textContent = Number(Number(input.value).toPrecision(4)); };
    input.addEventListener("input", show);
    input.addEventListener("change", compare);
    show();
    label.className = "wide";
    label.append(`${name} `, shown, input);
    return label;
  }));
}

async function ask(what, model, signal) {
  const address = `v1/models/${encodeURIComponent(model)}/${what}?${values()}`;
  const options = { method: "POST", body: file, headers: { Accept: "image/png" }, signal };
  const response = await fetch(address, options);
  if (!response.ok) throw new Error((await response.json()).error);
  const blob = await response.blob();
  const timing = /apply;dur=([\d.]+)/.exec(response.headers.get("Server-Timing") || "");
  return { blob, canvas: canvasOf(await createImageBitmap(blob)), ms: timing && Number(timing[1]) };
}

async function compare() {
  if (!file) return;
  running?.abort();
  const mine = (running = new AbortController());
  document.body.classList.add("busy");
  try {
    const model = models.find((one) => one.name === at("model").value);
    const [input, applied, filtered] = await Promise.all([
      createImageBitmap(file).catch(() => { throw new Error("The file is no picture."); }),
      ask("apply", model.name, mine.signal),
      model.filter ? ask("filter", model.name, mine.signal) : null,
    ]);
    if (mine !== running) return;
    shown = { input: canvasOf(input), model: applied.canvas };
    if (filtered) {
      shown.filter = filtered.canvas;
      shown.difference = document.createElement("canvas");
    }
    URL.revokeObjectURL(at("save").href);
    at("save").href = URL.createObjectURL(applied.blob);
    say(applied);
    offer();
    at("error").hidden = true;
    at("result").hidden = false;
    difference();
  } catch (error) {
    if (mine !== running) return;
    at("error").textContent = error.message;
    at("error").hidden = false;
    at("result").hidden = true;
  } finally {
    if (mine === running) document.body.classList.remove("busy");
  }
}

function say(applied) {
  const { width, height } = applied.canvas;
  let text = `${width}×${height} pixels`;
  if (applied.ms !== null) text += `, the model took ${applied.ms.toFixed(1)} ms`;
  if (shown.filter) {
    const [one, other] = [pixels(shown.filter).data, pixels(shown.model).data];
    let sum = 0, most = 0;
    for (let i = 0; i < one.length; i += 4)
      for (let c = 0; c < 3; c++) {
        const off = Math.abs(one[i + c] - other[i + c]);
        sum += off;
        if (off > most) most = off;
      }
    const mean = sum / (3 * width * height);
    text += `; off by ${mean.toFixed(2)} grey levels on average, ${most} at most`;
  }
  at("facts").textContent = text;
}

function offer() {
  for (const [id, wanted] of [["left", "filter"], ["right", "model"]]) {
    const before = at(id).value;
    at(id).replaceChildren(...Object.keys(NAMES).filter((key) => shown[key])
      .map((key) => new Option(NAMES[key], key)));
    at(id).value = shown[before] ? before : shown[wanted] ? wanted : "input";
  }
}

function difference() {
  at("times").textContent = at("gain").value;
  if (shown.difference) {
    const [one, other] = [pixels(shown.filter), pixels(shown.model)];
    const gain = Number(at("gain").value);
    for (let i = 0; i < one.data.length; i++)
      if (i % 4 < 3) one.data[i] = gain * Math.abs(one.data[i] - other.data[i]); // stops at 255
    Object.assign(shown.difference, { width: one.width, height: one.height });
    shown.difference.getContext("2d", { willReadFrequently: true }).putImageData(one, 0, 0);
  }
  draw();
}

function draw() {
  const view = at("view");
  const { width, height } = shown.model;
  if (view.width !== width || view.height !== height) Object.assign(view, { width, height });
  const context = view.getContext("2d", { willReadFrequently: true });
  const edge = Math.round((width * at("split").value) / 100);
  context.drawImage(shown[at("right").value], 0, 0);
  if (edge > 0)
    context.drawImage(shown[at("left").value], 0, 0, edge, height, 0, 0, edge, height);
  if (edge > 0 && edge < width) {
    context.fillStyle = "#e67e22";
    context.fillRect(edge, 0, Math.max(1, width / 600), height);
  }
}

function take(files) {
  if (!files.length) return;
  file = files[0];
  compare();
}

function drag(event) {
  if (event.type === "pointermove" && !event.buttons) return;
  const box = at("view").getBoundingClientRect();
  at("split").value = (100 * (event.clientX - box.left)) / box.width;
  draw();
}

function choose() {
  const model = models.find((one) => one.name === at("model").value);
  at("filter").textContent = model.filter ? `stands in for ${model.filter}` : "";
  offerSettings(model.settings);
  compare();
}

async function start() {
  models = await (await fetch("v1/models")).json();
  at("model").replaceChildren(...models.map((model) => new Option(model.name)));
  choose();
  at("model").addEventListener("change", choose);
  at("file").addEventListener("change", () => take(at("file").files));
  for (const id of ["left", "right", "split"]) at(id).addEventListener("input", draw);
  at("gain").addEventListener("input", difference);
  for (const type of ["pointerdown", "pointermove"]) at("view").addEventListener(type, drag);
  for (const type of ["dragenter", "dragover", "dragleave", "drop"])
    document.addEventListener(type, (event) => {
      event.preventDefault();
      at("drop").classList.toggle("over", type === "dragenter" || type === "dragover");
      if (type === "drop") take(event.dataTransfer.files);
    });
}

start();
