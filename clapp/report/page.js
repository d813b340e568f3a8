"use strict";
(async () => {
  const root = document.documentElement;
  const card = document.getElementById("card");
  const plots = [...document.querySelectorAll("[data-figure]")];
  const touch = matchMedia("(pointer: coarse)").matches;
  const mouse = matchMedia("(hover: hover)").matches;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  async function unpack(id) {
    const packed = document.getElementById(id).textContent.trim();
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  // Colours named in a figure as CSS variables, in the present scheme.
  function painted(value) {
    if (Array.isArray(value)) return value.map(painted);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, painted(part)]));
    }
    if (typeof value !== "string" || !value.startsWith("var(")) return value;
    return getComputedStyle(root).getPropertyValue(value.slice(4, -1)).trim();
  }

  function template() {
    const axis = {
      gridcolor: "var(--line)", linecolor: "var(--line)", zeroline: false,
      tickfont: { size: 12 }, title: { font: { size: 13 }, standoff: 8 },
    };
    const scene = { ...axis, color: "var(--soft)", showbackground: false };
    return painted({ layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "var(--font)", size: 13, color: "var(--soft)" },
      margin: { l: 8, r: 14, t: 14, b: 48 }, xaxis: axis, yaxis: { ...axis, automargin: true },
      scene: { xaxis: scene, yaxis: scene, zaxis: scene },
      hoverlabel: { bgcolor: "var(--page)", bordercolor: "var(--line)", font: { color: "var(--ink)" } },
      legend: { font: { color: "var(--ink)" } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: "var(--faint)", activecolor: "var(--ink)" },
    } });
  }

  function draw(plot, width) {
    const figure = painted(figures[plot.dataset.figure]);
    const layout = { ...figure.layout, template: template(), width, autosize: width === undefined };
    layout.dragmode = touch && !layout.scene ? false : layout.dragmode; // a finger scrolls the page
    const first = !plot.data;
    Plotly.react(plot, figure.data, layout, {
      responsive: true, displaylogo: false, scrollZoom: false,
      displayModeBar: mouse && !plot.closest(".small") ? "hover" : false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    });
    if (!first) return;
    plot.on("plotly_hover", show);
    plot.on("plotly_click", show);
    plot.on("plotly_unhover", () => { if (!touch) card.hidden = true; });
  }

  function element(tag, name, text) {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    return made;
  }

  function show({ points: [point], event }) {
    const plot = event.target.closest("[data-figure]") || document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-figure]");
    if (!point || point.customdata == null || !plot) return;
    const [study, number] = Array.isArray(point.customdata)
      ? point.customdata : [plot.dataset.study, point.customdata];
    const trial = trials[study]?.[number];
    if (!trial || plot.dataset.cards === "no") return;
    const facts = element("dl", "", "");
    for (const [name, value] of trial.facts) facts.append(element("dt", "", name), element("dd", "", value));
    const choices = element("div", "choices", "");
    for (const [name, value] of trial.choices) {
      const line = element("div", "", `${name} `);
      line.append(element("b", "", value));
      choices.append(line);
    }
    card.replaceChildren(element("div", "title", trial.title));
    for (const note of trial.notes) card.append(element("div", "notes", note));
    card.append(facts);
    const preview = document.querySelector(`#${study}-trial-${number} img`);
    if (preview) {
      const picture = element("img", "", "");
      picture.src = preview.src;
      picture.alt = preview.alt;
      picture.width = preview.width;
      picture.height = preview.height;
      card.append(picture);
    }
    if (trial.choices.length) card.append(choices);
    card.hidden = false;
    place(event.clientX, event.clientY);
  }

  function place(x, y) {
    const box = card.getBoundingClientRect();
    const left = x + 18 + box.width < innerWidth ? x + 18 : Math.max(12, x - 18 - box.width);
    const top = Math.min(Math.max(12, y - box.height / 3), innerHeight - box.height - 12);
    card.style.left = `${left}px`;
    card.style.top = `${Math.max(12, top)}px`;
  }

  const visible = (plot) => !plot.closest("details:not([open])");

  // One figure a task, so that the page answers meanwhile.
  async function drawAll() {
    for (const plot of plots.filter(visible)) {
      if (!plot.data) draw(plot);
      await new Promise((done) => setTimeout(done));
    }
  }

  let figures, trials;
  try {
    const [library, document_] = await Promise.all([unpack("plotly"), unpack("figures")]);
    ({ figures, trials } = JSON.parse(document_));
    document.head.append(Object.assign(document.createElement("script"), { textContent: library }));
  } catch (error) {
    document.getElementById("old").hidden = false;
    throw error;
  }
  dark.addEventListener("change", () => plots.filter((plot) => plot.data).forEach((plot) => draw(plot)));
  addEventListener("beforeprint", () => {
    root.classList.add("paper");
    for (const plot of plots.filter(visible)) draw(plot, plot.closest(".small") ? 220 : 680);
  });
  addEventListener("afterprint", () => {
    root.classList.remove("paper");
    for (const plot of plots.filter(visible)) draw(plot);
  });
  document.addEventListener("toggle", ({ target }) => {
    if (target.open) drawAll();
    else plots.filter((plot) => target.contains(plot) && plot.data).forEach((plot) => Plotly.purge(plot));
  }, true);
  document.addEventListener("keydown", ({ key }) => { if (key === "Escape") card.hidden = true; });
  document.addEventListener("scroll", () => { card.hidden = true; }, { passive: true });
  document.addEventListener("pointerdown", ({ target }) => { if (!target.closest("[data-figure]")) card.hidden = true; });

  await drawAll();
  root.dataset.drawn = "yes";
})();
