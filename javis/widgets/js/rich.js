/** What a page adds to rendered Markdown: buttons on code, colours, math, pictures on a click, sources. */

/** @import {Source} from './types.js' */
/** @import {Ui} from './ui.js' */
import { h, put } from './dom.js';
import { icon } from './icons.js';
import { address, clean, cleanMath } from './sanitize.js';
import { visible } from './text.js';

/**
 * @typedef {object} Place
 * @property {() => Source[]} sources what [n] may refer to
 * @property {(code: string, block: number, lang: string) => HTMLElement[]} codeButtons
 * @property {(n: number, anchor: HTMLElement, pinned: boolean) => void} showSource
 */

/** Code of more letters than this stays in one colour. */
const PAINT = 60_000;

/**
 * @param {Ui} ui
 * @param {Place} place
 * @returns {import('./markdown.js').Decorate}
 */
export function decorator(ui, place) {
  return (nodes, first, closed) => {
    for (const a of nodes.querySelectorAll('a.jv-img')) a.replaceWith(picture(ui, a));
    for (const table of nodes.querySelectorAll('table')) frame(table);
    let n = first;
    for (const pre of nodes.querySelectorAll('pre')) codeBlock(ui, place, pre, n++, closed);
    for (const span of nodes.querySelectorAll('span.jv-math')) math(ui, /** @type {HTMLElement} */ (span));
    const sources = place.sources();
    if (sources.length) cite(ui, place, nodes, sources);
    for (const code of nodes.querySelectorAll('code')) exact(code);
    return n - first;
  };
}

/** Characters without width are shown in code. @param {Element} code */
function exact(code) {
  const node = code.firstChild;
  if (code.childNodes.length === 1 && node instanceof Text) {
    const shown = visible(node.data, true);
    if (shown !== node.data) node.data = shown;
  }
}

/** @param {HTMLTableElement} table */
function frame(table) {
  const box = h('div', { class: 'jv-table', attr: { tabindex: '0', role: 'group' } });
  table.replaceWith(box);
  box.appendChild(table);
}

/**
 * A remote picture leaks that it was read: it is loaded after a click, and says from where.
 * @param {Ui} ui
 * @param {Element} a
 */
function picture(ui, a) {
  const href = a.getAttribute('href');
  const alt = visible(a.textContent ?? '', true);
  const inline = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+$/i.test(href ?? '');
  const url = address(href);
  if (inline) return image(/** @type {string} */ (href), alt || ui.say('imageInline'));
  if (!url || url.protocol === 'mailto:') {
    return h('span', { class: 'jv-noimage' }, icon('picture'), `${ui.say('imageBlocked')}${alt ? `: ${alt}` : ''}`);
  }
  const button = h('button', {
    class: 'jv-loadimage', attr: { type: 'button', title: visible(url.href, true).slice(0, 300) },
    on: { click: () => button.replaceWith(image(url.href, alt)) },
  }, icon('picture'), h('span', null, ui.say('image', { host: url.host })), alt ? h('i', null, alt) : null);
  return button;
}

/**
 * @param {string} src
 * @param {string} alt
 */
const image = (src, alt) => h('img', { class: 'jv-image', attr: { alt, referrerpolicy: 'no-referrer', decoding: 'async', src } });

/**
 * @param {Ui} ui
 * @param {Place} place
 * @param {HTMLPreElement} pre
 * @param {number} block
 * @param {boolean} closed
 */
