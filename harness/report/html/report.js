// The page's only script. Text of agents only ever becomes text nodes: nothing here makes HTML of a string.
"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const make = (tag, name = "", ...children) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...children);
    return element;
  };

  // Light and dark

  const themes = ["auto", "light", "dark"];
  const themeButton = find("theme");
  let theme = "auto";
  const showTheme = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    themeButton.textContent = `Theme: ${theme}`;
  };
  // A page opened as a file may have no storage: then the choice lasts as long as the page.
  const stored = (act) => { try { return act(localStorage); } catch { return null; } };
  const wanted = stored((storage) => storage.getItem("harness-theme"));
  if (themes.includes(wanted)) theme = wanted;
  themeButton.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    stored((storage) => storage.setItem("harness-theme", theme));
    showTheme();
  });
  themeButton.hidden = false;
  showTheme();

  // Tasks: filter, sort, walk

  const grid = find("grid");
  const body = grid.tBodies[0];
  const rows = [...body.rows];
  const filters = [...document.querySelectorAll(".filter")];
  const names = new Map(rows.map((row) => [row, row.cells[0].textContent]));
  let kind = "all";
  const refilter = () => {
    const text = find("find").value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = kind === "all" || row.dataset.kinds.split(" ").includes(kind);
      row.hidden = !(fits && names.get(row).toLowerCase().includes(text));
      shown += row.hidden ? 0 : 1;
    }
    for (const button of filters) button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    find("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} tasks`;
    rove(marks().find((mark) => mark.tabIndex === 0) ?? marks()[0]);
  };
  const orders = {
    name: () => 0,
    gap: (a, b) => b.dataset.gap - a.dataset.gap,
    rate: (a, b) => a.dataset.rate - b.dataset.rate,
  };
  const resort = () => body.append(...[...rows].sort(orders[find("sort").value]));
  const marks = () => [...body.querySelectorAll("tr:not([hidden]) .mark")];
  const rove = (mark) => {
    for (const other of body.querySelectorAll('.mark[tabindex="0"]')) other.tabIndex = -1;
    if (mark) mark.tabIndex = 0;
  };
  for (const button of filters) button.addEventListener("click", () => { kind = button.dataset.kind; refilter(); });
  find("find").addEventListener("input", refilter);
  find("sort").addEventListener("change", resort);
  find("controls").hidden = false;
  refilter();

  const beside = (mark, step) => { const all = marks(); return all[all.indexOf(mark) + step]; };
  const below = (mark, step) => {
    const cell = mark.closest("td");
    const place = [...cell.querySelectorAll(".mark")].indexOf(mark);
    const along = step > 0 ? "nextElementSibling" : "previousElementSibling";
    for (let row = cell.parentElement[along]; row; row = row[along]) {
      if (row.hidden) continue;
      const found = row.cells[cell.cellIndex].querySelectorAll(".mark");
      if (found.length) return found[Math.min(place, found.length - 1)];
    }
    return undefined;
  };
  const walk = {
    ArrowRight: (mark) => beside(mark, 1),
    ArrowLeft: (mark) => beside(mark, -1),
    ArrowDown: (mark) => below(mark, 1),
    ArrowUp: (mark) => below(mark, -1),
    Home: () => marks()[0],
    End: () => marks().at(-1),
  };
  grid.addEventListener("keydown", (event) => {
    const mark = event.target.closest?.(".mark");
    const to = mark && !event.altKey && !event.ctrlKey && !event.metaKey && walk[event.key]?.(mark);
    if (!to) return;
    event.preventDefault();
    rove(to);
    to.focus();
  });
  grid.addEventListener("mouseover", (event) => {
    const mark = event.target.closest?.(".mark");
    if (mark) mark.title = mark.getAttribute("aria-label");
  });

  // What scrolls sideways says so

  const scrollers = [...document.querySelectorAll(".scroll")].map((box) => {
    const hint = make("p", "scrolls soft small", "scrolls sideways →");
    hint.setAttribute("aria-hidden", "true");
    hint.hidden = true;
    box.prepend(hint);
    return [box, hint];
  });
  const markScrollers = () => {
    const wide = scrollers.map(([box]) => [box.scrollWidth - box.clientWidth, box.scrollLeft]);
    scrollers.forEach(([box, hint], place) => {
      const [more, from] = wide[place];
      hint.hidden = more < 2;
      box.classList.toggle("more", from < more - 1);
      box.classList.toggle("before", from > 1);
    });
  };
  for (const [box] of scrollers) box.addEventListener("scroll", markScrollers, { passive: true });
  window.addEventListener("resize", markScrollers);
  markScrollers();

  // A trial

  const dialog = find("trial");
  const panel = find("panel");
  const parts = [["Transcript", transcript], ["Diff", diff], ["Checks", checks], ["Record", record]];
  const tabs = parts.map(([name], place) => {
    const tab = make("button", "", name);
    tab.type = "button";
    tab.id = `tab-${place}`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "panel");
    tab.addEventListener("click", () => pick(place));
    return tab;
  });
  find("tabs").append(...tabs);
  let trial = null;
  let number = -1;
  let part = 0;
  let chosen = false;

  const markOf = (wanted) => body.querySelector(`.mark[href="#trial-${wanted}"]`);
  const unpack = async (wanted) => {
    const data = Uint8Array.from(atob(find(`d${wanted}`).textContent), (char) => char.charCodeAt(0));
    const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };
  const complete = () => new Promise((resolve) => {
    if (document.readyState !== "loading") resolve();
    else document.addEventListener("DOMContentLoaded", resolve, { once: true });
  });

  const open = async (wanted) => {
    const mark = markOf(wanted);
    if (!mark) return;
    number = wanted;
    trial = null;
    rove(mark);
    const label = mark.getAttribute("aria-label");
    const outcome = mark.classList[1];
    find("trial-title").replaceChildren(make("span", `badge ${outcome}`, `${mark.textContent} ${outcome}`), " ", trialName(label));
    find("previous").disabled = !beside(mark, -1);
    find("next").disabled = !beside(mark, 1);
    panel.replaceChildren(make("p", "soft", "Unpacking …"));
    if (!dialog.open) { mark.focus(); dialog.showModal(); panel.focus(); }
    await complete();
    try {
      const found = await unpack(wanted);
      if (number !== wanted) return;
      trial = found;
      if (!chosen) part = opening(found);
      choose(part);
    } catch (error) {
      panel.replaceChildren(make("p", "notice", `This trial cannot be unpacked: ${error}. Is the file whole?`));
    }
  };
  const trialName = (label) => label.slice(0, label.lastIndexOf(": "));
  const move = (step) => {
    const to = beside(markOf(number), step);
    if (to) location.replace(to.getAttribute("href"));
  };
  // A failed trial opens on what failed, until the reader has picked a part.
  const opening = (found) => (found.outcome === "failed" && found.checks.length ? 2 : 0);
  const pick = (place) => { chosen = true; choose(place); };
  const choose = (place) => {
    part = place;
    tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === place));
      tab.tabIndex = at === place ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `tab-${place}`);
    if (!trial) return;
    panel.replaceChildren(...parts[place][1](trial));
    panel.scrollTop = 0;
  };
  const follow = () => {
    const found = /^#trial-(\d+)$/.exec(location.hash);
    if (found) open(Number(found[1]));
    else if (dialog.open) dialog.close();
  };

  find("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    pick((part + step + parts.length) % parts.length);
    tabs[part].focus();
  });
  find("close").addEventListener("click", () => dialog.close());
  find("previous").addEventListener("click", () => move(-1));
  find("next").addEventListener("click", () => move(1));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    number = -1;
    chosen = false;
    if (location.hash.startsWith("#trial-")) history.replaceState(null, "", location.href.split("#")[0]);
    body.querySelector('.mark[tabindex="0"]')?.focus();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "n") move(1);
    else if (event.key === "p") move(-1);
    else if (event.key === "e") panel.querySelector(".expand")?.click();
    else if (/^[1-4]$/.test(event.key)) pick(event.key - 1);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || dialog.open || event.target.matches("input, select")) return;
    event.preventDefault();
    find("find").focus();
  });
  window.addEventListener("hashchange", follow);

  // The parts of a trial

  function head(found) {
    return [facts(found), ...notices(found)];
  }

  function facts(found) {
    const list = make("dl", "facts");
    for (const [name, value] of found.facts) list.append(make("dt", "", name), make("dd", "", value));
    return list;
  }

  function notices(found) {
    return found.notices.map((notice) => make("p", "notice", notice));
  }

  function transcript(found) {
    const steps = found.transcript.map(stepOf);
    const shown = [...head(found)];
    if (found.transcript_note) shown.push(make("p", "notice", found.transcript_note));
    if (steps.some((step) => step.tagName === "DETAILS")) shown.push(expander(steps));
    return [...shown, ...steps];
  }

  function expander(steps) {
    const button = make("button", "expand", "Open all steps");
    button.type = "button";
    let open = false;
    button.addEventListener("click", () => {
      open = !open;
      button.textContent = open ? "Close all steps" : "Open all steps";
      for (const step of steps) if (step.tagName === "DETAILS") step.open = open;
    });
    return make("div", "tools-row", button);
  }

  function stepOf(step) {
    const shown = (shapes[step.kind] ?? shapes.note)(step);
    shown.classList.add("step");
    shown.classList.toggle("inside", step.inside);
    shown.classList.toggle("wrong", step.error);
    return shown;
  }

  const shapes = {
    text: (step) => make("div", "said", ...prose(step.body)),
    thinking: (step) => folded("thinking", ["Thinking"], [make("div", "prose", step.body)]),
    tool: (step) => {
      const [name, ...rest] = step.title.split("  ");
      const edit = name === "Edit" || name === "MultiEdit";
      const inside = [];
      if (step.body) inside.push(make("pre", "", ...(edit ? changed(step.body) : [step.body])));
      if (step.result) inside.push(make("pre", "result", step.result));
      if (!inside.length) inside.push(make("p", "soft", "no input and no result"));
      const shown = folded("tool", [make("span", "tool-name", name), make("code", "", rest.join("  "))], inside);
      shown.open = edit || step.error;
      return shown;
    },
    result: (step) => folded("tool", ["A result without its call"], [make("pre", "result", step.body)]),
    turn: (step) =>
      make("div", "", make("h3", "turn", step.title), ...(step.body ? [make("div", "asked prose", step.body)] : [])),
    note: (step) => make("div", "line", step.title, ...(step.body ? [make("pre", "", step.body)] : [])),
    start: (step) => make("div", "line", step.body ? `${step.title}. ${step.body}` : step.title),
    end: (step) => make("div", "line", step.title),
  };

  function folded(name, summary, inside) {
    return make("details", name, make("summary", "", ...summary), ...inside);
  }

  // The little of Markdown that agents' messages live on: fences, code, bold, headings.
  function prose(text) {
    return text.split(/^```[^\n]*\n([\s\S]*?)^```[ \t]*$\n?/m).map((piece, place) =>
      place % 2 ? make("pre", "whole", piece.replace(/\n$/, "")) : make("div", "prose", ...inline(piece.trim())),
    );
  }

  function inline(text) {
    return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*|^#{1,6} [^\n]+)/m).map((piece, place) => {
      if (!(place % 2)) return piece;
      if (piece[0] === "`") return make("code", "", piece.slice(1, -1));
      return make("strong", "", piece[0] === "*" ? piece.slice(2, -2) : piece.replace(/^#+ /, ""));
    });
  }

  function changed(text) {
    const names = { "+": "add", "-": "del", "@": "hunk" };
    return text.split("\n").map((line) =>
      names[line[0]] ? make("span", names[line[0]], line) : `${line}\n`,
    );
  }

  function diff(found) {
    const shown = found.diff_note ? [make("p", "notice", found.diff_note)] : [];
    if (found.diff === "") shown.push(make("p", "soft", "The agent changed nothing."));
    for (const file of (found.diff ?? "").split(/^(?=diff --git )/m)) if (file) shown.push(fileOf(file));
    return shown;
  }

  function fileOf(text) {
    const from = text.search(/^@@ /m);
    const about = from < 0 ? text : text.slice(0, from);
    const lines = from < 0 ? "" : text.slice(from).replace(/\n$/, "");
    const name = /^\+\+\+ b\/(.*)$/m.exec(about)?.[1] ?? /^diff --git a\/.* b\/(.*)$/m.exec(about)?.[1] ?? "diff";
    const count = (sign) => lines.split("\n").filter((line) => line[0] === sign).length;
    const kind = /^new file/m.test(about) ? " new" : /^deleted file/m.test(about) ? " deleted" : "";
    const shown = folded(
      "file",
      [make("code", "", name), `${kind} `, make("span", "plus", `+${count("+")}`), " ", make("span", "minus", `−${count("-")}`)],
      [make("pre", "whole", ...(lines ? changed(lines) : [about]))],
    );
    shown.open = true;
    return shown;
  }

  function checks(found) {
    if (!found.checks.length) return [...head(found), make("p", "soft", "No checks were run.")];
    const failed = found.checks.filter((check) => !check.passed).length;
    const summary = failed
      ? `${failed} of ${found.checks.length} checks failed.`
      : `All ${found.checks.length} checks passed.`;
    return [...(failed ? notices(found) : []), make("p", "soft summary", summary), ...found.checks.map(checkOf), facts(found)];
  }

  function checkOf(check) {
    const line = make(
      "p", "", make("span", `badge ${check.passed ? "passed" : "failed"}`, `${check.passed ? "✓" : "✗"} ${check.verdict}`),
      " ", make("strong", "", check.name), " ", make("span", "soft", check.about),
    );
    const shown = make("div", `check ${check.passed ? "good" : "bad"}`, line);
    if (check.tests.length) shown.append(make("ul", "tests", ...check.tests.map((test) => make("li", "", test))));
    if (check.output) shown.append(make("pre", "", check.output));
    if (check.file) shown.append(make("p", "soft small", `The end of its output; more is in ${check.file}`));
    return shown;
  }

  function record(found) {
    const turning = /[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
    const written = (char) => `\\u${char.charCodeAt(0).toString(16)}`;
    return [make("pre", "whole", JSON.stringify(found.record, null, 2).replace(turning, written))];
  }

  choose(0);
  follow();
})();
