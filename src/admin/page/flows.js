// ---- What flows ----

const TARGETS = 'targets';      // the one end of all that passes a forward proxy
const BAND = 44;                // pixels of the widest end
const nodeKey = ({ upstream, name }) => `${upstream}/${name}`;
const endOf = path => (path.node ? `${path.upstream}/${path.node}` : path.upstream ? null : TARGETS);
let places = null;              // where the ends are; measured again when the layout has changed
let widest = 0;                 // the rate of the widest end; it sinks slowly, so that the scale does not jump

/** The card of an end: a name, what it is, rates, and a line of facts: each an element, or a function that tells a text. */
function card(attributes, name, facts, fill) {
  const all = facts.map(fact => (fact instanceof Element ? fact : make('span')));
  const flow = rates(), what = make('span', { class: 'soft' });
  const element = make('li', attributes,
    make('div', { class: 'top' }, make('b', {}, name), what, flow.element), make('div', { class: 'rest' }, ...all));
  return {
    element,
    update(item) {
      flow.update(item);
      write(what, item.what);
      facts.forEach((fact, i) => fact !== all[i] && write(all[i], fact(item)));
      fill?.(item, element);
    },
  };
}

function showFlows() {
  const { listeners, nodes, paths } = gateway;
  keep($('listeners'), listeners.map(listener => ({ ...listener, what: listener.protocol })), of => of.name, of =>
    card({ 'data-listener': of.name }, of.name, [
      of => of.address,
      of => `leads to ${of.leads_to}`,
      of => `${count(of.open)} open`,
      of => (of.connections === null ? '' : several(of.connections, 'connection')),
    ]));

  const ends = nodes.map(node => ({ ...node, what: node.upstream }));
  if (listeners.some(({ protocol }) => protocol === 'forward_proxy') || paths.some(path => endOf(path) === TARGETS)) {
    const through = paths.filter(path => endOf(path) === TARGETS);
    ends.push({
      name: TARGETS, what: 'of forward proxies', open: sum(through, 'open'),
      upload_rate: sum(through, 'upload_rate'), download_rate: sum(through, 'download_rate'),
    });
  }
  keep($('nodes'), ends, end => (end.host ? nodeKey(end) : TARGETS), end => (end.host ? nodeCard(end)
    : card({ 'data-node': TARGETS }, end.name, [end => `${count(end.open)} open`])));

  keep($('paths'), paths, ({ listener, kind, upstream, node }) => JSON.stringify([listener, kind, upstream, node]), path => {
    const text = make('span'), flow = rates();
    return {
      element: make('li', {}, text, ' ', flow.element),
      update(path) {
        write(text, `${path.listener} → ${path.node ?? (path.upstream ? 'no node yet' : TARGETS)}, ${several(path.open, kindName(path.kind))}`);
        flow.update(path);
      },
    };
  });
  drawBands();
}

function nodeCard(node) {
  const ports = make('span', { class: 'rates' }), full = make('span', { class: 'warn' }, 'full');
  const drain = make('button', { type: 'button' });
  drain.onclick = () => drainNode(node.upstream, node.name, drain.value === 'drain');
  return card({ 'data-node': nodeKey(node) }, node.name, [
    node => node.host,
    ports,
    node => (node.max_sessions === null ? several(node.sessions, 'session') : `${count(node.sessions)} of ${several(node.max_sessions, 'session')}`),
    full,
    node => `weight ${node.weight}`,
    node => (node.drains ? `drains${node.sessions && node.eta !== null ? `, files there done in ${span(node.eta)}` : ''}` : ''),
    drain,
  ], (node, element) => {
    attribute(drain, 'value', node.drains ? 'undrain' : 'drain');
    write(drain, node.drains ? 'let in again' : 'drain …');
    attribute(drain, 'aria-label', `${node.drains ? 'Let new sessions go to' : 'Drain'} node ${node.name}`);
    attribute(element, 'data-drains', String(node.drains));
    full.hidden = node.max_sessions === null || node.sessions < node.max_sessions;
    attribute(element, 'data-up', node.ports.some(port => !port.known) ? 'unknown' : String(node.up));
    keep(ports, node.ports, port => port.name, port => {
      const element = make('span', { class: 'port' });
      return {
        element,
        update(port) {
          write(element, `${port.name} ${port.known ? (port.up ? 'up' : 'down') : 'not checked yet'}`);
          attribute(element, 'data-up', port.known ? String(port.up) : 'unknown');
        },
      };
    });
  });
}

