// ---- The sessions ----

const moved = session => session.bytes_uploaded + session.bytes_downloaded;
const flowing = session => session.upload_rate + session.download_rate;
const part = ({ file }) => (file?.size ? Math.min(file.moved / file.size, 1) : null);
/** Digits of equal length, so that 10.0.0.9 comes before 10.0.0.10. */
const ordered = text => text?.toLowerCase().replace(/\d+/g, digits => digits.padStart(12, '0'));

function files({ files, files_failed: failed, sources }) {
  if (!files && !failed && sources === null) return '';
  return `${count(files)}${sources === null ? '' : ` from ${count(sources)}`}${failed ? `, ${count(failed)} failed` : ''}`;
}

function done(session) {
  const share = part(session);
  if (share !== null) return `${Math.floor(share * 100)} %`;
  return session.file ? size(session.file.moved) : '';
}

// Of a file the last part of its path is shown, for the first parts are mostly the same; the title and the filter have it whole.
// `text` is what a cell says, `key` what its column is sorted by (the text, unless told), `title` what it says in full.
const columns = [
  { name: 'kind', text: s => s.kind },
  { name: 'state', text: s => s.state, word: true },
  { name: 'listener', text: s => s.listener, title: s => s.listener },
  { name: 'client', text: s => s.client, title: s => s.client },
  { name: 'user', text: s => plain(s.user ?? ''), title: s => plain(s.user ?? '') },
  { name: 'direction', text: s => s.direction ?? 'both ways', word: true },
  { name: 'node', label: 'node, target', text: s => s.node ?? s.target ?? '', title: s => (s.node ? `${s.upstream}/${s.node}` : s.target ?? '') },
  { name: 'rate', text: s => (flowing(s) ? rate(flowing(s)) : '0'), key: flowing },
  { name: 'bytes', text: s => size(moved(s)), key: moved },
  { name: 'files', text: files, key: s => s.files, title: s => (s.sources === null ? files(s) : `${files(s)} (files, and the sources that they are from)`) },
  { name: 'file', label: 'current file', text: s => plain(s.file?.name.split('/').at(-1) ?? ''), title: s => plain(s.file?.name ?? '') },
  { name: 'done', text: done, key: part },
  { name: 'left', label: 'time left', text: s => (s.file?.eta == null ? '' : span(s.file.eta)), key: s => s.file?.eta },
  { name: 'age', text: s => span(gateway.now - s.started), key: s => -s.started, title: s => at(s.started) },
  { name: 'idle', text: s => (gateway.now - s.moved < 2 ? '' : span(gateway.now - s.moved)), key: s => -s.moved, title: s => at(s.moved) },
];
for (const column of columns) column.number = ['rate', 'bytes', 'files', 'done', 'left', 'age', 'idle'].includes(column.name);

const sort = { column: columns.find(({ name }) => name === 'age'), descending: true, at: -Infinity };
let rowsShown = PAGE;
let round = 0;                  // counts the times that the rows were written
let pointed = -Infinity;        // when pointer or keyboard were last at the rows

function buildHead() {
  for (const column of columns) {
    const button = make('button', { type: 'button' }, column.label ?? column.name);
    button.addEventListener('click', () => {
      sort.descending = sort.column === column ? !sort.descending : Boolean(column.number);
      sort.column = column;
      showSort();
      showSessions(true);
    });
    column.th = make('th', { scope: 'col', role: 'columnheader', 'data-col': column.name, class: column.number ? 'num' : '' }, button);
    table.tHead.rows[0].append(column.th);
  }
  table.tHead.rows[0].append(make('th', { scope: 'col', role: 'columnheader', 'data-col': 'act' }, make('span', { class: 'aside' }, 'action')));
  showSort();
}

function showSort() {
  for (const { th } of columns) th.removeAttribute('aria-sort');
  sort.column.th.setAttribute('aria-sort', sort.descending ? 'descending' : 'ascending');
}

function buildRow(row) {
  const { session } = row;
  row.cells = columns.map(({ name, number }) => make('td', { role: 'cell', 'data-col': name, class: number ? 'num' : '' }));
  const act = make('td', { role: 'cell', 'data-col': 'act' });
  if (session.kind !== 'flow') {
    const button = make('button', { type: 'button', 'aria-label': `cancel ${session.kind} ${session.id}` }, 'cancel');
    button.addEventListener('click', () => cancel(row, button));
    act.append(button);
  }
  // On a phone a row is a grid, with areas that have the names of the columns.
  for (const cell of [...row.cells, act]) cell.style.gridArea = cell.dataset.col;
  row.tr = make('tr', { role: 'row', 'data-id': session.id }, ...row.cells, act);
  row.tr.row = row;
  sight.observe(row.tr);
}

/** Knows which rows are in sight or near it; one that comes near is written at once. */
const sight = new IntersectionObserver(entries => {
  for (const { target: { row }, isIntersecting } of entries) {
    row.near = isIntersecting;
    if (row.near) fillRow(row);
  }
}, { rootMargin: '300px' });

