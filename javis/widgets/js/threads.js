/** Past conversations, beside the one that is shown: found by words, opened, begun, saved. */

/** @import {Ui} from './ui.js' */
import { after, copy, h, put } from './dom.js';
import { ago, visible } from './text.js';
import { iconButton, isComposing } from './ui.js';

export class Threads {
  /** @param {Ui} ui */
  constructor(ui) {
    this.ui = ui;
    const { say } = ui;
    this.search = h('input', {
      class: 'jv-input', attr: { type: 'search', placeholder: say('search'), 'aria-label': say('search') },
      on: { keydown: (/** @type {KeyboardEvent} */ event) => this.key(event) },
    });
    const find = after(200, () => this.load());
    this.search.addEventListener('input', () => find());
    this.list = h('div', { class: 'jv-threadlist', attr: { role: 'list', 'aria-label': say('threads') } });
    this.said = h('p', { class: 'jv-muted jv-threadsaid', attr: { role: 'status' } });
    this.el = h('aside', {
      class: 'jv-threads', attr: { hidden: true, 'aria-label': say('threads') },
      on: { keydown: (/** @type {KeyboardEvent} */ event) => this.key(event) },
    },
    h('div', { class: 'jv-threadhead' }, h('strong', null, say('threads')), h('span', { class: 'jv-gap' }),
      iconButton('plus', say('newThread'), () => { this.close(); ui.wire.send('new'); }),
      iconButton('cross', say('close'), () => this.close())),
    h('div', { class: 'jv-searchbox' }, this.search), this.said, this.list);
    this.asked = 0;
    /** @type {HTMLElement|null} */
    this.from = null;
    /** It lies over what else may get the focus. */
    this.elsewhere = () => {
      const { activeElement } = /** @type {Document|ShadowRoot} */ (this.el.getRootNode());
      if (!this.el.contains(activeElement)) this.close();
    };
  }

  open() {
    if (!this.el.hidden) {
      this.close();
      return;
    }
    this.from = /** @type {HTMLElement|null} */ (document.activeElement);
    this.el.hidden = false;
    this.search.value = '';
    this.load();
    this.search.focus();
    document.addEventListener('focusin', this.elsewhere);
  }

  close() {
    if (this.el.hidden) return;
    const inside = this.el.contains(document.activeElement);
    this.el.hidden = true;
    document.removeEventListener('focusin', this.elsewhere);
    if (inside) {
      if (this.from?.isConnected && this.ui.root.contains(this.from)) this.from.focus();
      else this.ui.focusComposer();
    }
  }

  async load() {
    const asked = ++this.asked;
    const { say, wire } = this.ui;
    if (!this.list.childElementCount) this.said.textContent = say('searching');
    try {
      const { items } = await wire.ask('threads', { query: this.search.value.trim() });
      if (asked === this.asked) this.fill(items ?? []);
    } catch (error) {
      if (asked === this.asked) this.said.textContent = visible(/** @type {Error} */ (error).message);
    }
  }

  /** @param {{id: string, title: string, when: string|number, snippet?: string}[]} items */
  fill(items) {
    const { say } = this.ui;
    const now = this.ui.state().thread;
    this.said.textContent = items.length ? '' : say('noThreads');
    put(this.list, ...items.map((item) => h('div', { attr: { role: 'listitem' } }, h('button', {
      class: 'jv-thread', attr: { type: 'button', 'aria-current': item.id === now ? 'true' : null },
      on: { click: () => { this.close(); this.ui.wire.send('open', { thread: item.id }); } },
    },
    h('span', { class: 'jv-threadtitle', attr: { dir: 'auto' } }, visible(item.title || say('untitled'), true)),
    h('small', { class: 'jv-muted' }, ago(item.when, this.ui.locale())),
    item.snippet ? h('span', { class: 'jv-snippet', attr: { dir: 'auto' } }, visible(item.snippet, true)) : null))));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (isComposing(event)) return;
    if (event.key === 'Escape') {
      event.preventDefault();
      event.stopPropagation();
      this.close();
      return;
    }
    // Out of the page the focus leaves without saying where to.
    if (event.key === 'Tab') setTimeout(this.elsewhere, 0);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const stops = [this.search, .../** @type {NodeListOf<HTMLElement>} */ (this.list.querySelectorAll('.jv-thread'))];
    const at = stops.indexOf(/** @type {any} */ (document.activeElement));
    stops[Math.max(0, Math.min(stops.length - 1, at + step))]?.focus();
  }
}

/**
 * The conversation as a file: a download, and where downloads are not allowed, the clipboard.
 * @param {Ui} ui
 * @param {'md'|'jsonl'|'ipynb'} format
 */
export async function save(ui, format) {
  try {
    const { name, mime, s } = await ui.wire.ask('export', { format }, 30000);
    const url = URL.createObjectURL(new Blob([s], { type: mime || 'text/plain' }));
    const link = h('a', { attr: { href: url, download: String(name).replace(/[^\p{L}\p{N}._ -]/gu, '_') } });
    ui.root.appendChild(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    // A notebook in another program may block the download without a word: then it is on the clipboard.
    if (/** @type {any} */ (globalThis).acquireVsCodeApi) await copy(s, ui.root);
    ui.toast(ui.say('exported', { name: visible(String(name), true) }));
  } catch (error) {
    ui.toast(visible(/** @type {Error} */ (error).message), true);
  }
}
