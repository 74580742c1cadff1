'use strict';
// The page holds one EventSource. Each second it brings the whole status and what has changed of the sessions; both are
// written into elements that stay, and only where a text has changed. All of it is text from outside: nothing here
// makes HTML of a string.

const EVENTS = 'api/v1/events';
const HISTORY = 300;            // seconds that the small charts show
const PAGE = 100;               // rows that are shown at first, and how many more each time
const SILENCE = 6;              // seconds without an event after which the stream counts as lost
const HIDDEN = 60;              // seconds after which a page that nobody sees gives its stream back
const REST = 20;                // seconds for which the order of the rows rests after pointer or keyboard were at them
const RESORT = 5;               // seconds between two sorts by something that always changes
const FAR = 5;                  // a row out of sight is written each fifth time only
const DAY = 86400;

const $ = id => document.getElementById(id);
const table = document.querySelector('#sessions table');
const tbody = table.tBodies[0];

// ---- Words and numbers ----

const integer = new Intl.NumberFormat('en');
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const count = n => integer.format(n);
const at = seconds => moment.format(seconds * 1000);
const several = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** Text of a client without what would break or turn the line that it stands in. */
const plain = text => text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, '\ufffd');

/** Three digits that matter and the largest unit that fits. */
function scaled(value, units) {
  const [scale, unit] = units.find(([scale]) => value >= scale * 0.9995) ?? units.at(-1);
  const number = value / scale;
  return `${number.toFixed(scale === 1 || number >= 99.95 ? 0 : number >= 9.995 ? 1 : 2)} ${unit}`;
}
const BITS = [[1e12, 'Tbit/s'], [1e9, 'Gbit/s'], [1e6, 'Mbit/s'], [1e3, 'kbit/s'], [1, 'bit/s']];
const BYTES = [[2 ** 50, 'PiB'], [2 ** 40, 'TiB'], [2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB'], [1, 'B']];
const rate = bytes => scaled(bytes * 8, BITS);
const size = bytes => scaled(bytes, BYTES);
/** The least number with one digit that matters that is not below the value. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return Math.ceil(value / power) * power || 1;
}

function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < DAY) return `${Math.floor(s / 3600)} h ${String(Math.floor(s / 60) % 60).padStart(2, '0')} min`;
  return `${Math.floor(s / DAY)} d ${Math.floor(s / 3600) % 24} h`;
}
/** What a kind is called in a sentence. */
const kindName = kind => (kind === 'control' ? 'control connection' : kind);
const ago = seconds => `${span(seconds)} ago`;

// ---- Elements ----

/** Makes an element; what is given by name becomes an attribute. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Writes a text where it is not there already; to read it back from the tree would cost more than to remember it. */
function write(element, text) {
  if (element.shown !== text) element.textContent = element.shown = text;
}

function attribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** A time: relative as text, absolute as title. */
function writeTime(element, text, seconds) {
  write(element, text);
  if (element.moment !== seconds) element.title = at(element.moment = seconds);
}

/** Gives a parent one child for each item: children stay with their key, and move only where the order has changed. */
function keep(parent, items, keyOf, create) {
  const before = parent.kept ?? new Map();
  const after = parent.kept = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const child = before.get(key) ?? after.get(key) ?? create(item);
    child.item = item;
    after.set(key, child);
    before.delete(key);
  }
  for (const { element } of before.values()) element.remove();
  let next = parent.firstElementChild;
  for (const { element, update, item } of after.values()) {
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
    update(item);
  }
}

/** A row of a plain table; `fill` writes into its cells. */
function plainRow(cells, fill) {
  const all = cells.map(name => make('td', name));
  const element = make('tr', {}, ...all);
  return { element, update: item => fill(item, all, element) };
}

const rates = () => {
  const up = make('span', { class: 'up' }), down = make('span', { class: 'down' });
  const element = make('span', { class: 'rates' }, up, down);
  return {
    element,
    update(of) {
      for (const [span, arrow, value] of [[up, '↑', of.upload_rate], [down, '↓', of.download_rate]]) {
        write(span, `${arrow} ${value ? rate(value) : '0'}`);
        span.classList.toggle('nil', !value);
      }
    },
  };
};
