/** Where a request is written: a box that grows, what goes with it, suggestions, and Send or Stop. */

/** @import {Ui} from './ui.js' */
import { after, h, put, setAttr, show, uid } from './dom.js';
import { icon } from './icons.js';
import { visible, whole } from './text.js';
import { iconButton, kindName, press, textBox } from './ui.js';

/** @typedef {{insert: string, label: string, detail?: string, kind?: string, command?: string}} Item */
/** @typedef {{label: string, tokens: number, s: string}} PreviewPart */
/** @typedef {{parts: PreviewPart[], tokens: number, room: number}} Preview */

/**
 * @typedef {object} Deeds
 * @property {(text: string, compare: boolean) => void} send
 * @property {() => void} stop
 * @property {(command: string, rest: string) => boolean} command whether it was one
 * @property {() => void} up the arrow in an empty box: to what waits, or to the last request
 * @property {() => void} leave Escape with nothing to close
 */

/** Slash commands of the page, and whether something may follow. @type {Record<string, boolean>} */
export const COMMANDS = {
  '/new': false, '/threads': true, '/compare': true, '/rename': true, '/export': true, '/regen': false, '/stop': false,
  '/good': false, '/bad': false, '/fix': false, '/help': false,
};

/** @param {string} text */
export const mentionsIn = (text) => [...new Set([...text.matchAll(/(?:^|\s)(@[^\s@,;!?)]+)/g)].map((found) => found[1].replace(/[.:'"]+$/, '')))]
  .filter((one) => one.length > 1);

/**
 * What is being completed at the cursor.
 * @param {string} text
 * @param {number} cursor
 * @returns {{sign: '@'|'/', start: number}|null}
 */
export function trigger(text, cursor) {
  const before = text.slice(0, cursor);
  const mention = /(?:^|\s)(@[^\s@]*)$/.exec(before);
  if (mention) return { sign: '@', start: cursor - mention[1].length };
  if (/^\/[\w-]*$/.test(before)) return { sign: '/', start: 0 };
  return null;
}

export class Composer {
  /**
   * @param {Ui} ui
   * @param {Deeds} deeds
   * @param {{draft: string, keep: (draft: string) => void, caps: () => Record<string, boolean>}} memory
   */
  constructor(ui, deeds, memory) {
    this.ui = ui;
    this.deeds = deeds;
    this.memory = memory;
    /** @type {Item[]} */
    this.items = [];
    this.active = 0;
    this.asked = 0;
    this.compare = false;
    this.busy = false;
    this.face = '';
    this.chipSum = '';
    this.sendAfter = false;
    /** @type {string|undefined} */
    this.putAfter = undefined;
    this.previewAsked = 0;
    /** @type {Preview|null} */
    this.preview = null;
    this.previewOf = '';
    this.previewSoon = after(350, () => this.loadPreview());
    this.completeSoon = after(60, () => this.complete());
    this.listId = uid();
    this.text = this.makeBox();
    this.box = this.text.box;
    const { say } = ui;
    const caps = memory.caps();
    this.list = h('div', { class: 'jv-comps', attr: { id: this.listId, role: 'listbox', 'aria-label': say('completions'), hidden: true } });
    this.chips = h('div', { class: 'jv-chips', attr: { 'aria-label': say('chips'), role: 'group', hidden: true } });
    this.mention = iconButton('chip', say('mention'), () => this.type('@'), { attr: { hidden: !caps.mentions } });
    this.slash = h('button', {
      class: 'jv-button jv-square jv-slash', attr: { type: 'button', title: say('commands'), 'aria-label': say('commands') },
      on: { click: () => this.type('/') },
    }, '/');
    this.pair = iconButton('pair', say('compare'), () => this.setCompare(!this.compare), { pressed: false, class: 'jv-compare', attr: { hidden: !caps.compare } });
    this.eye = iconButton('eye', say('willSendHint'), () => this.showPreview(null, this.eye), { class: 'jv-eye' });
    this.status = h('span', { class: 'jv-say', attr: { role: 'status' } });
    this.main = h('button', { class: 'jv-button jv-main', attr: { type: 'button' }, on: { click: () => this.press() } });
    this.main.addEventListener('pointerdown', (event) => event.preventDefault());
    this.el = h('div', { class: 'jv-composer' }, this.list, this.chips, this.box,
      h('div', { class: 'jv-bar' }, this.mention, this.slash, this.pair, this.eye, this.status, this.main));
    this.update(false, '');
    requestAnimationFrame(() => this.text.fit());
    if (memory.draft) {
      this.drawChips();
      this.previewSoon();
    }
  }

  makeBox() {
    const { say } = this.ui;
    const text = textBox({
      label: say('message'), value: this.memory.draft, placeholder: say('ask'), class: 'jv-box', limit: 240,
      submit: () => this.submit(), key: (event) => this.key(event), input: () => this.changed(),
    });
    setAttr(text.box, 'aria-autocomplete', 'list');
    setAttr(text.box, 'aria-haspopup', 'listbox');
    text.box.addEventListener('compositionend', () => {
      if (this.sendAfter) setTimeout(() => this.submit(), 0);
      else if (this.putAfter !== undefined) this.restore(this.putAfter);
      this.sendAfter = false;
    });
    text.box.addEventListener('blur', () => setTimeout(() => text.box !== document.activeElement && this.closeList(), 150));
    return text;
  }

  /**
   * @param {boolean} busy an answer is on its way, from the moment of sending
   * @param {string} status
   * @param {boolean} [stopping]
   */
  update(busy, status, stopping = false) {
    const { say } = this.ui;
    if (this.status.textContent !== status) this.status.textContent = status;
    const face = busy ? (stopping ? 'stopping' : 'stop') : 'send';
    this.busy = busy;
    setAttr(this.main, 'disabled', !busy && !this.box.value.trim());
    if (face === this.face) return;
    this.face = face;
    this.main.classList.toggle('jv-stop', busy);
    put(this.main, icon(busy ? 'stop' : 'send'));
    setAttr(this.main, 'aria-label', say(face));
    setAttr(this.main, 'title', say(busy ? 'stopHint' : 'sendHint'));
  }

  /** @param {boolean} on */
  setCompare(on) {
    this.compare = on;
    press(this.pair, on);
    if (on) this.ui.announce(this.ui.say('compareOn'));
    this.box.focus();
  }

  focus() {
    this.box.focus({ preventScroll: true });
  }

  press() {
    if (this.busy) this.deeds.stop();
    else this.submit();
  }

  submit() {
    if (this.text.composing()) {
      // The syllable that is being written is finished first: it belongs to this request.
      this.sendAfter = true;
      this.box.blur();
      this.box.focus();
      return;
    }
    const text = this.box.value.trim();
    if (!text) return;
    const command = /^(\/[\w-]+)(?:\s+([\s\S]*))?$/.exec(text);
    if (command && command[1] in COMMANDS && this.deeds.command(command[1], command[2] ?? '')) {
      this.clear();
      return;
    }
    if (this.busy) {
      this.ui.toast(this.ui.say('busyRun'));
      return;
    }
    const compare = this.compare;
    this.clear();
    this.setCompare(false);
    this.deeds.send(text, compare);
  }

  clear() {
    this.box.value = '';
    this.changed();
    this.closeList();
    this.text.fit();
  }

  /**
   * A request that the kernel did not take comes back, in front of what was written since.
   * @param {string} draft
   */
  restore(draft) {
    if (this.text.composing()) {
      this.putAfter = draft;
      return;
    }
    this.putAfter = undefined;
    const now = this.box.value;
    this.box.value = now.trim() ? `${draft}\n${now}` : draft;
    this.changed();
    this.text.fit();
  }

  /** @param {string} text the whole draft */
  setDraft(text) {
    this.box.value = text;
    this.changed();
    this.text.fit();
    this.box.focus();
    this.box.setSelectionRange(text.length, text.length);
  }

  changed() {
    this.memory.keep(this.box.value);
    setAttr(this.main, 'disabled', !this.busy && !this.box.value.trim());
    this.drawChips();
    if (mentionsIn(this.box.value).length) this.previewSoon();
    if (trigger(this.box.value, this.box.selectionStart)) this.completeSoon();
    else this.closeList();
  }

  /** @param {string} sign */
  type(sign) {
    this.box.focus();
    const { value, selectionStart: at } = this.box;
    if (sign === '/') {
      if (!value) this.insertText('/', 0, 0);
      else return;
    } else this.insertText(at && !/\s/.test(value[at - 1]) ? ' @' : '@', at, this.box.selectionEnd);
    this.complete();
  }

  /**
   * As if it had been typed, so that undo works.
   * @param {string} text
   * @param {number} start
   * @param {number} end
   */
  insertText(text, start, end) {
    this.box.focus();
    this.box.setSelectionRange(start, end);
    let done = false;
    try {
      done = document.execCommand('insertText', false, text);
    } catch {
      done = false;
    }
    if (!done) {
      this.box.setRangeText(text, start, end, 'end');
      this.changed();
    }
    this.text.fit();
  }

  // ---- suggestions

  async complete() {
    const at = trigger(this.box.value, this.box.selectionStart);
    const asked = ++this.asked;
    if (!at) {
      this.closeList();
      return;
    }
    const typed = this.typed();
    const own = at.sign === '/' ? Object.keys(COMMANDS).filter((one) => one.startsWith(typed) && this.may(one))
      .map((one) => ({ insert: one, label: one, detail: this.ui.say(one), kind: 'command', command: one })) : [];
    if (own.length) this.openList(own);
    if (at.sign === '@' && !this.memory.caps().mentions) return;
    try {
      const { items } = await this.ui.wire.ask('complete', { text: this.box.value, cursor: this.box.selectionStart });
      if (asked !== this.asked) return;
      const known = new Set(own.map((one) => one.insert));
      this.openList([...own, ...(items ?? []).filter((/** @type {Item} */ one) => !known.has(one.insert.trim()))]);
    } catch {
      if (asked === this.asked && !own.length) this.closeList();
    }
  }

  /** @param {string} command */
  may(command) {
    return command !== '/compare' || !!this.memory.caps().compare;
  }

  /** @param {Item[]} items */
  openList(items) {
    if (!items.length || this.box !== document.activeElement) {
      this.closeList();
      return;
    }
    const before = this.items[this.active]?.insert;
    this.items = items.slice(0, 50);
    this.active = Math.max(0, this.items.findIndex((one) => one.insert === before));
    put(this.list, ...this.items.map((item, n) => h('div', {
      class: 'jv-comp', attr: { role: 'option', id: `${this.listId}-${n}`, 'aria-selected': 'false' },
      on: {
        pointerdown: (/** @type {Event} */ event) => { event.preventDefault(); this.accept(n); },
        pointermove: () => this.choose(n),
      },
    }, h('span', { class: 'jv-complabel' }, visible(item.label, true)), item.detail ? h('span', { class: 'jv-compdetail' }, visible(item.detail, true)) : null,
    item.kind && item.kind !== 'command' ? h('small', { class: 'jv-compkind' }, kindName(this.ui.say, item.kind)) : null)));
    this.list.hidden = false;
    setAttr(this.box, 'aria-controls', this.listId);
    this.choose(this.active);
  }

  closeList() {
    this.asked++;
    this.items = [];
    this.list.hidden = true;
    setAttr(this.box, 'aria-activedescendant', null);
    setAttr(this.box, 'aria-controls', null);
  }

  /** @param {number} n */
  choose(n) {
    this.active = n;
    [...this.list.children].forEach((el, at) => setAttr(el, 'aria-selected', String(at === n)));
    const el = /** @type {HTMLElement|undefined} */ (this.list.children[n]);
    if (!el) return;
    setAttr(this.box, 'aria-activedescendant', el.id);
    if (el.offsetTop < this.list.scrollTop) this.list.scrollTop = el.offsetTop;
    else if (el.offsetTop + el.offsetHeight > this.list.scrollTop + this.list.clientHeight) {
      this.list.scrollTop = el.offsetTop + el.offsetHeight - this.list.clientHeight;
    }
  }

  /** @param {number} n */
  accept(n) {
    const item = this.items[n];
    const at = trigger(this.box.value, this.box.selectionStart);
    if (!item || !at) return;
    if (item.command && !COMMANDS[item.command]) {
      this.closeList();
      if (this.deeds.command(item.command, '')) this.clear();
      return;
    }
    const text = item.insert.startsWith(at.sign) ? item.insert : at.sign + item.insert;
    const open = /[/\\:.(]$/.test(text);
    this.insertText(open || this.box.value[this.box.selectionStart] === ' ' ? text : `${text} `, at.start, this.box.selectionStart);
    if (!open) this.closeList();
  }

  /**
   * @param {KeyboardEvent} event
   * @returns {boolean} whether that was all
   */
  key(event) {
    if (this.items.length && this.listKey(event)) return true;
    if (event.key === 'Escape') {
      event.stopPropagation();
      if (this.busy) this.deeds.stop();
      else this.deeds.leave();
      return true;
    }
    if (event.key === 'ArrowUp' && !this.box.value && !event.shiftKey && !event.altKey) {
      this.deeds.up();
      return true;
    }
    return false;
  }

  /**
   * A key while there are suggestions.
   * @param {KeyboardEvent} event
   * @returns {boolean} whether that was all
   */
  listKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.choose((this.active + step + this.items.length) % this.items.length);
    else if (event.key === 'Tab' && !event.shiftKey) this.accept(this.active);
    else if (event.key === 'Escape') {
      event.stopPropagation();
      this.closeList();
    } else if (event.key === 'Enter' && !event.shiftKey && this.items[this.active].insert.trim() !== this.typed()) {
      this.accept(this.active);
    } else {
      // What is written out already is sent.
      if (event.key === 'Enter') this.closeList();
      return false;
    }
    return true;
  }

  /** The word at the cursor, as far as it is written. */
  typed() {
    const at = trigger(this.box.value, this.box.selectionStart);
    return at ? this.box.value.slice(at.start, this.box.selectionStart) : '';
  }

  // ---- what goes with it

  /** @param {string} mention */
  partOf(mention) {
    return this.preview?.parts.find((part) => part.label === mention || part.label.startsWith(`${mention} `)
      || part.label.startsWith(`${mention}:`) || `@${part.label}` === mention) ?? null;
  }

  drawChips() {
    const mentions = mentionsIn(this.box.value);
    const fresh = this.previewOf === this.box.value.trim();
    const typing = this.box === document.activeElement ? this.typed() : '';
    const sum = JSON.stringify([mentions, typing, fresh && this.preview?.parts.map((part) => [part.label, part.tokens])]);
    if (sum === this.chipSum) return;
    this.chipSum = sum;
    show(this.chips, mentions.length > 0);
    put(this.chips, ...mentions.map((mention) => {
      const part = this.partOf(mention);
      const missing = fresh && this.preview && !part && mention !== typing;
      const chip = h('button', {
        class: `jv-chip${missing ? ' jv-missing' : ''}`, attr: { type: 'button' },
        on: { click: () => this.showPreview(mention, chip) },
      }, missing ? icon('warn') : null, visible(mention, true),
      part ? h('small', null, this.ui.say('tokens', { n: whole(part.tokens) })) : missing ? h('small', null, this.ui.say('unknownMention')) : null);
      return chip;
    }));
  }

  async loadPreview() {
    const text = this.box.value.trim();
    const asked = ++this.previewAsked;
    try {
      const preview = await this.ui.wire.ask('preview', { text });
      if (asked !== this.previewAsked) return this.preview;
      this.preview = preview;
      this.previewOf = text;
      this.drawChips();
      return this.preview;
    } catch (error) {
      return /** @type {Error} */ (error);
    }
  }

  /**
   * @param {string|null} mention
   * @param {HTMLElement} anchor
   */
  async showPreview(mention, anchor) {
    const { say, popover } = this.ui;
    const preview = this.previewOf === this.box.value.trim() && this.preview ? this.preview : await this.loadPreview();
    if (!preview || preview instanceof Error) {
      if (preview) this.ui.toast(visible(preview.message), true);
      return;
    }
    const one = mention ? this.partOf(mention) : null;
    const parts = one ? [one] : preview.parts;
    const content = h('div', { class: 'jv-previews' },
      h('div', { class: 'jv-panelhead' }, h('strong', null, say('willSend')), h('span', { class: 'jv-gap' }),
        h('small', { class: 'jv-muted' }, say('ofRoom', { tokens: whole(preview.tokens), room: whole(preview.room) }))),
      ...parts.map((part) => h('details', { attr: { open: parts.length === 1 } },
        h('summary', null, visible(part.label, true), h('small', null, say('tokens', { n: whole(part.tokens) }))),
        h('pre', { class: 'jv-mono', attr: { tabindex: '0', dir: 'auto' } }, visible(part.s.replace(/^\n+/, ''), true)))));
    // The chips are drawn anew when the preview comes.
    const at = anchor.isConnected ? anchor : /** @type {HTMLElement} */ (this.chips.querySelector('.jv-chip') ?? this.eye);
    popover.open(at, content, { pinned: true, label: say('willSend'), focus: true });
  }
}
