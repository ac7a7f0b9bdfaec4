/** Something to tell the user: a key of the locales, and its values. */
export class Problem extends Error {
  constructor(key, values) {
    super(key);
    this.key = key;
    this.values = values;
  }
}