function measure() {
  const top = $('bands').getBoundingClientRect();
  const middle = element => {
    const { y, height } = element.getBoundingClientRect();
    return y + height / 2 - top.y;
  };
  places = { width: top.width, left: new Map(), right: new Map() };
  for (const [name, { element }] of $('listeners').kept) places.left.set(name, middle(element));
  for (const [name, { element }] of $('nodes').kept) places.right.set(name, middle(element));
}

/** One band for each listener and end, with a strand for each direction; its thickness is the rate. */
function drawBands() {
  const same = (drawn, shown) => shown && drawn.size === shown.size && [...shown.keys()].every(key => drawn.has(key));
  if (!places || !same(places.left, $('listeners').kept) || !same(places.right, $('nodes').kept)) measure();
  if (!places.width) return;
  const links = new Map();
  for (const path of gateway.paths) {
    const end = endOf(path);
    if (!places.left.has(path.listener) || !places.right.has(end)) continue;
    const key = JSON.stringify([path.listener, end]);
    const link = links.get(key) ?? { key, from: path.listener, to: end, up: 0, down: 0, open: 0 };
    link.up += path.upload_rate;
    link.down += path.download_rate;
    link.open += path.open;
    links.set(key, link);
  }
  const all = [...links.values()];
  const ends = new Map();
  for (const link of all) {
    for (const end of [`from ${link.from}`, `to ${link.to}`]) ends.set(end, (ends.get(end) ?? 0) + link.up + link.down);
  }
  widest = Math.max(widest * 0.98, ...ends.values());
  const full = ceiling(Math.max(widest * 8, 1e6)) / 8;
  write($('legend-rate'), rate(full / 4));

  const strand = value => (value > 0 ? Math.max(value / full * BAND, 1) : 0);
  for (const link of all) {
    link.thick = [strand(link.up), strand(link.down)];
    link.still = !link.up && !link.down;
    if (link.still) link.thick = [1.5, 0];
  }
  // At each end the bands lie on each other in the order of their other ends, so that they cross as little as can be.
  const lay = (side, other, place, far) => {
    const heights = new Map();
    for (const link of all) heights.set(link[side], (heights.get(link[side]) ?? 0) + link.thick[0] + link.thick[1]);
    const edge = new Map([...heights].map(([end, height]) => [end, place.get(end) - height / 2]));
    for (const link of all.toSorted((a, b) => far.get(a[other]) - far.get(b[other]))) {
      link[`${side}Edge`] = edge.get(link[side]);
      edge.set(link[side], edge.get(link[side]) + link.thick[0] + link.thick[1]);
    }
  };
  lay('from', 'to', places.left, places.right);
  lay('to', 'from', places.right, places.left);

  const half = places.width / 2;
  keep($('bands'), all, link => link.key, () => {
    const svg = name => document.createElementNS('http://www.w3.org/2000/svg', name);
    const element = svg('g'), title = svg('title'), strands = [svg('path'), svg('path')];
    strands[1].setAttribute('class', 'down');
    element.append(title, ...strands);
    return {
      element,
      update(link) {
        write(title, `${link.from} → ${link.to}: ${count(link.open)} open, ↑ ${rate(link.up)}, ↓ ${rate(link.down)}`);
        strands[0].setAttribute('class', link.still ? 'still' : 'up');
        strands.forEach((path, i) => {
          const before = i ? link.thick[0] : 0;
          const y1 = (link.fromEdge + before + link.thick[i] / 2).toFixed(1), y2 = (link.toEdge + before + link.thick[i] / 2).toFixed(1);
          path.setAttribute('d', `M0 ${y1}C${half} ${y1} ${half} ${y2} ${places.width} ${y2}`);
          path.setAttribute('stroke-width', link.thick[i].toFixed(1));
        });
      },
    };
  });
}