function codeBlock(ui, place, pre, block, closed) {
  const code = pre.querySelector('code');
  const lang = /language-([\w+#.-]+)/.exec(code?.className ?? '')?.[1] ?? '';
  const text = (code?.textContent ?? '').replace(/\n$/, '');
  pre.tabIndex = 0;
  pre.setAttribute('role', 'group');
  pre.setAttribute('aria-label', ui.say('codeOf', { lang: lang || ui.say('plain') }));
  const bar = h('div', { class: 'jv-codebar' }, h('span', { class: 'jv-lang' }, lang || ui.say('plain')),
    h('span', { class: 'jv-codeactions' }, ...(closed ? place.codeButtons(text, block, lang) : [])));
  const box = h('div', { class: 'jv-code' }, bar);
  pre.replaceWith(box);
  box.appendChild(pre);
  if (closed && code && lang && text.length < PAINT) paint(ui, code, text, lang);
}

/**
 * @param {Ui} ui
 * @param {HTMLElement} code
 * @param {string} text
 * @param {string} lang
 */
function paint(ui, code, text, lang) {
  const shown = visible(text, true);
  const draw = (/** @type {any} */ module) => {
    const html = module?.paint?.(shown, lang.toLowerCase());
    if (!html) return;
    const nodes = clean(html);
    // Colours only: the letters must be the ones that were there.
    if (nodes.textContent === shown) put(code, nodes);
  };
  const module = ui.highlight.get();
  if (module && text.length < 4000) draw(module);
  else ui.highlight.load().then((loaded) => loaded && ui.idle(() => code.isConnected && draw(loaded)));
}

/** @type {Map<string, DocumentFragment|null>} */
const drawn = new Map();

/**
 * @param {Ui} ui
 * @param {HTMLElement} span
 */
function math(ui, span) {
  const tex = span.textContent ?? '';
  const big = span.classList.contains('jv-display');
  const draw = (/** @type {any} */ module) => {
    const key = `${big ? 1 : 0}${tex}`;
    if (!drawn.has(key)) {
      if (drawn.size > 400) drawn.clear();
      drawn.set(key, typeset(module, tex, big));
    }
    const nodes = drawn.get(key);
    if (!nodes) {
      span.classList.add('jv-mathsource');
      return;
    }
    span.classList.remove('jv-mathsource');
    put(span, nodes.cloneNode(true));
    if (big) {
      span.tabIndex = 0;
      span.setAttribute('role', 'group');
    }
  };
  const module = ui.math.get();
  if (module) {
    draw(module);
    return;
  }
  span.classList.add('jv-mathsource');
  ui.math.load().then((loaded) => loaded && draw(loaded));
}

/**
 * @param {any} module
 * @param {string} tex
 * @param {boolean} big
 */
function typeset(module, tex, big) {
  try {
    const nodes = cleanMath(module.draw(tex, big));
    return nodes.querySelector('math') ? nodes : null;
  } catch {
    return null;
  }
}

/**
 * [n] in the text becomes a button where there is a source n.
 * @param {Ui} ui
 * @param {Place} place
 * @param {DocumentFragment} nodes
 * @param {Source[]} sources
 */
function cite(ui, place, nodes, sources) {
  const walker = document.createTreeWalker(nodes, NodeFilter.SHOW_TEXT);
  /** @type {Text[]} */
  const found = [];
  while (walker.nextNode()) {
    const node = /** @type {Text} */ (walker.currentNode);
    if (/\[\d+\]/.test(node.data) && !node.parentElement?.closest('code,pre,a,button,.jv-math')) found.push(node);
  }
  for (const node of found) {
    const pieces = node.data.split(/(\[\d+\])/);
    node.replaceWith(...pieces.map((piece) => {
      const n = Number(/^\[(\d+)\]$/.exec(piece)?.[1]);
      const source = sources.find((one) => one.n === n);
      return source ? citation(ui, place, source) : document.createTextNode(piece);
    }));
  }
}

/**
 * @param {Ui} ui
 * @param {Place} place
 * @param {Source} source
 */
export function citation(ui, place, source) {
  const open = (/** @type {boolean} */ pinned) => { place.showSource(source.n, button, pinned); };
  /** @type {HTMLButtonElement} */
  const button = h('button', {
    class: 'jv-cite',
    attr: { type: 'button', 'aria-label': ui.say('source', { n: source.n, label: visible(source.label, true) }) },
    on: { click: () => open(true), pointerenter: () => open(false), pointerleave: () => ui.popover.leave() },
  }, String(source.n));
  return button;
}