function fillRow(row) {
  const { session, cells } = row;
  columns.forEach((column, i) => {
    const cell = cells[i], text = column.text(session);
    if (cell.shown === text) return;
    // On a phone a cell without text takes no room.
    if (!text !== cell.hasAttribute('data-nil')) cell.toggleAttribute('data-nil', !text);
    if (cell.firstChild) cell.firstChild.data = text;
    else cell.append(text);
    cell.shown = text;
    if (column.title) {
      const title = column.title(session);
      if (cell.title !== title) cell.title = title;
    }
    if (column.word) cell.dataset.word = text;
    if (column.name === 'files') cell.classList.toggle('bad', session.files_failed > 0);
    if (column.name === 'done') {
      cell.toggleAttribute('data-part', part(session) !== null);
      cell.style.setProperty('--part', (part(session) ?? 0).toFixed(2));
    }
  });
}

/** The words of the filter must all be somewhere in the texts of a row. */
function matcher() {
  const words = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = $('kind').value, state = $('in-state').value;
  return row => {
    const { session: s } = row;
    if ((kind && s.kind !== kind) || (state && s.state !== state)) return false;
    if (!words.length) return true;
    row.text ??= [s.id, s.kind, s.state, s.listener, s.client, s.user, s.direction, s.upstream, s.node, s.target, s.file?.name]
      .join('\n').toLowerCase();
    return words.every(word => row.text.includes(word));
  };
}

/** Sorts by the chosen column; what has nothing there comes last either way. */
function sortRows(rows) {
  const { column, descending } = sort;
  const key = column.key ?? (session => ordered(column.text(session)) || null);
  for (const row of rows) row.key = key(row.session) ?? null;
  const sign = descending ? -1 : 1;
  rows.sort((a, b) => {
    if (a.key === b.key) return a.session.started - b.session.started;
    if (a.key === null || b.key === null) return a.key === null ? 1 : -1;
    return a.key < b.key ? -sign : sign;
  });
  sort.at = performance.now();
}

function showSessions(asked = false) {
  if (!gateway) return;
  const rows = [...sessions.values()].filter(matcher());
  const now = performance.now();
  const rests = now - pointed < REST * 1000;
  if (asked || (!rests && now - sort.at > RESORT * 1000)) sortRows(rows);
  else rows.sort((a, b) => a.place - b.place || 0);     // as they were, new ones at the end
  rows.forEach((row, i) => { row.place = i; });

  const shown = rows.slice(0, rowsShown);
  round += 1;
  shown.forEach((row, i) => {
    const fresh = !row.tr;
    if (fresh) buildRow(row);
    if (fresh || asked || row.near || (i + round) % FAR === 0) fillRow(row);
  });
  place(shown.map(row => row.tr));

  const listed = sessions.size;
  write($('count'), `${count(rows.length)} of ${count(listed)}${total > listed ? ` (total ${count(total)})` : ''}`);
  const rest = rows.length - shown.length;
  $('more').hidden = !rest;
  write($('more'), `Show ${count(Math.min(rest, PAGE))} more of the ${count(rest)} that are not shown`);
  table.hidden = !rows.length;
  $('empty').hidden = rows.length > 0;
  if (!rows.length) showEmpty(listed > 0);
  showOpen();
}

/** Puts the rows into the table in this order and takes the others out; who is in place is not touched. */
function place(wanted) {
  const set = new Set(wanted), focused = document.activeElement;
  for (const tr of [...tbody.rows]) if (!set.has(tr)) tr.remove();
  let next = tbody.firstElementChild;
  for (const tr of wanted) {
    if (tr === next) {
      next = next.nextElementSibling;
    } else if (next && tr === next.nextElementSibling) {
      // The one before it has to go further down: it will be moved when its turn comes.
      next = tr.nextElementSibling;
    } else {
      tbody.insertBefore(tr, next);
    }
  }
  // A row that has moved has lost the focus.
  if (focused !== document.activeElement && tbody.contains(focused)) focused.focus({ preventScroll: true });
}

function showOpen() {
  const open = {};
  for (const { session } of sessions.values()) if (session.state !== 'waiting') open[session.kind] = (open[session.kind] ?? 0) + 1;
  const { session = 0, ...others } = open;
  // The list has sessions first and may end before the last of them.
  write($('open'), `${count(session)}${total > sessions.size && session === sessions.size ? ' or more' : ''}`);
  const words = Object.entries(others).map(([kind, n]) => several(n, kindName(kind)));
  write($('open-others'), gateway.state === 'draining' ? `${count(total)} left in all` : words.length ? `and ${words.join(', ')}` : 'and nothing else');
}

const HINTS = {
  https: port => `set the fallback host of the transfer spec to this gateway and its port to ${port}, or try: ascp -y F -t ${port} …`,
  http: port => `the same in the clear, port ${port}`,
  tcp: port => `control connections of nominal transfers: ascp -P ${port} …`,
  udp: port => `their data: ascp -O ${port} …`,
  forward_proxy: port => `for clients behind a firewall: ascp -x GATEWAY:${port} …`,
};

function showEmpty(filtered) {
  const [heading, text] = $('empty').children;
  write(heading, filtered ? 'No session matches' : gateway.state === 'draining' ? 'Nothing is open any more' : 'No session is open now');
  write(text, filtered ? 'Clear the filter to see all of them.'
    : 'As soon as a client starts a transfer it has a row here: who it is, where it goes, how fast, and which file it is at.');
  keep($('hints'), filtered ? [] : gateway.listeners, of => of.name, of => ({
    element: make('li', {}, make('b', {}, of.name), `: ${HINTS[of.protocol]?.(of.address.split(':').at(-1)) ?? of.address}`),
    update() {},
  }));
}
