"use strict";
// The stage of a recording's page: the picture, the cursor, the mix, and what the model says to it.
//
// One state (which explanation, which of its parts are on, what is seen of the time axis, where the cursor is) and one
// function for each thing that shows it. Whatever is changed, the picture, the sound and the scores follow.

const ROWS = 256, FLOOR = -80, LOWEST = 32.703, SEMITONE = 2 ** (1 / 12);
const NOTES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];
const $ = (id) => document.getElementById(id);
const HINT = "Point at the picture to read what a part weighs; click to play from there.";
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const signed = (x, digits = 3) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);
const note = (hertz) => {
  const n = Math.round(12 * Math.log2(hertz / LOWEST));
  return n < 0 ? "" : NOTES[n % 12] + (1 + Math.floor(n / 12));
};
const pitched = (hertz) => `${note(hertz)} · ${hertz < 1000 ? hertz.toFixed(0) + " Hz" : (hertz / 1000).toFixed(2) + " kHz"}`;

class Stage {
  constructor(data) {
    this.data = data;
    this.player = new Player();
    this.samples = [];
    this.mixers = [];
    this.view = null; // seconds of the recording, [from, to]
    this.cursor = null; // likewise
  }

  // --- what is shown ---

  get e() { return this.data.explanations[this.chosen]; }
  get parts() { return this.data.parts[this.e.parts]; }
  get mixer() { return this.mixers[this.e.parts]; }
  get rate() { return this.data.sounds[this.e.sound].rate; }
  get seconds() { return this.data.sounds[this.e.sound].n_samples / this.rate; }
  get end() { return this.e.start + this.seconds; }
  atomsOf(weight) { return this.e.groups ? this.e.groups[weight] : [weight]; }
  union(weights) {
    const atoms = new Uint8Array(this.parts.k);
    for (const weight of weights) for (const atom of this.atomsOf(weight)) atoms[atom] = 1;
    return atoms;
  }
  isOn(weight) { return this.atomsOf(weight).every((atom) => this.atoms[atom]); }

  async choose(index) {
    const { explanations, sounds, parts } = this.data;
    const before = this.chosen === undefined ? null : this.e;
    const e = explanations[index], way = parts[e.parts];
    this.wanted = index; // shown when all of it is there
    if (!this.samples[e.sound]) this.samples[e.sound] = await decode(sounds[e.sound]);
    if (!way.ready) await this.unpack(way);
    if (e.map && !e.map.values) e.map.values = new Int8Array((await inflate(e.map.cells)).buffer);
    if (!this.mixers[e.parts]) this.mixers[e.parts] = new Mixer(way, this.samples[e.sound]);
    if (this.wanted !== index) return; // chosen again meanwhile
    this.chosen = index;
    this.loudness = level(this.samples[e.sound]);
    const same = before && before.sound === e.sound;
    if (!same) this.view = [e.start, this.end];
    this.cursor = clamp(this.cursor === null ? e.start : this.cursor, e.start, this.end);
    this.known = this.truths();
    this.listParts();
    $("ladder").max = e.weights.length;
    if (e.atoms) this.remix(e.atoms); else this.play("all");
    this.player.seek(this.cursor - e.start);
    document.querySelectorAll("[data-explanation]").forEach((article) => {
      article.hidden = +article.dataset.explanation !== index;
    });
  }

  async unpack(way) {
    if (way.labels) way.labels = await inflate(way.labels);
    if (way.wide_labels) way.labels = new Uint16Array((await inflate(way.wide_labels)).buffer);
    way.cells = way.labels; // where a part is, also where it is heard by a sound of its own
    if (way.sounds) {
      way.labels = null;
      way.sounds = await Promise.all(way.sounds.map(decode));
      if (way.offs) way.offs = await Promise.all(way.offs.map(decode));
    }
    if (way.phase !== undefined) way.phase = new Int16Array((await inflate(this.data.phases[way.phase])).buffer);
    way.ready = true;
  }

