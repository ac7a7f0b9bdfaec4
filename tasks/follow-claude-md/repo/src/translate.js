import { readFileSync } from "node:fs";

function messages(lang) {
  return JSON.parse(readFileSync(new URL(`../locales/${lang}.json`, import.meta.url), "utf8"));
}

/** The message `key` in a language, its {placeholders} filled. */
export function translate(lang, key, values = {}) {
  const message = messages(lang)[key];
  if (message === undefined) {
    throw new Error(`locales/${lang}.json has no ${key}`);
  }
  return message.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}
