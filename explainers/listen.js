"use strict";
/* A listening test in one page. It asks pair after pair, keeps what was answered in the browser, and offers it as CSV.
   Which sound is which it does not know. */
(() => {
  const at = (id) => document.getElementById(id);
  const test = JSON.parse(at("content").textContent);
  const ENOUGH = 2; // seconds of a sound, and half of it, that must be heard in one go; or to its end
  const ANSWERS = ["A", "B", "cannot tell"];
  const COLUMNS = ["test id", "listener", "pair id", "answer", "times played A", "times played B", "seconds", "answered at"];
  const STORE = `otoscope ${test.test}`;
  const SIDES = ["a", "b", "recording"].filter((side) => at(`play-${side}`));
  const NAMES = { a: "A", b: "B", recording: "the recording" };
  const KEYS = { a: "A", b: "B", recording: "R" };

  let state = fresh("");
  let place = 0; // of the pair on show
  let since = 0; // when its time was last added up
  let broken = false; // a sound could not be played: then hearing both cannot be asked for
  let kept = true; // the browser keeps the answers
  let saved = true; // as CSV, since the last answer
  const players = Object.fromEntries(SIDES.map((side) => [side, new Audio()]));

  /* What is kept */

  function fresh(listener) {
    const rows = test.pairs.map((pair) => [pair.id, { a: 0, b: 0, seconds: 0, heard: {}, answer: "", answered: "" }]);
    return { listener, rows: Object.fromEntries(rows) };
  }

  function load() {
    let found = null;
    try {
      found = JSON.parse(localStorage.getItem(STORE));
      localStorage.setItem(STORE, JSON.stringify(found));
    } catch (error) {
      kept = !(error instanceof SyntaxError) ? false : kept;
    }
    if (!found || typeof found.listener !== "string" || typeof found.rows !== "object") return;
    state = fresh(found.listener);
    for (const [id, row] of Object.entries(state.rows)) {
      const before = (found.rows || {})[id] || {};
      for (const figure of ["a", "b", "seconds"]) row[figure] = Math.max(0, Number(before[figure]) || 0);
      for (const side of ["a", "b"]) row.heard[side] = before.heard?.[side] === true;
      if (ANSWERS.includes(before.answer)) row.answer = before.answer;
      if (typeof before.answered === "string") row.answered = before.answered;
    }
  }

  function keep() {
    if (kept) {
      try {
        localStorage.setItem(STORE, JSON.stringify(state));
      } catch {
        kept = false;
      }
    }
    at("unkept").hidden = kept;
  }

  /* Where one is */

  const row = () => state.rows[test.pairs[place].id];
  const isOpen = (pair) => !state.rows[pair.id].answer;
  const nAnswered = () => test.pairs.filter((pair) => !isOpen(pair)).length;

  function show(section) {
    for (const name of ["start", "asking", "end"]) at(name).hidden = name !== section;
    for (const span of document.querySelectorAll(".listener")) span.textContent = state.listener;
  }

  function goOn() {
    const open = test.pairs.findIndex(isOpen);
    if (open < 0) finish();
    else ask(open);
  }

  function ask(index) {
    stop();
    place = index;
    since = performance.now();
    broken = false;
    const pair = test.pairs[place];
    for (const side of SIDES) players[side].src = test.sounds[pair[side]];
    at("place").textContent = `Pair ${place + 1} of ${test.pairs.length}`;
    at("question").textContent = `Which one still sounds like: ${pair.words}?`;
    at("done").max = test.pairs.length;
    at("done").value = nAnswered();
    at("back").disabled = place === 0;
    at("next").hidden = isOpen(pair);
    show("asking");
    say("");
    refresh();
    at("question").focus();
  }

  function finish() {
    stop();
    at("all").textContent = test.pairs.length;
    at("saved").textContent = "";
    show("end");
    at("thanks").focus();
  }

  function say(text) {
    at("status").textContent = text;
  }

  function refresh() {
    for (const side of SIDES) {
      const playing = !players[side].paused;
      const button = at(`play-${side}`);
      button.replaceChildren(`${playing ? "■ Stop" : "▶ Play"} ${NAMES[side]} `, hint(KEYS[side]));
    }
    for (const button of document.querySelectorAll(".answer")) {
      button.disabled = unheard().length > 0;
      button.setAttribute("aria-pressed", String(row().answer === button.dataset.answer));
    }
  }

  function hint(key) {
    const element = document.createElement("kbd");
    element.textContent = key;
    return element;
  }

  /* Listening */

  const unheard = () => (broken ? [] : ["a", "b"].filter((side) => !row().heard[side]));

  function follow(side) {
    const { currentTime, duration, ended } = players[side];
    if (row().heard[side] || !(ended || currentTime >= Math.max(ENOUGH, duration / 2))) return;
    row().heard[side] = true;
    keep();
    refresh();
    if (!unheard().length) say("You have heard enough of both: answer now, or listen on.");
  }

  function stop() {
    for (const player of Object.values(players)) player.pause();
  }

  function play(side) {
    const player = players[side];
    const wasPlaying = !player.paused;
    const playedOf = row();
    stop();
    if (wasPlaying) return;
    player.currentTime = 0;
    player.play().then(() => {
      if (side in playedOf) playedOf[side] += 1;
      count();
      refresh();
    }).catch((error) => {
      if (error.name === "AbortError") return; // stopped before it began
      broken = true;
      say("This browser cannot play the sound. Say that you cannot tell, or try another browser.");
      refresh();
    });
  }

  for (const side of SIDES) {
    const bar = at(`play-${side}`).nextElementSibling;
    for (const event of ["play", "pause", "ended"]) players[side].addEventListener(event, refresh);
    for (const event of ["timeupdate", "emptied"]) {
      players[side].addEventListener(event, () => {
        bar.value = players[side].currentTime / players[side].duration || 0;
      });
    }
    for (const event of ["timeupdate", "pause", "ended"]) {
      if (side !== "recording") players[side].addEventListener(event, () => follow(side));
    }
    at(`play-${side}`).addEventListener("click", () => play(side));
  }

  /* Answering */

  function count() {
    const now = performance.now();
    row().seconds += (now - since) / 1000;
    since = now;
    keep();
  }

  function answer(said) {
    if (unheard().length) {
      const which = unheard().map((side) => NAMES[side]).join(" and ");
      say(`Hear more of ${which} first: to the end, or at least 2 seconds and half of it in one go.`);
      return;
    }
    row().answer = said;
    row().answered = new Date().toISOString();
    saved = false;
    count();
    goOn();
  }

  for (const button of document.querySelectorAll(".answer")) {
    button.addEventListener("click", () => answer(button.dataset.answer));
  }
  at("back").addEventListener("click", () => ask(place - 1));
  at("again").addEventListener("click", () => ask(test.pairs.length - 1));
  at("next").addEventListener("click", goOn);

  document.addEventListener("keydown", (event) => {
    if (at("asking").hidden || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const side = SIDES.find((name) => KEYS[name] === event.key.toUpperCase());
    const digit = Number(/^(?:Digit|Numpad)([123])$/.exec(event.code)?.[1] || event.key); // on any keyboard layout
    if (side) play(side);
    else if ([1, 2, 3].includes(digit)) answer(ANSWERS[digit - 1]);
    else return;
    event.preventDefault();
  });

  /* Coming and going */

  const named = (text) => text.trim().replace(/^[=+\-@\s]+/, ""); // spreadsheets take such a name for a formula

  at("who").addEventListener("submit", (event) => {
    event.preventDefault();
    const listener = named(at("listener").value);
    at("listener").value = listener;
    if (!listener) return;
    state.listener = listener;
    keep();
    goOn();
  });

  at("other").addEventListener("click", () => {
    const warning = saved ? "" : " They have not been saved as a file since the last answer.";
    if (!confirm(`Forget the answers of ${state.listener} in this browser?${warning}`)) return;
    state = fresh("");
    saved = true;
    keep();
    at("listener").value = "";
    show("start");
    at("listener").focus();
  });

  addEventListener("beforeunload", (event) => {
    if (!kept && !saved) event.preventDefault();
  });

  /* The table */

  const cell = (value) => (/[",;\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));

  function table() {
    const rows = test.pairs.filter((pair) => !isOpen(pair)).map((pair) => {
      const { a, b, seconds, answer: said, answered } = state.rows[pair.id];
      return [test.test, state.listener, pair.id, said, a, b, seconds.toFixed(1), answered];
    });
    return [COLUMNS, ...rows].map((line) => line.map(cell).join(",") + "\r\n").join("");
  }

  function save() {
    const told = at("end").hidden ? at("status") : at("saved");
    if (!nAnswered()) {
      told.textContent = "Nothing is answered yet.";
      return;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", table()], { type: "text/csv;charset=utf-8" }));
    link.download = `${test.test}-${state.listener.replace(/[^\p{L}\p{N}]+/gu, "_")}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    saved = true;
    told.textContent = `Saved ${nAnswered()} answers as ${link.download}.`;
  }

  for (const button of document.querySelectorAll(".save")) button.addEventListener("click", save);

  load();
  at("unkept").hidden = kept;
  if (state.listener) goOn();
})();