  // --- the mix ---

  truths() {
    // The model's own answers, by the mix that it was asked about.
    const { e } = this, found = new Map(), all = new Uint8Array(this.parts.k).fill(1);
    const evidence = this.union(e.evidence);
    if (e.ladder) e.ladder.counts.forEach((n, i) => {
      found.set(this.union(e.order.slice(0, n)).join(""), { scaled: e.ladder.insertion[i] });
      found.set(this.union(e.order.slice(0, n)).map((on) => 1 - on).join(""), { scaled: e.ladder.deletion[i] });
    });
    found.set(evidence.map((on) => 1 - on).join(""), e.truth.complement);
    found.set(evidence.join(""), e.truth.evidence);
    found.set(all.map(() => 0).join(""), e.truth.none);
    found.set(all.join(""), e.truth.all);
    return found;
  }

  play(what) {
    const { e } = this, all = new Uint8Array(this.parts.k).fill(1), evidence = this.union(e.evidence);
    this.remix({ all, evidence, complement: evidence.map((on) => 1 - on) }[what]);
  }

  climb(n, mode) {
    const strongest = this.union(this.e.order.slice(0, n));
    this.remix(mode === "keep" ? strongest : strongest.map((on) => 1 - on));
  }

  toggle(weight, on = !this.isOn(weight)) {
    const atoms = this.atoms.slice();
    for (const atom of this.atomsOf(weight)) atoms[atom] = on ? 1 : 0;
    this.remix(atoms);
  }

  solo(weight) {
    const alone = this.union([weight]);
    if (alone.join("") === this.atoms.join("")) this.play("all"); else this.remix(alone);
  }

  remix(atoms) {
    this.atoms = this.e.atoms = atoms;
    this.mixed = this.mixer.mix(atoms);
    this.hear();
    this.paint();
    this.show();
  }

  hear() {
    const { rms, peak } = level(this.mixed);
    const matched = $("matched").checked && rms > 1e-7 ? Math.min(this.loudness.rms / rms, 0.99 / peak) : 1;
    this.player.set(this.mixed, this.rate, matched);
    $("gain").textContent = matched === 1 ? "" : `${signed(20 * Math.log10(matched), 1)} dB`;
  }

  // --- the scores ---

  get predicted() {
    const { e } = this;
    if (e.base === null) return null;
    return e.weights.reduce((sum, weight, i) => (this.isOn(i) ? sum + weight : sum), e.base);
  }

  asScore(scaled) { return this.e.probability ? sigmoid(scaled) : scaled; }

  // Fits know mixes of about half of the parts.
  get fitted() {
    const share = this.atoms.reduce((sum, on) => sum + on, 0) / this.parts.k;
    return share > 0.35 && share < 0.65;
  }

  halfWidth(predicted) {
    const { error } = this.e;
    return (this.asScore(predicted + error) - this.asScore(predicted - error)) / 2;
  }

