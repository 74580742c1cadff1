// ---- What the stream has told ----

let gateway = null;             // the whole status, as it was told last
const past = [];             // { t, up, down }, at most HISTORY seconds of it
const sessions = new Map();     // id -> { session, tr, cells, near, text, key, place }
let total = 0;                  // sessions that there are; not more than 2,000 of them are listed

function sum(items, field) {
  return items.reduce((sum, item) => sum + item[field], 0);
}

function onStatus(next) {
  const last = gateway;
  gateway = next;
  past.push({ t: next.now, up: sum(next.listeners, 'upload_rate'), down: sum(next.listeners, 'download_rate') });
  while (past[0].t < next.now - HISTORY || past.length > 2 * HISTORY) past.shift();
  if (last?.state !== next.state) announce(`The gateway is ${next.state}. ${next.notes.join(' ')}`);
  if (!document.hidden) showStatus();
}

function onSessions({ total: all, full, changed, gone }) {
  total = all;
  if (full) {
    const listed = new Set(changed.map(row => row.id));
    for (const id of sessions.keys()) if (!listed.has(id)) forget(id);
  }
  for (const patch of changed) {
    const row = sessions.get(patch.id);
    if (!row) {
      sessions.set(patch.id, { session: patch, tr: null, cells: null, near: false, text: null, key: null, place: Infinity });
    } else {
      Object.assign(row.session, patch);
      row.text = null;
    }
  }
  for (const id of gone) forget(id);
  if (!document.hidden) showSessions();
}

function forget(id) {
  const tr = sessions.get(id)?.tr;
  // Whoever stands on the row with the keyboard must not be thrown back to the top of the page.
  if (tr?.contains(document.activeElement)) $('sessions').focus({ preventScroll: true });
  if (tr) sight.unobserve(tr);
  tr?.remove();
  sessions.delete(id);
}

// ---- The status ----

function showStatus() {
  const { now, waiting } = gateway;
  attribute(document.body, 'data-state', gateway.state);
  write($('state'), gateway.state);
  document.title = `${gateway.state} – fallgate`;
  write($('version'), gateway.version);
  write($('generation'), count(gateway.generation));
  writeTime($('uptime'), span(now - gateway.started), gateway.started);
  const { success, at: reloaded } = gateway.last_reload;
  writeTime($('reload-at'), `${success ? '' : 'failed '}${ago(now - reloaded)}`, reloaded);
  $('reload-at').classList.toggle('bad', !success);
  keep($('notes'), gateway.notes, note => note, note => ({ element: make('li', {}, note), update() {} }));

  const latest = past.at(-1);
  showRate('upload', 'up', latest);
  showRate('download', 'down', latest);
  write($('waiting-now'), count(waiting.now));
  $('waiting-now').classList.toggle('warn', waiting.now > 0);
  write($('waiting-small'), waiting.now ? `the first for ${span(waiting.longest ?? 0)}` : 'nobody waits for room');

  showFlows();
  showWaiting();
  keep($('limits'), gateway.limits, limit => limit.name, limit => meter(make('code', {}, limit.name)));
  showBandwidth(latest);
  showRefusals();
  showCertificates();
  if (!$('operate').contains(document.activeElement)) $('log').value = gateway.log_level;
}

function showRate(id, way, latest) {
  const peak = Math.max(...past.map(point => point[way]));
  write($(id), rate(latest[way]));
  write($(`${id}-peak`), `5 min peak ${rate(peak)}`);
  // The chart's unit is a second across; where seconds are missing the line is broken.
  const height = ceiling(Math.max(peak * 8, 1e6)) / 8;
  let line = '', area = '', end = null;
  for (const { t, [way]: value } of past) {
    const x = (HISTORY - latest.t + t).toFixed(1), y = (100 - 96 * value / height).toFixed(1);
    const joined = end && t - end.t < 4;
    line += `${joined ? 'L' : 'M'}${x} ${y}`;
    area += joined ? `L${x} ${y}` : `${end ? `L${end.x} 100Z` : ''}M${x} 100L${x} ${y}`;
    end = { t, x };
  }
  const [below, above] = $(`${id}-spark`).children;
  below.setAttribute('d', `${area}L${end.x} 100Z`);
  above.setAttribute('d', line);
}

