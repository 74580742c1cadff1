// ---- The stream ----

const stream = { source: null, heard: 0, since: Date.now(), why: 'connecting', pause: 0, timer: 0 };

/** EventSource connects again by itself, except when the answer was not 200; and it does not tell what it was. */
function openStream() {
  closeStream();
  const source = stream.source = new EventSource(EVENTS);
  const on = (name, take) => source.addEventListener(name, event => {
    stream.heard = Date.now();
    stream.pause = 0;
    setLive(true);
    take(JSON.parse(event.data));
  });
  on('status', onStatus);
  on('sessions', onSessions);
  source.addEventListener('error', () => {
    setLive(false, 'reconnecting');
    if (source.readyState === EventSource.CLOSED) tryLater();
  });
}

function closeStream() {
  clearTimeout(stream.timer);
  stream.source?.close();
  stream.source = null;
}

/** Looks what the answer is: at once for the first time, then after 10 s, 20 s, 40 s and at last each minute. */
function tryLater() {
  closeStream();
  stream.timer = setTimeout(async () => {
    const cut = new AbortController();
    try {
      const { ok, status } = await fetch(EVENTS, { signal: cut.signal, cache: 'no-store' });
      cut.abort();
      if (ok) return openStream();
      setLive(false, status === 503 ? 'too many pages are open; trying again' : `the gateway answers with ${status}; trying again`);
    } catch {
      setLive(false, 'reconnecting');
    }
    tryLater();
  }, stream.pause * 1000);
  stream.pause = Math.min(60, Math.max(10, stream.pause * 2));
}

function setLive(live, why = '') {
  const was = document.body.dataset.stream === 'live';
  stream.why = why;
  if (live !== was) {
    document.body.dataset.stream = live ? 'live' : 'lost';
    stream.since = Date.now();
    if (!document.hidden) announce(live ? 'The page is live.' : 'The page has lost the gateway. What it shows gets old.');
  }
  showStream();
}

function showStream() {
  const live = document.body.dataset.stream === 'live', since = `${stream.why} since ${clock.format(stream.since)}`;
  write($('stream-text'), live ? 'live' : since);
  // A page that has just come says nothing for the moment that connecting takes.
  $('stale').hidden = live || !gateway && stream.why === 'connecting';
  if (!live) write($('stale'), gateway ? `This is ${span((Date.now() - stream.heard) / 1000)} old: ${since}.` : `There is no data yet: ${since}.`);
}

/** Each second: a stream that is silent is a lost one, and what is old says how old. */
function tick() {
  if (stream.source && document.body.dataset.stream === 'live' && Date.now() - stream.heard > SILENCE * 1000) {
    setLive(false, 'reconnecting');
    openStream();
  }
  if (document.body.dataset.stream !== 'live') showStream();
}

/** A page that nobody looks at gives back its place among the streams, of which the gateway serves only a few. */
function onVisibility() {
  clearTimeout(onVisibility.timer);
  if (document.hidden) {
    onVisibility.timer = setTimeout(() => {
      closeStream();
      setLive(false, 'resting');
    }, HIDDEN * 1000);
    return;
  }
  if (!stream.source) openStream();
  if (gateway) {
    showStatus();
    showSessions(true);
  }
}

// ---- The theme ----

const THEMES = ['auto', 'light', 'dark'];

/** The choice is remembered where the browser lets it be; without storage it is auto each time. */
function stored(theme) {
  try {
    if (theme) localStorage.setItem('fallgate-theme', theme);
    return localStorage.getItem('fallgate-theme');
  } catch {
    return theme;
  }
}

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  write($('theme'), `Theme: ${theme}`);
}

function buildTheme() {
  let chosen = Math.max(0, THEMES.indexOf(stored()));
  showTheme(THEMES[chosen]);
  $('theme').addEventListener('click', () => {
    chosen = (chosen + 1) % THEMES.length;
    showTheme(THEMES[chosen]);
    stored(THEMES[chosen]);
  });
}

// ---- The start ----

buildTheme();
buildHead();
buildOperate();
let told = 0;                   // the timer that tells how many match, after the last key
for (const id of ['filter', 'kind', 'in-state']) {
  $(id).addEventListener('input', () => {
    rowsShown = PAGE;
    showSessions(true);
    clearTimeout(told);
    told = setTimeout(() => announce(`${$('count').textContent} match.`), 700);
  });
}
$('more').addEventListener('click', () => {
  const first = rowsShown;
  rowsShown += PAGE;
  showSessions();
  // The keyboard goes on where the new rows begin.
  tbody.rows[first]?.querySelector('button')?.focus({ preventScroll: true });
});
for (const event of ['pointermove', 'keydown', 'focusin']) tbody.addEventListener(event, () => { pointed = performance.now(); }, { passive: true });
new ResizeObserver(() => {
  if (!gateway) return;
  measure();
  drawBands();
}).observe(document.querySelector('.map'));
document.addEventListener('visibilitychange', onVisibility);
setInterval(tick, 1000);
openStream();
