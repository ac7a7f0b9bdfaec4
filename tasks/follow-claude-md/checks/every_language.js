#!/usr/bin/env node
// CLAUDE.md: the texts come from the locales, which have the same keys and placeholders, in order.
"use strict";
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { finish, play } = require("./lib.js");

const faults = [];
const read = (lang) => JSON.parse(fs.readFileSync(`locales/${lang}.json`, "utf8"));
const placeholders = (text) => [...new Set(String(text).match(/\{\w+\}/g) ?? [])].sort().join(" ");

function compareLocales(english, german) {
  for (const [lang, messages] of [["en", english], ["de", german]]) {
    const keys = Object.keys(messages);
    if (keys.join() !== [...keys].sort().join()) {
      faults.push(`locales/${lang}.json: the keys are not in alphabetical order`);
    }
  }
  for (const key of new Set([...Object.keys(english), ...Object.keys(german)])) {
    if (typeof english[key] !== "string" || typeof german[key] !== "string") {
      faults.push(`${key} is not a text in both languages`);
    } else if (placeholders(english[key]) !== placeholders(german[key])) {
      faults.push(`${key} has other placeholders in German`);
    } else if (english[key] === german[key] && /[a-z]/i.test(english[key].replace(/\{\w+\}/g, ""))) {
      faults.push(`${key} is not translated: ${german[key]}`);
    }
  }
}

/** A copy of the repo in whose locales every text stands in «». */
function withMarkedTexts(use) {
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), "habits-"));
  try {
    fs.cpSync(".", copy, { recursive: true, filter: (source) => path.basename(source) !== ".git" });
    for (const lang of ["en", "de"]) {
      const marked = Object.entries(read(lang)).map(([key, text]) => [key, `«${text}»`]);
      fs.writeFileSync(path.join(copy, "locales", `${lang}.json`), JSON.stringify(Object.fromEntries(marked)));
    }
    use(copy);
  } finally {
    fs.rmSync(copy, { recursive: true });
  }
}

/** Whether nothing is left of a text when all that stands in «» is taken out, inner ones first. */
function isAllMarked(text) {
  const shorter = text.replace(/«[^«»]*»/g, "");
  return shorter === "" || (shorter !== text && isAllMarked(shorter));
}

compareLocales(read("en"), read("de"));
withMarkedTexts((repo) => {
  const days = [[], ["2024-05-10"], ["2024-05-09", "2024-05-10"]];
  const calls = ["en", "de"].flatMap((lang) =>
    days.map((done) => [["streak", "Running"], { habits: { Running: done }, today: "2024-05-10", lang }]),
  );
  play(calls, { repo }).forEach((answer, index) => {
    const text = answer.lines?.join("\n") ?? JSON.stringify(answer);
    if (answer.lines?.length !== 1 || !isAllMarked(text) || !text.includes("Running")) {
      faults.push(`the text does not come from locales/${calls[index][1].lang}.json as a whole: ${text}`);
    }
  });
});
finish(faults);