  meter() {
    const { e } = this, told = this.known.get(this.atoms.join("")), predicted = this.predicted;
    const truth = told === undefined ? null : told.score === undefined ? this.asScore(told.scaled) : told.score;
    let words = "These weights are relative: they predict no score.";
    if (predicted !== null) {
      const score = this.asScore(predicted);
      words = score.toFixed(3);
      if (truth !== null && Math.abs(truth - score) > 5e-4) words += `, off by ${Math.abs(truth - score).toFixed(3)} here`;
      else if (truth === null && e.error === null) words += ", if what the parts do simply adds up";
      else if (truth === null && !this.fitted) words += ", a guess: mixes like this one were not asked about";
      else if (truth === null) words += ` ± ${this.halfWidth(predicted).toFixed(3)}`;
    }
    $("predicted").textContent = words;
    const top = told && told.top && told.top !== e.target ? ` (it hears ${told.top} most)` : "";
    $("truth").textContent = truth === null ? "not asked about this mix" : truth.toFixed(3) + top;
    const low = Math.min(0, e.truth.none.score, e.truth.all.score), high = e.probability ? 1 : Math.max(1e-9, e.truth.none.score, e.truth.all.score);
    const place = (score) => `${100 * clamp((score - low) / (high - low), 0, 1)}%`;
    const put = (id, score) => { $(id).hidden = score === null; if (score !== null) $(id).style.left = place(score); };
    put("mark-truth", truth);
    put("mark-predicted", predicted === null ? null : this.asScore(predicted));
    put("mark-all", e.truth.all.score);
    put("mark-none", e.truth.none.score);
    const range = $("mark-range");
    range.hidden = predicted === null || e.error === null || truth !== null || !this.fitted;
    if (!range.hidden) {
      const from = parseFloat(place(this.asScore(predicted - e.error))), to = parseFloat(place(this.asScore(predicted + e.error)));
      range.style.left = `${from}%`;
      range.style.width = `${to - from}%`;
    }
  }

  show() {
    const { e } = this, on = e.weights.filter((_, i) => this.isOn(i)).length, key = this.atoms.join("");
    this.meter();
    $("count").textContent = `${on} of ${e.weights.length} parts on`;
    document.querySelectorAll("#parts input").forEach((box) => {
      box.checked = this.isOn(+box.value);
      box.indeterminate = !box.checked && this.atomsOf(+box.value).some((atom) => this.atoms[atom]);
    });
    const evidence = this.union(e.evidence);
    const presets = { all: key.replace(/0/g, "1"), evidence: evidence.join(""), complement: evidence.map((x) => 1 - x).join("") };
    document.querySelectorAll("[data-play]").forEach((button) => {
      button.setAttribute("aria-pressed", String(presets[button.dataset.play] === key));
    });
    const mode = document.querySelector("[name=mode]:checked").value, n = mode === "keep" ? on : e.weights.length - on;
    const strongest = this.union(e.order.slice(0, n)), step = mode === "keep" ? strongest : strongest.map((x) => 1 - x);
    if (step.join("") === key) $("ladder").value = n;
    $("ladder-says").textContent = step.join("") !== key ? (key === presets.all ? "everything, also what is in none of these parts" : "a mix of your own, no step of this slider") : `${mode === "keep" ? "only" : "without"} the ${$("ladder").value} strongest of ${e.weights.length}`;
    $("ladder").setAttribute("aria-valuetext", $("ladder-says").textContent);
  }

  listParts() {
    const { e } = this, list = $("parts"), largest = Math.max(1e-12, ...e.weights.map(Math.abs));
    list.textContent = "";
    const order = e.weights.map((_, i) => i).sort((a, b) => Math.abs(e.weights[b]) - Math.abs(e.weights[a]) || a - b);
    for (const weight of order) {
      const [row, first, second] = ["row", "gridcell", "gridcell"].map((role) => { const box = document.createElement("div"); box.setAttribute("role", role); return box; });
      const label = document.createElement("label"), box = document.createElement("input");
      const name = document.createElement("span"), value = document.createElement("span"), bar = document.createElement("i"), solo = document.createElement("button");
      box.type = "checkbox";
      box.value = weight;
      box.checked = true;
      name.className = "name";
      name.textContent = e.names[weight];
      value.className = `value ${e.weights[weight] < 0 ? "against" : "for"}`;
      value.textContent = signed(e.weights[weight]) + (e.se ? ` ± ${e.se[weight].toFixed(3)}` : "");
      bar.className = e.weights[weight] < 0 ? "against" : "for";
      bar.style.width = `calc(${Math.abs(e.weights[weight]) / largest} * (100% - 6rem))`;
      solo.type = "button";
      solo.textContent = "solo";
      solo.setAttribute("aria-label", `solo ${e.names[weight]}`);
      box.tabIndex = solo.tabIndex = -1;
      label.append(box, name, value);
      first.append(label, bar);
      second.append(solo);
      row.append(first, second);
      row.dataset.weight = weight;
      list.append(row);
    }
    const start = list.querySelector("input");
    if (start) start.tabIndex = 0;
  }

