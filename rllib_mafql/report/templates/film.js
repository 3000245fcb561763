"use strict";
// An episode on the grid's map: two agents side by side, and the highest loading of both over time.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const ZONES = ["#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"];
  const OPEN = 255, WIDTH = 600, CHART = 150;

  const make = (name, attributes, parent) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (parent) parent.appendChild(node);
    return node;
  };
  const html = (name, className, parent, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  };
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const mix = (a, b, share) => a.map((value, k) => Math.round(value + (b[k] - value) * share));
  // from grey over yellow and orange to red at the limit, darker beyond it
  const STOPS = [[0, [190, 200, 208]], [60, [150, 165, 178]], [85, [242, 201, 76]], [95, [230, 120, 30]], [100, [193, 39, 45]], [150, [90, 0, 20]]];
  const color = (percent) => {
    for (let k = 1; k < STOPS.length; k++) {
      if (percent <= STOPS[k][0]) {
        const [low, from] = STOPS[k - 1], [high, to] = STOPS[k];
        return `rgb(${mix(from, to, (percent - low) / (high - low)).join(",")})`;
      }
    }
    return "rgb(90,0,20)";
  };

  function Film(root, film) {
    const lines = film.lines.length;
    const agents = Object.values(film.agents).map((agent) => {
      const loading = bytes(agent.loading), most = new Float32Array(agent.steps);
      for (let t = 0; t < agent.steps; t++)
        for (let k = 0; k < lines; k++) {
          const value = loading[t * lines + k];
          if (value !== OPEN && value > most[t]) most[t] = value;
        }
      return { ...agent, loading, most };
    });
    const steps = Math.max(...agents.map((agent) => agent.steps));
    const shown = [0, Math.min(1, agents.length - 1)];
    let now = 0, timer = null;

    const bar = html("div", "bar", root);
    const button = html("button", "", bar, "Play");
    const slider = html("input", "", bar);
    Object.assign(slider, { type: "range", min: 0, max: steps - 1, value: 0 });
    slider.setAttribute("aria-label", "step");
    const clock = html("span", "clock", bar);
    const speed = html("select", "", bar);
    for (const rate of [2, 5, 10, 30, 60]) {
      const option = html("option", "", speed, `${rate} steps/s`);
      option.value = rate;
      option.selected = rate === 10;
    }

    const xs = film.substations.map((one) => one.x), ys = film.substations.map((one) => one.y);
    const [left, right] = [Math.min(...xs), Math.max(...xs)], [bottom, top] = [Math.min(...ys), Math.max(...ys)];
    const scale = (WIDTH - 24) / Math.max(right - left, 1e-6);
    const height = Math.max((top - bottom) * scale, 60) + 24;
    const x = (k) => 12 + (xs[k] - left) * scale, y = (k) => 12 + (top - ys[k]) * scale;

    const stages = html("div", "stages", root);
    const views = shown.slice(0, agents.length).map((_, side) => {
      const stage = html("div", "stage", stages);
      const choice = html("select", "", stage);
      agents.forEach((agent, k) => {
        const option = html("option", "", choice, agent.label);
        option.value = k;
        option.selected = k === shown[side];
      });
      const state = html("span", "state", stage);
      const map = make("svg", { viewBox: `0 0 ${WIDTH} ${height.toFixed(0)}`, role: "img" }, stage);
      const drawn = film.lines.map((line) => {
        const place = { x1: x(line.from), y1: y(line.from), x2: x(line.to), y2: y(line.to) };
        const stroke = make("line", { ...place, "stroke-linecap": "round" }, map);
        const name = make("title", {}, stroke);
        return { stroke, name, line };
      });
      film.substations.forEach((one, k) => {
        const fill = ZONES[one.zone % ZONES.length];
        const node = one.units
          ? make("rect", { x: x(k) - 4, y: y(k) - 4, width: 8, height: 8, fill, stroke: "#333", "stroke-width": 0.6 }, map)
          : make("circle", { cx: x(k), cy: y(k), r: 3, fill }, map);
        make("title", {}, node).textContent = `${one.name}, ${film.zones[one.zone]}, ${one.units} units`;
      });
      const worst = html("div", "worst", stage);
      choice.addEventListener("change", () => { shown[side] = Number(choice.value); chart(); show(now); });
      return { state, drawn, worst };
    });

    const plot = make("svg", { viewBox: `0 0 ${2 * WIDTH} ${CHART}`, role: "img" }, root);
    plot.style.cursor = "pointer";
    plot.style.marginTop = "10px";
    let cursor = null;
    const at = (t) => 34 + (t / Math.max(steps - 1, 1)) * (2 * WIDTH - 44);
    const high = Math.min(200, Math.max(110, ...agents.map((agent) => Math.max(...agent.most))));
    const level = (percent) => 8 + (1 - Math.min(percent, high) / high) * (CHART - 28);
    const time = (t) => {
      const day = new Date(film.start + "Z");
      day.setUTCMinutes(day.getUTCMinutes() + t * film.step_minutes);
      return day.toISOString().slice(0, 16).replace("T", " ");
    };

    function chart() {
      plot.replaceChildren();
      for (const percent of [50, 100]) {
        const place = { x1: 34, x2: 2 * WIDTH - 10, y1: level(percent), y2: level(percent) };
        make("line", { ...place, stroke: percent === 100 ? "#C1272D" : "#ddd", "stroke-width": 1 }, plot);
        make("text", { x: 2, y: level(percent) + 4, "font-size": 11, fill: "#555" }, plot).textContent = `${percent} %`;
      }
      for (let k = 0; k <= 6; k++) {
        const t = Math.round((k / 6) * (steps - 1));
        const anchor = k === 0 ? "start" : k === 6 ? "end" : "middle";
        make("text", { x: at(t), y: CHART - 4, "font-size": 11, fill: "#555", "text-anchor": anchor }, plot).textContent = time(t).slice(5);
      }
      [...shown].reverse().forEach((k, place) => {
        const agent = agents[k], first = place === shown.length - 1;
        const points = Array.from(agent.most, (value, t) => `${at(t).toFixed(1)},${level(value).toFixed(1)}`).join(" ");
        const stroke = first ? "#0072B2" : "#7F7F7F";
        make("polyline", { points, fill: "none", stroke, "stroke-width": 1.6 }, plot);
        if (!agent.survived)
          make("circle", { cx: at(agent.steps - 1), cy: level(agent.most[agent.steps - 1]), r: 5, fill: stroke }, plot);
      });
      shown.forEach((k, place) => {
        const fill = place === 0 ? "#0072B2" : "#7F7F7F", anchor = place === 0 ? "start" : "end";
        const where = { x: place === 0 ? 40 : 2 * WIDTH - 12, y: CHART - 22, "font-size": 12, "text-anchor": anchor };
        make("text", { ...where, fill }, plot).textContent = `${place === 0 ? "left" : "right"}: ${agents[k].label}`;
      });
      cursor = make("line", { y1: 4, y2: CHART - 18, stroke: "#1c2733", "stroke-width": 1 }, plot);
    }

    function show(t) {
      now = Math.max(0, Math.min(steps - 1, t));
      slider.value = now;
      clock.textContent = `${time(now)}  step ${now}`;
      cursor.setAttribute("x1", at(now));
      cursor.setAttribute("x2", at(now));
      views.forEach((view, side) => {
        const agent = agents[shown[side]], step = Math.min(now, agent.steps - 1), down = now >= agent.steps;
        const listed = [];
        view.drawn.forEach(({ stroke, name, line }, k) => {
          const value = agent.loading[step * lines + k], open = value === OPEN;
          stroke.setAttribute("stroke", down ? "#e3e3e3" : open ? "#111" : color(value));
          stroke.setAttribute("stroke-width", open ? 1.6 : 1.4 + 3 * Math.max(0, Math.min(value, 120) - 50) / 70);
          stroke.setAttribute("stroke-dasharray", open && !down ? "2 4" : line.tie ? "7 3" : "");
          name.textContent = `${line.name}${line.tie ? ", tie" : ""}: ${open ? "open" : `${value} %`}`;
          listed.push({ name: line.name, value, open });
        });
        view.state.textContent = down ? `down since step ${agent.steps - 1}` : `highest loading ${agent.most[step]} %`;
        view.state.classList.toggle("down", down);
        const loaded = listed.filter((one) => !one.open).sort((a, b) => b.value - a.value).slice(0, 3);
        const out = listed.filter((one) => one.open).map((one) => one.name);
        const moved = film.zones.map((zone) => `${zone} +${agent.raised_mw[zone][step]} ${agent.lowered_mw[zone][step]}`);
        view.worst.replaceChildren();
        for (const text of down ? [agent.end_reason] : [
          `Most loaded: ${loaded.map((one) => `${one.name} ${one.value} %`).join(", ")}`,
          `Open: ${out.join(", ") || "none"}`,
          `Moved, MW: ${moved.join("; ")}`,
        ]) html("div", "", view.worst, text);
      });
    }

    function play(on) {
      clearInterval(timer);
      timer = on ? setInterval(() => (now >= steps - 1 ? play(false) : show(now + 1)), 1000 / Number(speed.value)) : null;
      button.textContent = on ? "Stop" : "Play";
    }
    button.addEventListener("click", () => { if (now >= steps - 1) show(0); play(timer === null); });
    speed.addEventListener("change", () => { if (timer !== null) play(true); });
    slider.addEventListener("input", () => show(Number(slider.value)));
    plot.addEventListener("click", (event) => {
      const box = plot.getBoundingClientRect();
      const place = ((event.clientX - box.left) / box.width) * 2 * WIDTH;
      show(Math.round(((place - 34) / (2 * WIDTH - 44)) * (steps - 1)));
    });
    root.tabIndex = 0;
    root.addEventListener("keydown", (event) => {
      if (event.target.tagName === "SELECT" || event.target.tagName === "INPUT") return;
      if (event.key === " ") button.click();
      else if (event.key === "ArrowRight") show(now + 1);
      else if (event.key === "ArrowLeft") show(now - 1);
      else return;
      event.preventDefault();
    });

    const key = html("div", "key", root);
    for (const percent of [50, 85, 95, 100, 130]) {
      const entry = html("span", "", key);
      html("i", "", entry).style.background = color(percent);
      entry.append(`${percent} %`);
    }
    key.append("dashed: tie; dotted: open; square: with units");
    film.zones.forEach((zone, k) => {
      const entry = html("span", "", key);
      html("i", "dot", entry).style.background = ZONES[k % ZONES.length];
      entry.append(zone);
    });
    chart();
    show(0);
  }

  const data = document.querySelectorAll("script.film-data");
  document.querySelectorAll(".film").forEach((root, k) => Film(root, JSON.parse(data[k].textContent)));
})();
