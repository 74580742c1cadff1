// ---- Commands ----

let token = null;               // in memory only

const announce = text => { $('announce').textContent = text; };

function showResult(good, message, problems = []) {
  $('result').replaceChildren(make('p', {}, message), make('ul', {}, ...problems.map(problem => make('li', {}, problem))));
  $('toast').className = good ? '' : 'no';
  $('dismiss').hidden = false;
}

function dismiss() {
  $('toast').className = 'away';
  $('dismiss').hidden = true;
}

/** Asks whether to go on, and for the token if it is not known; `typed` is a word that has to be written first. */
function ask({ title, text = '', facts = [], yes, typed = '', sure = false }) {
  if (sure && token !== null) return Promise.resolve(true);
  const dialog = $('confirm'), form = dialog.querySelector('form');
  write($('confirm-title'), title);
  write($('confirm-text'), text);
  $('confirm-facts').replaceChildren(...facts.flatMap(([name, value]) => [make('dt', {}, name), make('dd', { dir: 'auto' }, plain(value))]));
  write($('confirm-yes'), yes);
  $('confirm-yes').className = sure ? '' : 'grave';
  $('typed-field').hidden = !typed;
  $('typed').value = '';
  $('token-field').hidden = token !== null;
  dialog.showModal();
  return new Promise(resolve => {
    form.onsubmit = event => {
      event.preventDefault();
      if (typed && $('typed').value.trim() !== typed) return $('typed').focus();
      if (token === null && !$('token').value) return $('token').focus();
      token ??= $('token').value;
      dialog.close('yes');
    };
    dialog.onclose = () => {
      $('token').value = '';
      resolve(dialog.returnValue === 'yes');
      dialog.returnValue = '';
    };
  });
}

/** Sends a command after `ask`; tells whether it was carried out. */
async function command(path, body, question) {
  if (!await ask(question)) return false;
  try {
    const headers = { authorization: `Bearer ${token}` };
    if (body) headers['content-type'] = 'application/json';
    const answer = await fetch(`api/v1/${path}`, { method: 'POST', headers, body: body && JSON.stringify(body), cache: 'no-store' });
    const said = await answer.json().catch(() => ({}));
    // A token that is not taken is asked for again.
    if (answer.status === 401 || answer.status === 403) token = null;
    showResult(answer.ok, said.message ?? `The gateway answered with ${answer.status}.`, said.problems);
    return answer.ok;
  } catch {
    showResult(false, 'The gateway could not be reached. Whether it has done it is not known.');
    return false;
  }
}

async function cancel({ session }, button) {
  const facts = [['client', session.client], ['user', session.user], ['node or target', session.node ?? session.target],
    ['moved', size(moved(session))], ['current file', session.file?.name]].filter(([, value]) => value);
  const name = kindName(session.kind);
  const question = {
    title: `Cancel this ${name}?`, text: 'It ends at once.', facts, yes: `Cancel the ${name}`,
  };
  if (await command(`sessions/${encodeURIComponent(session.id)}/cancel`, null, question)) button.textContent = 'ends';
}

async function drainNode(upstream, name, drain) {
  const question = drain
    ? { title: `Drain node ${name}?`, text: 'Nothing new goes there. Sessions that are there go on to their end.', facts: [['upstream', upstream]], yes: 'Drain the node' }
    : { title: `Let new sessions go to node ${name}?`, yes: 'Let in', sure: true };
  const path = `nodes/${encodeURIComponent(name)}/${drain ? 'drain' : 'undrain'}?upstream=${encodeURIComponent(upstream)}`;
  await command(path, null, question);
}

function fillBandwidth() {
  for (const key of Object.keys(CAPS)) {
    const texts = directions(gateway?.bandwidth?.[key]);
    ['upload', 'download'].forEach((way, i) => { $(`cap-${key}-${way}`).value = texts[i]; });
  }
}

async function applyBandwidth(event) {
  event.preventDefault();
  const bandwidth = {};
  for (const key of Object.keys(CAPS)) {
    const [upload, download] = ['upload', 'download'].map(way => $(`cap-${key}-${way}`).value.trim() || 'off');
    const [up, down] = directions(gateway?.bandwidth?.[key]);
    if (upload !== up || download !== down) bandwidth[key] = upload === download ? upload : { upload, download };
  }
  if (!Object.keys(bandwidth).length) return showResult(true, 'Nothing to apply: the caps are these already.');
  await command('config', { bandwidth }, { title: 'Apply the bandwidth caps?', yes: 'Apply', sure: true });
}

function buildOperate() {
  const fieldset = document.querySelector('#bandwidth-form fieldset');
  for (const [key, label] of Object.entries(CAPS)) {
    fieldset.append(make('span', {}, label), ...['upload', 'download'].map(way =>
      make('input', { id: `cap-${key}-${way}`, 'aria-label': `${label}, ${way}`, autocomplete: 'off', spellcheck: 'false' })));
  }
  $('operate-open').addEventListener('click', () => {
    $('operate').hidden = !$('operate').hidden;
    $('operate-open').setAttribute('aria-expanded', String(!$('operate').hidden));
    fillBandwidth();
  });
  $('log-form').addEventListener('submit', event => {
    event.preventDefault();
    command('config', { log: { level: $('log').value } }, { title: 'Set the log level?', yes: 'Apply', sure: true });
  });
  $('bandwidth-form').addEventListener('submit', applyBandwidth);
  $('reload').addEventListener('click', () => command('reload', null, { title: 'Reload the config?', yes: 'Reload', sure: true }));
  $('drain').addEventListener('click', () => command('drain', null, {
    title: 'Drain this gateway?', yes: 'Drain', typed: 'drain',
    text: `No new session will be taken, and the gateway ends when the last one is over. ${count(total)} are open now. This cannot be taken back.`,
  }));
  $('confirm-no').addEventListener('click', () => $('confirm').close());
  $('dismiss').addEventListener('click', dismiss);
}