  walk(event) {
    // The list of parts is one stop of the Tab key; inside it these keys go from part to part, and to "solo".
    const rows = [...$("parts").children], row = rows.indexOf(event.target.closest("[role=row]"));
    const down = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (row < 0) return; // the list itself, which was clicked beside its parts
    const own = event.target.tagName.toLowerCase(), kind = { ArrowLeft: "input", ArrowRight: "button" }[event.key] || own;
    if (event.ctrlKey || event.metaKey || event.altKey || (down === undefined && kind === own)) return;
    event.preventDefault();
    rows[clamp(row + (down || 0), 0, rows.length - 1)].querySelector(kind).focus();
  }

  // --- the picture ---

  paint() {
    // All of the span, one pixel a frame and a row; the canvas shows a stretch of it.
    const { e, parts, mixer } = this, { nBins, nFrames } = mixer.stft, { re, im } = mixer.spectrum;
    const high = this.rate / 2, { dark } = this;
    const columns = Math.min(nFrames, 4096);
    if (!parts.loudness) {
      parts.bins = Array.from({ length: ROWS }, (_, r) => Math.min(nBins - 1, Math.round((LOWEST * (high / LOWEST) ** ((ROWS - 1 - r) / (ROWS - 1)) / high) * (nBins - 1))));
      parts.loudness = new Float32Array(ROWS * columns);
      let loudest = 1e-30;
      for (let at = 0; at < re.length; at++) loudest = Math.max(loudest, re[at] ** 2 + im[at] ** 2);
      for (let r = 0; r < ROWS; r++) for (let c = 0; c < columns; c++) {
        const at = Math.floor((c * nFrames) / columns) * nBins + parts.bins[r];
        parts.loudness[r * columns + c] = 1 - Math.max(10 * Math.log10(Math.max((re[at] ** 2 + im[at] ** 2) / loudest, 1e-30)), FLOOR) / FLOOR;
      }
    }
    const strength = new Float32Array(parts.k), evidence = this.union(e.evidence);
    e.weights.forEach((weight, i) => { for (const atom of this.atomsOf(i)) strength[atom] += weight; });
    const largest = Math.max(1e-12, ...strength.map(Math.abs));
    const image = new ImageData(columns, ROWS), paper = dark ? 22 : 255, ink = dark ? 205 : 70;
    const hues = dark ? [[255, 92, 84], [96, 156, 255]] : [[214, 26, 28], [33, 92, 204]];
    this.inside = e.groups || !$("overlay").checked ? null : new Uint8Array(ROWS * columns); // where the evidence is
    this.lined = null;
    for (let r = 0; r < ROWS; r++) for (let c = 0; c < columns; c++) {
      const frame = Math.floor((c * nFrames) / columns), cell = parts.cells[frame * nBins + parts.bins[r]];
      let tint = strength[cell] / largest;
      if (e.map) {
        const hertz = LOWEST * (high / LOWEST) ** ((ROWS - 1 - r) / (ROWS - 1));
        const band = clamp(Math.round(12 * Math.log2(hertz / LOWEST)), 0, e.map.rows - 1);
        tint = e.map.values[band * e.map.columns + Math.min(e.map.columns - 1, Math.floor((frame / nFrames) * e.map.columns))] / 127;
      }
      const on = this.atoms[cell], loud = parts.loudness[r * columns + c] * (on ? 1 : 0.25);
      const share = on && $("overlay").checked ? Math.abs(tint) ** 0.7 : 0, hue = hues[tint > 0 ? 0 : 1], at = 4 * (r * columns + c);
      if (this.inside) this.inside[r * columns + c] = evidence[cell];
      for (let i = 0; i < 3; i++) {
        const grey = paper + (ink - paper) * loud, colour = paper + (hue[i] - paper) * (0.15 + 0.85 * loud);
        image.data[at + i] = grey + (colour - grey) * share;
      }
      image.data[at + 3] = 255;
    }
    this.picture = this.picture || document.createElement("canvas");
    this.picture.width = columns;
    this.picture.height = ROWS;
    this.picture.getContext("2d").putImageData(image, 0, 0);
    this.draw();
  }

