/**
 * Markdown that grows: text is split into blocks, a block that is closed is rendered once and left alone,
 * and only the last one is rendered again. Long code is not even that: its letters are appended.
 */

import { Marked } from 'marked';
import { clean } from './sanitize.js';
import { visible } from './text.js';

/** @param {string} s */
const escape = (s) => s.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** A dollar sign begins math only if what follows looks like math: prices and shell variables stay text. */
const DOLLAR = /^\$(?![\s$])((?:\\[\s\S]|[^\\$\n])*?[^\s\\$]|\\[^\s])\$(?![\d\w])/;
/** @param {string} body */
const likeMath = (body) => !/\s/.test(body) || /[\\^_={}<>+|]|\w\s*[*/-]\s*\w/.test(body);

const marked = new Marked({
  gfm: true,
  async: false,
  tokenizer: {
    // HTML is never HTML here: without these two the angle brackets are text.
    html: () => undefined,
    tag: () => undefined,
  },
  extensions: [
    {
      name: 'mathBlock',
      level: 'block',
      start: (src) => src.match(/\n(?:\$\$|\\\[)/)?.index,
      tokenizer(src) {
        const found = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n|$)/.exec(src);
        const body = found?.[1] ?? found?.[2];
        return found && body && !/\n\s*\n/.test(body) ? { type: 'mathBlock', raw: found[0], text: body.trim() } : undefined;
      },
      renderer: (token) => `<p><span class="jv-math jv-display">${escape(token.text)}</span></p>`,
    },
    {
      name: 'mathInline',
      level: 'inline',
      start: (src) => src.match(/\$|\\\(|\\\[/)?.index,
      tokenizer(src) {
        const found = /^\\\(([\s\S]+?)\\\)/.exec(src) ?? /^\\\[([\s\S]+?)\\\]/.exec(src) ?? /^\$\$([^\n$]+?)\$\$/.exec(src);
        if (found) return { type: 'mathInline', raw: found[0], text: found[1].trim(), big: !src.startsWith('\\(') };
        const dollar = DOLLAR.exec(src);
        if (!dollar || !likeMath(dollar[1])) return undefined;
        return { type: 'mathInline', raw: dollar[0], text: dollar[1], big: false };
      },
      renderer: (token) => `<span class="jv-math${token.big ? ' jv-display' : ''}">${escape(token.text)}</span>`,
    },
    {
      name: 'lineBreak',
      level: 'inline',
      start: (src) => src.match(/<br/i)?.index,
      tokenizer(src) {
        const found = /^<br\s*\/?>/i.exec(src);
        return found ? { type: 'lineBreak', raw: found[0] } : undefined;
      },
      renderer: () => '<br>',
    },
  ],
  renderer: {
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    code({ text, lang }) {
      const name = /^[\w+#.-]{1,30}/.exec(lang ?? '')?.[0];
      return `<pre><code${name ? ` class="language-${name}"` : ''}>${escape(text)}</code></pre>\n`;
    },
    image({ href, title, text }) {
      return `<a class="jv-img" href="${escape(href)}"${title ? ` title="${escape(title)}"` : ''}>${escape(text)}</a>`;
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
    html: ({ text }) => escape(text),
  },
});

/** @typedef {{raw: string, type: string, [key: string]: any}} Token */
/** @typedef {(nodes: DocumentFragment, first: number, closed: boolean) => number} Decorate
 *   what is to be done with new nodes; `first` is the number of the first block of code in them, and the
 *   number of blocks of code comes back */

const OPEN = /^(`{3,}|~{3,})([^\n]*)\n/;
/** What a line may begin with that goes on to be an item of a list. */
const MARKER = /^\s*(\d{1,9}[.)]?|[-*+])?\s*$/;
/** A list of more letters than this is closed item by item. */
const LONG = 4000;

export class Growing {
  /**
   * @param {HTMLElement} host
   * @param {Decorate} decorate
   */
  constructor(host, decorate) {
    this.host = host;
    this.decorate = decorate;
    this.given = '';
    this.text = '';
    this.start = 0;
    this.codes = 0;
    /** @type {ChildNode[]} */
    this.tail = [];
    this.tailRaw = '';
    /** @type {Record<string, any>} */
    this.links = {};
    /** @type {{mark: RegExp, part: RegExp, at: number, line: number, node: Text, nodes: ChildNode[]}|null} */
    this.fence = null;
    this.done = false;
    this.cost = 0;
    this.restAt = 0;
    /** How often the tail was rendered, and what was rendered in all: for tests and measurements. */
    this.counts = { tail: 0, closed: 0, letters: 0 };
  }

  /** @private */
  clear() {
    this.host.replaceChildren();
    Object.assign(this, new Growing(this.host, this.decorate), { counts: this.counts });
  }

  /** Everything once more, from the start: when what surrounds the text has changed. */
  again() {
    const { given, done } = this;
    this.clear();
    this.set(given, done);
  }

  /**
   * @param {string} given all of the text so far
   * @param {boolean} done no more will come
   * @param {number} [now] milliseconds; with it the tail is left for later if it was costly a moment ago
   * @returns {boolean} whether all of it is on the page
   */
  set(given, done, now) {
    if (given === this.given && done === this.done) return true;
    if (!given.startsWith(this.given) || this.done) this.clear();
    if (now !== undefined && !done && now < this.restAt) return false;
    const grown = given.slice(this.given.length).replace(/\r/g, '');
    this.given = given;
    this.text += visible(grown);
    this.done = done;
    this.restAt = 0;
    const began = performance.now();
    this.grow();
    this.cost = performance.now() - began;
    if (now !== undefined && this.cost > 8) this.restAt = now + Math.min(this.cost * 4, 1000);
    return true;
  }

  /** @private */
  grow() {
    while (true) {
      if (this.fence && !this.growFence()) return;
      if (!this.growBlocks()) return;
    }
  }

  /**
   * @private
   * @returns {boolean} whether there is something left to do
   */
  growBlocks() {
    const rest = this.text.slice(this.start);
    if (!this.done && rest === this.tailRaw) return false;
    const tokens = this.lex(rest);
    const solid = tokens.flatMap((token, n) => (token.type === 'space' ? [] : [n]));
    const last = solid.length ? tokens[solid[solid.length - 1]] : null;
    // "1" after a list may be the beginning of its next item: then the list is not closed yet.
    const before = solid.length > 1 ? tokens[solid[solid.length - 2]] : null;
    const live = this.done ? 0 : last && before?.type === 'list' && MARKER.test(last.raw) ? 2 : 1;
    const first = live < solid.length ? (live ? solid[solid.length - live] : tokens.length) : solid[0] ?? 0;
    let close = this.done ? tokens.length : first;
    const open = !this.done && last && last.type === 'code' && OPEN.exec(last.raw);
    if (open && !closed(last.raw, open[1])) close = solid[solid.length - 1];
    if (close > 0 && solid.some((n) => n < close)) {
      this.close(tokens.slice(0, close));
    } else if (last?.type === 'list' && last.raw.length > LONG && !this.done) {
      this.closeItems(tokens, solid[solid.length - 1]);
    }
    if (open && last && !closed(last.raw, open[1])) {
      this.openFence(open);
      return true;
    }
    this.renderTail(this.text.slice(this.start));
    return false;
  }

  /**
   * @private
   * @param {string} text
   * @returns {Token[]}
   */
  lex(text) {
    const lexer = new marked.Lexer(marked.defaults);
    Object.assign(lexer.tokens.links, this.links);
    const tokens = lexer.lex(text);
    this.links = { ...lexer.tokens.links };
    return tokens;
  }

  /**
   * @private
   * @param {Token[]} tokens
   */
  close(tokens) {
    const raw = tokens.reduce((n, token) => n + token.raw.length, 0);
    this.dropTail();
    const nodes = clean(marked.parser(/** @type {any} */ (tokens)));
    this.codes += this.decorate(nodes, this.codes, true);
    this.host.appendChild(nodes);
    this.start += raw;
    this.counts.closed += tokens.length;
    this.counts.letters += raw;
  }

  /**
   * The items of a long list but the last two.
   * @private
   * @param {Token[]} tokens
   * @param {number} at
   */
  closeItems(tokens, at) {
    const list = tokens[at];
    const items = list.items.slice(0, -2);
    const raw = items.map((/** @type {Token} */ item) => item.raw).join('');
    if (!items.length || !list.raw.startsWith(raw)) return;
    this.close([...tokens.slice(0, at), { ...list, items, raw }]);
  }

  /** @private */
  dropTail() {
    for (const node of this.tail) node.remove();
    this.tail = [];
    this.tailRaw = '';
  }

  /**
   * @private
   * @param {string} raw
   */
  renderTail(raw) {
    this.dropTail();
    this.tailRaw = raw;
    if (!raw.trim()) return;
    const nodes = clean(marked.parser(/** @type {any} */ (this.lex(raw))));
    this.decorate(nodes, this.codes, false);
    this.tail = [...nodes.childNodes];
    this.host.appendChild(nodes);
    this.counts.tail++;
    this.counts.letters += raw.length;
  }

  /**
   * @private
   * @param {RegExpExecArray} open
   */
  openFence(open) {
    this.dropTail();
    const lang = open[2].trim();
    const nodes = clean(marked.parser(/** @type {any} */ ([{ type: 'code', raw: '', lang, text: ' ' }])));
    const node = /** @type {Text} */ (nodes.querySelector('code')?.firstChild);
    node.data = '';
    this.decorate(nodes, this.codes, false);
    const mark = open[1][0] === '`' ? '`' : '~';
    this.fence = {
      mark: new RegExp(`^ {0,3}${mark}{${open[1].length},}[ \\t]*$`),
      part: new RegExp(`^ {0,3}${mark}*[ \\t]*$`),
      at: this.start + open[0].length,
      line: this.start + open[0].length,
      node,
      nodes: [...nodes.childNodes],
    };
    this.host.appendChild(nodes);
  }

  /**
   * @private
   * @returns {boolean} whether the code has ended
   */
  growFence() {
    const fence = this.fence;
    if (!fence) return true;
    let shown = '';
    while (fence.at < this.text.length) {
      const end = this.text.indexOf('\n', fence.at);
      const line = this.text.slice(fence.line, end < 0 ? undefined : end);
      if ((end >= 0 || this.done) && fence.mark.test(line)) {
        fence.node.appendData(shown);
        this.endFence(end < 0 ? this.text.length : end + 1);
        return true;
      }
      // This may become the fence that closes: wait for the rest of the line.
      if (end < 0 && !this.done && fence.part.test(line)) break;
      shown += this.text.slice(fence.at, end < 0 ? undefined : end + 1);
      fence.at = end < 0 ? this.text.length : end + 1;
      if (end >= 0) fence.line = fence.at;
    }
    if (shown) fence.node.appendData(shown);
    this.counts.letters += shown.length;
    if (this.done) this.endFence(this.text.length);
    return this.done;
  }

  /**
   * Closed code is rendered once more, whole: with its colours and its buttons.
   * @private
   * @param {number} end
   */
  endFence(end) {
    const nodes = this.fence?.nodes ?? [];
    this.fence = null;
    const raw = this.text.slice(this.start, end);
    for (const node of nodes) node.remove();
    this.close(/** @type {Token[]} */ (this.lex(raw)));
    this.start = end;
  }
}

/**
 * @param {string} raw
 * @param {string} mark
 */
function closed(raw, mark) {
  const lines = raw.trimEnd().split('\n');
  const last = lines[lines.length - 1];
  return lines.length > 1 && new RegExp(`^ {0,3}${mark[0] === '`' ? '`' : '~'}{${mark.length},}[ \\t]*$`).test(last);
}