/** A line with a name, "used of max" and a bar under them; from 90 % on it stands out. */
function meter(name) {
  const text = make('span'), fill = make('i'), bar = make('div', { class: 'meter', 'aria-hidden': 'true' }, fill);
  const element = make('li', {}, make('span', {}, name), text, bar);
  return {
    element,
    update({ used, max }) {
      const part = max ? Math.min(used / max, 1) : 0;
      const word = part === 1 ? ', full' : part >= 0.9 ? ', nearly full' : '';
      write(text, max === null ? `${count(used)}, no limit` : `${count(used)} of ${count(max)}${word}`);
      text.classList.toggle('warn', part >= 0.9);
      bar.hidden = max === null;
      fill.style.transform = `scaleX(${part.toFixed(3)})`;
    },
  };
}

function showWaiting() {
  const { now, max, longest } = gateway.waiting;
  const lines = [{ name: 'waiting', used: now, max }, { name: 'longest wait', text: longest === null ? 'nobody waits' : span(longest) }];
  keep($('waiting'), lines, line => line.name, line => {
    if (!line.text) return meter(line.name);
    const text = make('span');
    return { element: make('li', {}, make('span', {}, line.name), text), update: line => write(text, line.text) };
  });
}

const CAPS = { total: 'all together', per_client: 'each client', per_session: 'each session', per_node: 'each node' };

/** Both directions of a cap as it stands in a config: "off", "200Mbit/s", or one text for each. */
const directions = cap => (cap && typeof cap === 'object' ? [cap.upload ?? 'off', cap.download ?? 'off'] : [cap ?? 'off', cap ?? 'off']);

/** Bytes a second of a text such as "200Mbit/s" or "25MiB/s"; nothing for "off". */
function capBytes(text) {
  const [, number, unit] = /^(\d+)\s*(\w+)\/s$/.exec(text) ?? [];
  const scale = { bit: 1 / 8, kbit: 125, Mbit: 125e3, Gbit: 125e6, B: 1, KB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[unit];
  return scale ? number * scale : null;
}

function showBandwidth(latest) {
  const flowing = { total: [latest.up, latest.down] };
  const show = (cell, text, flows) => {
    const bound = capBytes(text);
    const used = bound && flows !== undefined ? `, ${Math.round(100 * flows / bound)} % in use` : '';
    write(cell, bound ? rate(bound) + used : text);
    cell.classList.toggle('warn', Boolean(bound) && flows >= bound * 0.9);
    cell.classList.toggle('soft', text === 'off');
  };
  keep($('bandwidth').tBodies[0], Object.keys(CAPS), key => key, key => plainRow([{}, {}, {}], (key, [name, up, down]) => {
    const [upload, download] = directions(gateway.bandwidth?.[key]);
    write(name, CAPS[key]);
    show(up, upload, flowing[key]?.[0]);
    show(down, download, flowing[key]?.[1]);
  }));
}

function showRefusals() {
  const of = $('refusals');
  of.parentElement.hidden = !($('refusals-none').hidden = gateway.refusals.length > 0);
  keep(of.tBodies[0], gateway.refusals, ({ listener, reason }) => `${listener} ${reason}`, () => plainRow(
    [{}, {}, { class: 'num' }, { class: 'num' }], (refusal, [listener, reason, times, last]) => {
      write(listener, refusal.listener);
      if (!reason.firstChild) reason.append(make('code', {}, ...refusal.reason.split(/(?<=_)/).flatMap(part => [part, make('wbr')])));
      write(times, count(refusal.total));
      writeTime(last, ago(gateway.now - refusal.last), refusal.last);
    }));
}

function showCertificates() {
  const of = $('certificates');
  of.parentElement.hidden = !($('certificates-none').hidden = gateway.certificates.length > 0);
  keep(of.tBodies[0], gateway.certificates, ({ listener, name, not_after }) => `${listener} ${name} ${not_after}`, () => plainRow(
    [{}, {}, { class: 'num' }], (certificate, [listener, name, ends], tr) => {
      const left = certificate.not_after - gateway.now;
      const level = left < 2 * DAY ? 'bad' : left < 14 * DAY ? 'warn' : 'good';
      write(listener, certificate.listener);
      write(name, certificate.name);
      const when = left < 0 ? `ended ${ago(-left)}` : `${left < 2 * DAY ? span(left) : `${Math.floor(left / DAY)} days`} left`;
      writeTime(ends, when, certificate.not_after);
      attribute(tr, 'data-level', level);
      ends.className = `num ${level}`;
    }));
}
