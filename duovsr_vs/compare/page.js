"use strict";
// Two clips on one canvas, divided by a line. Everything is drawn in device pixels, so that 1:1 means one pixel of the
// picture on one of the screen, and 2:1 and 4:1 repeat pixels and never blend them.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const stage = byId("stage"), canvas = byId("view"), context = canvas.getContext("2d");
  const zooms = [0, 1, 2, 4];
  const state = { frame: 0, left: 0, right: Math.min(1, data.clips.length - 1), split: 0.5, zoom: 0, x: 0, y: 0 };
  const images = new Map();

  function image(clip, frame) {
    const key = `${clip}/${frame}`;
    if (!images.has(key)) {
      const made = new Image();
      made.src = data.frames[frame].images[clip];
      made.decode().then(draw, draw);
      images.set(key, made);
    }
    return images.get(key);
  }

  // The size of the canvas, the scale of the picture and where its left upper corner lies, in device pixels.
  function layout() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(stage.clientWidth * ratio));
    const fit = Math.min(width / data.width, (window.innerHeight * 0.8 * ratio) / data.height);
    const scale = state.zoom || fit;
    const height = Math.max(1, Math.round(data.height * Math.min(fit, scale)));
    const place = (room, size, pan) => Math.round((room - size) / 2 + pan);
    const across = data.width * scale, down = data.height * scale;
    return {
      ratio, width, height, scale, pans: across > width + 1 || down > height + 1, roomX: across - width, roomY: down - height,
      left: place(width, across, state.x * scale), top: place(height, down, state.y * scale),
    };
  }

  function draw() {
    const at = layout();
    if (canvas.width !== at.width || canvas.height !== at.height) {
      canvas.width = at.width;
      canvas.height = at.height;
      canvas.style.height = `${at.height / at.ratio}px`;
    }
    stage.classList.toggle("pans", at.pans);
    context.clearRect(0, 0, at.width, at.height);
    context.imageSmoothingEnabled = !Number.isInteger(at.scale);
    context.imageSmoothingQuality = "high";
    const split = Math.round(state.split * at.width);
    half(state.left, 0, split, at);
    half(state.right, split, at.width, at);
    divider(split, at);
  }

  function half(clip, from, to, at) {
    const picture = image(clip, state.frame);
    if (!picture.complete || !picture.naturalWidth || to <= from) return;
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, at.height);
    context.clip();
    context.drawImage(picture, at.left, at.top, data.width * at.scale, data.height * at.scale);
    context.restore();
  }

  function divider(x, at) {
    const line = Math.max(1, Math.round(at.ratio)), radius = 15 * at.ratio, y = at.height / 2;
    context.fillStyle = "#000000a0";
    context.fillRect(x - line * 1.5, 0, line * 3, at.height);
    context.fillStyle = "#ffffff";
    context.fillRect(x - line / 2, 0, line, at.height);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = "#000000b8";
    context.fill();
    context.lineWidth = line;
    context.strokeStyle = "#ffffff";
    context.stroke();
    context.fillStyle = "#ffffff";
    for (const side of [-1, 1]) {
      context.beginPath();
      context.moveTo(x + side * radius * 0.7, y);
      context.lineTo(x + side * radius * 0.25, y - radius * 0.36);
      context.lineTo(x + side * radius * 0.25, y + radius * 0.36);
      context.fill();
    }
  }

  function show(change) {
    Object.assign(state, change);
    const clamp = (value, most) => Math.min(Math.max(value, 0), most);
    state.frame = clamp(state.frame, data.frames.length - 1);
    state.split = clamp(state.split, 1);
    const at = layout();
    for (const [axis, room] of [["x", at.roomX], ["y", at.roomY]]) {
      const most = Math.max(room, 0) / 2 / at.scale;
      state[axis] = Math.min(Math.max(state[axis], -most), most);
    }
    const frame = data.frames[state.frame];
    const [left, right] = [data.clips[state.left], data.clips[state.right]];
    byId("left").value = state.left;
    byId("right").value = state.right;
    byId("frame").value = state.frame;
    byId("frame").setAttribute("aria-valuetext", `frame ${frame.number}`);
    byId("split").value = state.split * 100;
    const name = data.parts[frame.part] ? `, ${data.parts[frame.part]}` : "";
    const where = `frame ${frame.number}, ${frame.time.toFixed(3)} s${name} (${state.frame + 1} of ${data.frames.length})`;
    if (byId("where").textContent !== where) byId("where").textContent = where;
    byId("tag-left").textContent = left.label;
    byId("tag-right").textContent = right.label;
    canvas.setAttribute("aria-label", `Frame ${frame.number}: left ${left.label}, right ${right.label}`);
    for (const button of document.querySelectorAll("[data-zoom]"))
      button.setAttribute("aria-pressed", String(Number(button.dataset.zoom) === state.zoom));
    byId("parts").childNodes.forEach((button, n) => button.setAttribute("aria-pressed", String(n === frame.part)));
    byId("back").disabled = state.frame === 0;
    byId("ahead").disabled = state.frame === data.frames.length - 1;
    mark(frame.number);
    draw();
    for (const near of [state.frame + 1, state.frame - 1])
      if (data.frames[near]) for (const clip of [state.left, state.right]) image(clip, near);
  }

  // Where the shown frame lies in plots and profiles.
  function mark(number) {
    for (const plot of document.querySelectorAll("svg.plot")) {
      const { x0, x1, first, last } = plot.dataset;
      const x = Number(x0) + ((number - first) / (last - first)) * (x1 - x0);
      const line = plot.querySelector(".now");
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    }
    for (const strip of document.querySelectorAll(".strip")) {
      const column = Math.round((number - strip.dataset.first) / strip.dataset.step);
      strip.querySelector("i").style.left = `${((column + 0.5) / strip.dataset.count) * 100}%`;
      strip.querySelector("i").hidden = column < 0 || column >= strip.dataset.count;
    }
  }

  function closer(step) {
    show({ zoom: zooms[Math.min(Math.max(zooms.indexOf(state.zoom) + step, 0), zooms.length - 1)] });
  }

  const swap = () => show({ left: state.right, right: state.left });
  const plain = {
    ArrowLeft: () => show({ frame: state.frame - 1 }),
    ArrowRight: () => show({ frame: state.frame + 1 }),
    Home: () => show({ frame: 0 }),
    End: () => show({ frame: data.frames.length - 1 }),
    s: swap,
    f: () => show({ zoom: 0 }),
    "+": () => closer(1),
    "=": () => closer(1),
    "-": () => closer(-1),
  };

  function key(event) {
    const tag = event.target.tagName;
    if (event.ctrlKey || event.altKey || event.metaKey || tag === "SELECT") return;
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
    const arrow = event.key === "ArrowLeft" || event.key === "ArrowRight";
    if (tag === "INPUT" && (arrow || event.key === "Home" || event.key === "End")) return; // the slider's own
    if (digit && Number(digit[1]) <= data.clips.length) {
      show({ [event.shiftKey ? "left" : "right"]: Number(digit[1]) - 1 });
    } else if (event.shiftKey && arrow) {
      show({ split: state.split + (event.key === "ArrowLeft" ? -0.02 : 0.02) });
    } else if (plain[event.key]) {
      plain[event.key]();
    } else {
      return;
    }
    event.preventDefault();
  }

  let held = null; // what a pressed pointer does: moves the divider, or the picture

  const across = (event) => {
    const box = canvas.getBoundingClientRect();
    return (event.clientX - box.left) / box.width;
  };

  // A finger may be about to scroll the page, so it moves the divider only when it is dragged sideways or lifted.
  function press(event) {
    if (event.button || held) return;
    const near = Math.abs(across(event) - state.split) * canvas.clientWidth < 26;
    const divides = near || !layout().pans;
    held = { id: event.pointerId, divides, px: event.clientX, py: event.clientY, x: state.x, y: state.y, tap: true };
    canvas.setPointerCapture(event.pointerId);
    stage.classList.add("held");
    if (divides && event.pointerType !== "touch") show({ split: across(event) });
  }

  function drag(event) {
    if (!held || event.pointerId !== held.id) return;
    const dx = event.clientX - held.px, dy = event.clientY - held.py;
    held.tap = held.tap && Math.hypot(dx, dy) < 4;
    if (held.divides) {
      if (!held.tap) show({ split: across(event) });
      return;
    }
    const at = layout(), perPixel = at.ratio / at.scale;
    show({ x: held.x + dx * perPixel, y: held.y + dy * perPixel });
  }

  function release(event) {
    if (!held || event.pointerId !== held.id) return;
    if (held.divides && held.tap && event.type === "pointerup") show({ split: across(event) });
    held = null;
    stage.classList.remove("held");
  }

  for (const side of ["left", "right"]) {
    data.clips.forEach((clip, n) => byId(side).add(new Option(`${n + 1}: ${clip.label}`, n)));
    byId(side).addEventListener("change", (event) => show({ [side]: Number(event.target.value) }));
  }
  for (const [part, name] of data.parts.length > 1 ? data.parts.entries() : []) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => show({ frame: data.frames.findIndex((frame) => frame.part === part) }));
    byId("parts").append(button);
  }
  byId("parts").hidden = data.parts.length < 2;
  byId("frame").max = data.frames.length - 1;
  byId("frame").addEventListener("input", (event) => show({ frame: Number(event.target.value) }));
  byId("split").addEventListener("input", (event) => show({ split: event.target.value / 100 }));
  byId("swap").addEventListener("click", swap);
  byId("back").addEventListener("click", plain.ArrowLeft);
  byId("ahead").addEventListener("click", plain.ArrowRight);
  for (const button of document.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", () => show({ zoom: Number(button.dataset.zoom) }));
  canvas.addEventListener("pointerdown", press);
  canvas.addEventListener("pointermove", drag);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  document.addEventListener("keydown", key);
  window.addEventListener("resize", () => show({}));
  show({ zoom: data.width <= layout().width ? 1 : 0 });
  window.duovsrCompare = { state, layout, ready: () => Promise.all([...images.values()].map((one) => one.decode())) };
})();
