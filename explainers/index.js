"use strict";
// Filters and sorts the table, keeps what was chosen in the address, and plays snippets one after the other.
// What is shown stands in the page already: without this script everything is there, unfiltered.
{
  const recordings = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("recordings");
  const form = document.getElementById("filters");
  const keys = ["class", "model", "method", "verdict"];
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

  recordings.forEach((one, place) => {
    one.body = table.tBodies[place];
    const words = one.results.flatMap((result) => keys.map((key) => result[key]));
    one.text = plain([one.name, ...one.top, ...words].join("\n"));
  });

  // What of a recording answers to the filters; null where the words do not fit.
  function matching(one, words, chosen) {
    if (!words.every((word) => one.text.includes(word))) return null;
    const found = one.results.filter((result) => keys.every((key) => !chosen[key] || result[key] === chosen[key]));
    return found.length || keys.some((key) => chosen[key]) ? found : [{ score: -Infinity, rank: Infinity }];
  }

  const orders = {
    score: (a, b) => b.high - a.high,
    low: (a, b) => a.low - b.low,
    trust: (a, b) => a.best - b.best,
    doubt: (a, b) => b.worst - a.worst,
  };

  function show() {
    const chosen = Object.fromEntries(new FormData(form));
    const words = plain(chosen.q).split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of recordings) {
      const found = matching(one, words, chosen) ?? [];
      const scores = found.map((result) => result.score), ranks = found.map((result) => result.rank);
      [one.high, one.low] = [Math.max(...scores), Math.min(...scores)];
      [one.best, one.worst] = [Math.min(...ranks), Math.max(...ranks)];
      one.body.hidden = found.length === 0;
      shown += found.length > 0;
    }
    const byName = (a, b) => collator.compare(a.name, b.name);
    const order = orders[chosen.sort];
    const sorted = recordings.filter((one) => !one.body.hidden);
    sorted.sort((a, b) => (order ? order(a, b) : 0) || byName(a, b));
    table.append(...sorted.map((one) => one.body));
    document.getElementById("count").textContent = `${shown} of ${recordings.length} recordings shown.`;
    document.getElementById("nothing").hidden = shown > 0;
  }

  // The address holds the filters, so that it can be passed on; other anchors are left alone.
  function keep() {
    const chosen = [...new FormData(form)].filter(([, value]) => value);
    const hash = new URLSearchParams(chosen).toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  function recall() {
    const hash = location.hash.slice(1);
    if (hash && !hash.includes("=")) return false;
    const given = new URLSearchParams(hash);
    for (const field of form.elements) {
      if (!field.name) continue;
      field.value = given.get(field.name) ?? "";
      if (field.selectedIndex === -1) field.value = "";
    }
    return true;
  }

  form.addEventListener("input", () => { show(); keep(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("all").addEventListener("click", () => { form.reset(); show(); keep(); });
  addEventListener("hashchange", () => {
    if (!recall()) return;
    show();
    if (location.hash) document.getElementById("list").scrollIntoView();
    if (location.hash) form.elements.q.focus({ preventScroll: true });
  });
  document.documentElement.classList.add("js");
  recall();
  show();

  // One sound at a time; a playlist goes on by itself.
  let run = null;

  function stop() {
    if (!run) return;
    const { button, players, at, told } = run;
    run = null;
    players[at].pause();
    players[at].closest("li").removeAttribute("aria-current");
    button.textContent = "Play all";
    told.textContent = "";
  }

  function play(at) {
    const mine = run;
    const player = run.players[at];
    run.players[run.at].closest("li").removeAttribute("aria-current");
    run.at = at;
    const item = player.closest("li");
    item.setAttribute("aria-current", "true");
    item.scrollIntoView({ block: "nearest" });
    run.told.textContent = `${at + 1} of ${run.players.length}: ${player.getAttribute("aria-label")}`;
    player.currentTime = 0;
    player.play().catch(() => { if (run === mine && run.at === at && player.error) next(); });
  }

  function next() {
    if (run.at + 1 < run.players.length) play(run.at + 1);
    else stop();
  }

  for (const button of document.querySelectorAll("button.play")) {
    button.addEventListener("click", () => {
      const again = run?.button === button;
      stop();
      if (again) return;
      const inside = button.closest("details");
      run = { button, at: 0, players: [...inside.querySelectorAll("audio")], told: inside.querySelector(".playing") };
      button.textContent = "Stop";
      play(0);
    });
  }

  document.addEventListener("play", (event) => {
    if (run && event.target !== run.players[run.at]) stop();
    for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
  }, true);
  document.addEventListener("ended", (event) => { if (run && event.target === run.players[run.at]) next(); }, true);
}