  get dark() { return !this.printing && matchMedia("(prefers-color-scheme: dark)").matches; }

  lines(width, height) {
    // Around the evidence, one pixel of the screen thick however near one looks; a picture of so many pixels.
    const { e, picture, inside } = this, [from, to] = this.view, key = [from, to, width, height].join();
    if (this.lined && this.lined.key === key) return this.lined.canvas;
    const canvas = document.createElement("canvas"), image = new ImageData(width, height), scale = picture.width / this.seconds;
    const columns = Int32Array.from({ length: width + 1 }, (_, x) => clamp(Math.floor((from - e.start + ((x + 0.5) / width) * (to - from)) * scale), 0, picture.width - 1));
    const rows = Int32Array.from({ length: height + 1 }, (_, y) => Math.min(ROWS - 1, Math.floor(((y + 0.5) / height) * ROWS)) * picture.width);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const here = inside[rows[y] + columns[x]];
      if (here !== inside[rows[y] + columns[x + 1]] || here !== inside[rows[y + 1] + columns[x]]) {
        const at = 4 * (y * width + x);
        image.data.fill(this.dark ? 235 : 20, at, at + 3);
        image.data[at + 3] = 255;
      }
    }
    Object.assign(canvas, { width, height }).getContext("2d").putImageData(image, 0, 0);
    this.lined = { key, canvas };
    return canvas;
  }

  fit(canvas) {
    // A pixel of the canvas for a pixel of the screen.
    const ratio = devicePixelRatio || 1, width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = pen.strokeStyle = getComputedStyle(canvas).color;
    return pen;
  }

  get gutter() { return $("stage").clientWidth < 500 ? 44 : 82; }
  x(seconds) { return this.gutter + ((seconds - this.view[0]) / (this.view[1] - this.view[0])) * ($("stage").clientWidth - this.gutter); }
  time(x) { return this.view[0] + ((x - this.gutter) / ($("stage").clientWidth - this.gutter)) * (this.view[1] - this.view[0]); }
  y(hertz) { return (1 - Math.log(hertz / LOWEST) / Math.log(this.rate / 2 / LOWEST)) * this.depth; }
  hertz(y) { return LOWEST * (this.rate / 2 / LOWEST) ** (1 - y / this.depth); }
  get depth() { return $("stage").clientHeight - 22; }

  draw() {
    if (!this.picture || !this.view) return;
    const canvas = $("stage"), pen = this.fit(canvas), width = canvas.clientWidth, { e, gutter, depth } = this, [from, to] = this.view;
    pen.imageSmoothingEnabled = false;
    const scale = this.picture.width / this.seconds;
    pen.drawImage(this.picture, (from - e.start) * scale, 0, (to - from) * scale, ROWS, gutter, 0, width - gutter, depth);
    if (this.inside && width > gutter) {
      const ratio = devicePixelRatio || 1, left = Math.round(gutter * ratio);
      pen.save();
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.drawImage(this.lines(canvas.width - left, Math.round(depth * ratio)), left, 0);
      pen.restore();
    }
    if (this.marked !== undefined) this.outline(pen, this.marked);
    for (let octave = 0; LOWEST * 2 ** octave < this.rate / 2; octave++) {
      const hertz = LOWEST * 2 ** octave, y = this.y(hertz);
      pen.fillText(gutter < 60 ? `C${octave + 1}` : `C${octave + 1} · ${hertz.toFixed(0)} Hz`, 0, clamp(y + 4, 10, depth));
      pen.fillRect(gutter - 4, y, 4, 1);
    }
    const step = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60].find((s) => ((to - from) / s) * 52 < width - gutter) || 60;
    let free = 0; // from where on there is room for words
    for (let s = Math.ceil(from / step) * step; s <= to + 1e-9; s += step) {
      pen.fillRect(this.x(s), depth, 1, 4);
      const text = `${s.toFixed(step < 0.1 ? 2 : step < 1 ? 1 : 0)} s`, long = pen.measureText(text).width, left = Math.max(gutter, this.x(s) - long / 2);
      if (left < free || left + long > width) continue;
      pen.fillText(text, left, depth + 17);
      free = left + long + 4;
    }
    this.curve();
    this.place();
  }

  outline(pen, weight) {
    const { parts, mixer } = this, atoms = new Set(this.atomsOf(weight)), { nBins, nFrames } = mixer.stft;
    const [from, to] = this.view, wide = $("stage").clientWidth - this.gutter;
    for (let px = 0; px < wide; px += 2) {
      const frame = clamp(Math.floor(((from - this.e.start + (px / wide) * (to - from)) / this.seconds) * nFrames), 0, nFrames - 1);
      for (let r = 0; r < ROWS; r += 2)
        if (atoms.has(parts.cells[frame * nBins + parts.bins[r]]) && (px / 2 + r / 2) % 2 === 0)
          pen.fillRect(this.gutter + px, (r / ROWS) * this.depth, 1, 1);
    }
  }

  curve() {
    const canvas = $("curve"), pen = this.fit(canvas), { e, gutter } = this, height = canvas.clientHeight - 12;
    const scores = e.windows.map((w) => w[2]), known = [...scores, e.truth.none.score];
    const low = e.probability ? 0 : Math.min(...known), high = e.probability ? 1 : Math.max(...known, low + 1e-9);
    const y = (score) => 6 + height * (1 - (score - low) / (high - low || 1));
    pen.fillText(high.toPrecision(2), 0, 14);
    pen.fillText(low.toPrecision(2), 0, height + 8);
    pen.save();
    pen.beginPath();
    pen.rect(gutter, 0, canvas.clientWidth, canvas.clientHeight);
    pen.clip();
    pen.setLineDash([3, 4]);
    pen.beginPath();
    pen.moveTo(gutter, y(e.truth.none.score));
    pen.lineTo(canvas.clientWidth, y(e.truth.none.score));
    pen.stroke();
    pen.setLineDash([]);
    pen.lineWidth = 2;
    // Windows may overlap: each speaks for the stretch around its middle.
    const middles = e.windows.map((w) => (w[0] + w[1]) / 2);
    pen.beginPath();
    e.windows.forEach((w, i) => {
      const left = i ? (middles[i - 1] + middles[i]) / 2 : e.start, right = i + 1 < middles.length ? (middles[i] + middles[i + 1]) / 2 : this.end;
      pen.lineTo(this.x(left), y(w[2]));
      pen.lineTo(this.x(right), y(w[2]));
    });
    pen.stroke();
    pen.restore();
  }

  place() {
    // The cursor, over both pictures; it alone moves while the sound plays.
    const line = $("cursor"), x = this.x(this.cursor);
    line.hidden = x < this.gutter - 1 || x > $("stage").clientWidth + 1;
    line.style.transform = `translateX(${x}px)`;
    $("time").textContent = `${this.cursor.toFixed(2)} s`;
    $("stage").setAttribute("aria-valuenow", this.cursor.toFixed(2));
    $("stage").setAttribute("aria-valuemin", this.e.start.toFixed(2));
    $("stage").setAttribute("aria-valuemax", this.end.toFixed(2));
    $("stage").setAttribute("aria-valuetext", `${this.cursor.toFixed(2)} seconds`);
  }

  tick() {
    this.cursor = this.e.start + this.player.position;
    if (this.player.playing && (this.cursor > this.view[1] || this.cursor < this.view[0]) && this.cursor < this.end - 0.05) {
      const width = this.view[1] - this.view[0];
      this.look(this.cursor, this.cursor + width);
    }
    this.place();
    $("play").textContent = this.player.playing ? "Pause" : "Play";
    cancelAnimationFrame(this.frame);
    if (this.player.playing) this.frame = requestAnimationFrame(() => this.tick());
  }

  // --- moving about ---

  look(from, to) {
    const width = clamp(to - from, Math.min(0.2, this.seconds), this.seconds), start = clamp(from, this.e.start, this.end - width);
    this.view = [start, start + width];
    $("pan").value = this.seconds - width < 1e-6 ? 0 : (1000 * (start - this.e.start)) / (this.seconds - width);
    $("pan").disabled = this.seconds - width < 1e-6;
    this.draw();
  }

  zoom(factor, around = this.cursor) {
    const [from, to] = this.view, middle = clamp(around, from, to);
    this.look(middle - (middle - from) / factor, middle - (middle - from) / factor + (to - from) / factor);
  }

  seek(seconds) {
    this.player.seek(clamp(seconds, this.e.start, this.end) - this.e.start);
    this.tick();
    if (this.cursor < this.view[0] || this.cursor > this.view[1]) this.look(this.cursor - 0.1 * (this.view[1] - this.view[0]), this.cursor + 0.9 * (this.view[1] - this.view[0]));
  }

  playOrPause() {
    if (this.player.playing) this.player.stop(); else this.player.start(this.player.position);
    this.tick();
  }

  at(event) {
    const box = $("stage").getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    if (x < this.gutter || y > this.depth || y < 0) return null;
    const { nBins, nFrames } = this.mixer.stft, seconds = this.time(x), hertz = this.hertz(y);
    const frame = clamp(Math.round(((seconds - this.e.start) * this.rate) / this.parts.hop_length), 0, nFrames - 1);
    const bin = clamp(Math.round((hertz / (this.rate / 2)) * (nBins - 1)), 0, nBins - 1);
    const atom = this.parts.cells[frame * nBins + bin];
    const weights = this.e.weights.map((_, i) => i).filter((i) => this.atomsOf(i).includes(atom));
    return { seconds, hertz, weights };
  }

  say(place) {
    const { e } = this;
    if (!place) { $("hover").textContent = HINT; return; }
    const told = place.weights.slice(0, 4).map((i) => {
      const se = e.se ? ` ± ${e.se[i].toFixed(3)}` : "", unit = e.units === "relative" ? "of all attribution" : e.units;
      return `${e.names[i]}: ${signed(e.weights[i])}${se} ${unit}, ${(100 * e.energy[i]).toFixed(1)} % of the energy`;
    });
    $("hover").textContent = `${place.seconds.toFixed(2)} s, ${pitched(place.hertz)}. ${told.join("; ")}`;
  }

  listen() {
    // The page's controls.
    const canvas = $("stage");
    $("play").onclick = () => this.playOrPause();
    canvas.onpointermove = (event) => { const place = this.at(event); this.say(place); this.mark(place && place.weights[0]); };
    canvas.onpointerleave = (event) => {
      if (event.pointerType !== "mouse") return; // a finger that is lifted leaves what it has shown
      this.say(null);
      this.mark(undefined);
    };
    canvas.onclick = (event) => {
      const place = this.at(event);
      if (!place) return;
      this.seek(place.seconds);
      if (!this.player.playing) this.playOrPause();
    };
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.25 : 0.8, this.time(event.offsetX));
    }, { passive: false });
    const width = () => this.view[1] - this.view[0];
    const keys = {
      ArrowLeft: () => this.seek(this.cursor - width() / 50), ArrowRight: () => this.seek(this.cursor + width() / 50),
      PageUp: () => this.seek(this.cursor - width() / 5), PageDown: () => this.seek(this.cursor + width() / 5),
      Home: () => this.seek(this.e.start), End: () => this.seek(this.end),
      " ": () => this.playOrPause(), Enter: () => this.playOrPause(),
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5),
    };
    canvas.onkeydown = (event) => { const act = keys[event.key]; if (act && !event.ctrlKey && !event.metaKey) { event.preventDefault(); act(); } };
    $("closer").onclick = () => this.zoom(1.5);
    $("wider").onclick = () => this.zoom(1 / 1.5);
    $("pan").oninput = () => {
      const from = this.e.start + ($("pan").value / 1000) * (this.seconds - width());
      this.look(from, from + width());
    };
    document.querySelectorAll("[data-play]").forEach((button) => { button.onclick = () => this.play(button.dataset.play); });
    const climb = () => this.climb(+$("ladder").value, document.querySelector("[name=mode]:checked").value);
    $("ladder").oninput = climb;
    document.querySelectorAll("[name=mode]").forEach((mode) => { mode.onchange = climb; });
    $("matched").onchange = () => this.hear();
    $("overlay").onchange = () => this.paint();
    const list = $("parts");
    list.onchange = (event) => this.toggle(+event.target.value, event.target.checked);
    list.onclick = (event) => { if (event.target.tagName === "BUTTON") this.solo(+event.target.closest("[role=row]").dataset.weight); };
    const mark = (event) => { const row = event.target.closest("[role=row]"); this.mark(row ? +row.dataset.weight : undefined); };
    list.onpointerover = mark;
    list.onpointerleave = () => this.mark(undefined);
    list.addEventListener("focusin", (event) => {
      if (event.target === list) return;
      list.querySelectorAll("[tabindex='0']").forEach((control) => { control.tabIndex = -1; });
      event.target.tabIndex = 0; // where Tab comes back to
      mark(event);
    });
    list.addEventListener("focusout", () => this.mark(undefined));
    list.onkeydown = (event) => this.walk(event);
    document.querySelectorAll("[name=explanation]").forEach((choice) => { choice.onchange = () => this.choose(+choice.value).catch(fault); });
    new ResizeObserver(() => this.draw()).observe(canvas);
    const print = (printing) => () => {
      this.printing = printing;
      if (printing) document.querySelectorAll("details").forEach((one) => { one.open = true; });
      this.paint();
    };
    addEventListener("beforeprint", print(true));
    addEventListener("afterprint", print(false));
    matchMedia("(prefers-color-scheme: dark)").onchange = () => this.paint();
  }

  mark(weight) {
    if (weight === null) weight = undefined;
    if (this.marked === weight) return;
    this.marked = weight;
    this.draw();
  }

  // --- for tests: what sounds, as the browser renders it ---

  async render() {
    const context = new OfflineAudioContext(1, this.mixed.length, this.rate), source = context.createBufferSource();
    const buffer = context.createBuffer(1, this.mixed.length, this.rate);
    buffer.copyToChannel(this.mixed, 0);
    source.buffer = buffer; // last: what is put into it later need not be heard
    source.connect(context.destination);
    source.start();
    return Array.from((await context.startRendering()).getChannelData(0));
  }
}

async function open() {
  const stage = new Stage(JSON.parse($("data").textContent));
  window.otoscope = stage;
  document.body.classList.add("live");
  stage.listen();
  try {
    await stage.choose(+document.querySelector("[name=explanation]:checked").value);
    document.body.dataset.ready = "yes";
  } catch (error) {
    fault(error);
  }
}

function fault(error) {
  $("fault").hidden = false;
  $("fault").textContent = `This browser cannot take the sound apart (${error.message}); open the page in another one.`;
}

open();
