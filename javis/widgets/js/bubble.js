/** One message on the page: words, calls, words; under them what it rests on, what was said of it, and its numbers. */

/** @import {Call, Footer, Message, Part} from './types.js' */
/** @import {Ui} from './ui.js' */
import { Batch, inOrder } from './batch.js';
import { copy, h, order, put, setAttr, show } from './dom.js';
import { Feedback } from './feedback.js';
import { icon } from './icons.js';
import { Growing } from './markdown.js';
import { citation, decorator } from './rich.js';
import { callsOf, textOf } from './state.js';
import { money, seconds, visible, whole, wordsOf } from './text.js';
import { ToolCard } from './toolcard.js';
import { iconButton, kindName, textBox, textButton } from './ui.js';

/** @typedef {{el: HTMLElement, growing: Growing}} Words */
/** @typedef {{name: string, arguments: Record<string, any>}} Asked a call, without what became of it */

export class Bubble {
  /**
   * @param {Ui} ui
   * @param {Message} message
   */
  constructor(ui, message) {
    this.ui = ui;
    this.message = message;
    /** @type {Map<string, Words|ToolCard>} */
    this.parts = new Map();
    this.original = false;
    this.versionsSum = '';
    /** Both halves of a pair are on the page: there is nothing to turn to. */
    this.paired = false;
    this.editing = false;
    this.behind = false;
    this.body = h('div', { class: 'jv-body' });
    this.el = h('article', { class: `jv-msg jv-${message.role}`, attr: { tabindex: '-1' } });
    this.dirty = true;
    this.versions = h('span', { class: 'jv-versions' });
    this.actions = h('span', { class: 'jv-actions' });
  }

  /** @returns {string} */
  get id() {
    return this.message.id;
  }

  /** The keys that act on a message while it has the focus. @param {string} _key @returns {boolean} */
  key(_key) {
    return false;
  }

  /** @param {-1|1} step */
  turn(step) {
    const all = this.message.siblings ?? [];
    const to = all[all.indexOf(this.message.id) + step];
    if (to && !this.ui.busy()) this.ui.wire.send('head', { id: to });
  }

  drawVersions() {
    const all = this.message.siblings ?? [];
    const at = all.indexOf(this.message.id);
    const { say } = this.ui;
    const shown = all.length > 1 && at >= 0 && !(this.paired && all.length === 2) && !(this.message.pair && !this.message.pair.picked);
    show(this.versions, shown);
    if (!shown) {
      put(this.versions);
      return;
    }
    const sum = `${at}/${all.length}/${this.ui.busy()}`;
    if (this.versionsSum === sum) return;
    this.versionsSum = sum;
    const held = this.versions.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.step : null;
    const left = iconButton('left', say('previous'), () => this.turn(-1), { attr: { disabled: at === 0 } });
    const right = iconButton('right', say('next'), () => this.turn(1), { attr: { disabled: at === all.length - 1 } });
    left.dataset.step = 'left';
    right.dataset.step = 'right';
    put(this.versions, left, h('span', { attr: { 'aria-label': say('version', { n: at + 1, all: all.length }), role: 'img' } },
      `${at + 1}/${all.length}`), right);
    if (held) (held === 'left' ? left : right).focus();
  }

  /** @param {HTMLElement} button */
  async copyWords(button) {
    const done = await copy(this.message.verdict?.corrected ?? wordsOf(this.message), this.ui.root);
    flash(this.ui, button, done);
  }

  /**
   * @param {Message} message
   * @param {number} [_now]
   * @returns {boolean} whether all of it is on the page
   */
  update(message, _now) {
    this.message = message;
    return true;
  }

  dispose() {}
}

/**
 * @param {Ui} ui
 * @param {HTMLElement} button
 * @param {boolean} done
 */
export function flash(ui, button, done) {
  if (!done) {
    ui.toast(ui.say('copyFailed'), true);
    return;
  }
  const old = button.querySelector('svg');
  const now = icon('check');
  old?.replaceWith(now);
  ui.announce(ui.say('copied'));
  setTimeout(() => old && now.replaceWith(old), 1400);
}

export class Request extends Bubble {
  /**
   * @param {Ui} ui
   * @param {Message} message
   */
  constructor(ui, message) {
    super(ui, message);
    const { say } = ui;
    this.chips = h('div', { class: 'jv-chips' });
    const copyButton = iconButton('copy', say('copy'), () => this.copyWords(copyButton));
    this.editButton = iconButton('edit', say('edit'), () => this.edit(), { class: 'jv-edit' });
    put(this.actions, copyButton, this.editButton);
    this.foot = h('div', { class: 'jv-foot' }, this.versions, this.actions);
    put(this.el, h('div', { class: 'jv-said' }, this.body, this.chips), this.foot);
  }

  /** @param {Message} message @param {number} [_now] */
  update(message, _now) {
    const { message: was, dirty } = this;
    this.message = message;
    if (was !== message || dirty) {
      const text = visible(textOf(message));
      if (this.body.textContent !== text && !this.editing) this.body.textContent = text;
      const mentions = message.mentions ?? [];
      show(this.chips, mentions.length > 0);
      put(this.chips, ...mentions.map((one) => h('span', { class: 'jv-chip' }, visible(one.label, true),
        typeof one.tokens === 'number' ? h('small', null, this.ui.say('tokens', { n: whole(one.tokens) })) : null)));
      this.dirty = false;
    }
    this.drawVersions();
    setAttr(this.editButton, 'disabled', this.ui.busy());
    return true;
  }

  edit() {
    if (this.editing || this.ui.busy()) return;
    const { say } = this.ui;
    const text = textOf(this.message).trim();
    const send = () => {
      if (composing() || !box.value.trim()) return;
      const changed = box.value;
      stop();
      if (changed.trim() !== text) this.ui.resend(this.message, changed);
    };
    const stop = () => {
      this.editing = false;
      this.dirty = true;
      this.el.classList.remove('jv-editing');
      this.body.textContent = '';
      this.update(this.message);
      this.el.focus();
    };
    const { box, fit, composing } = textBox({ label: say('edit'), value: text, class: 'jv-requestbox', limit: 300, submit: send, cancel: stop });
    this.editing = true;
    this.el.classList.add('jv-editing');
    put(this.body, box, h('div', { class: 'jv-row' }, textButton(say('send'), send, 'jv-primary'), textButton(say('cancel'), stop)));
    fit();
    box.focus();
    box.setSelectionRange(text.length, text.length);
  }

  /** @param {string} key */
  key(key) {
    if (key === 'e') this.edit();
    else if (key === 'c') this.copyWords(/** @type {HTMLElement} */ (this.actions.firstElementChild));
    else if (key === '[') this.turn(-1);
    else if (key === ']') this.turn(1);
    else return false;
    return true;
  }
}

export class Answer extends Bubble {
  /**
   * @param {Ui} ui
   * @param {Message} message
   */
  constructor(ui, message) {
    super(ui, message);
    const { say } = ui;
    this.feedback = new Feedback(ui, () => this.message, () => this.el.focus({ preventScroll: true }));
    this.decorate = decorator(ui, {
      sources: () => this.message.sources ?? [],
      codeButtons: (code, block, lang) => ui.codeButtons(this.message, code, block, lang),
      showSource: (n, anchor, pinned) => this.showSource(n, anchor, pinned),
    });
    this.thinking = h('div', { class: 'jv-thinking', attr: { role: 'img', 'aria-label': say('thinking') } }, h('i'), h('i'), h('i'));
    /** @type {Batch|null} */
    this.batch = null;
    this.better = h('div', { class: 'jv-better' });
    this.mark = h('div', { class: 'jv-mark' });
    this.sources = h('div', { class: 'jv-sources' });
    this.notes = h('div', { class: 'jv-notes' });
    this.copyButton = iconButton('copy', say('copy'), () => this.copyWords(this.copyButton));
    this.again = iconButton('again', say('regen'), () => ui.regen(this.message.id), { class: 'jv-regen' });
    put(this.actions, this.copyButton, this.again, ...this.feedback.buttons);
    this.numbers = h('span', { class: 'jv-numbers' });
    this.foot = h('div', { class: 'jv-foot' }, this.versions, this.actions, h('span', { class: 'jv-gap' }), this.numbers);
    this.badge = h('div', { class: 'jv-badges' });
    put(this.el, this.badge, this.body, this.better, this.mark, this.sources, this.notes, this.foot, this.feedback.el);
  }

  /**
   * @param {Message} message
   * @param {number} [now] milliseconds: what is costly to draw may wait
   */
  update(message, now) {
    const { message: was, dirty: fresh, behind } = this;
    this.message = message;
    const streaming = message.status === 'streaming';
    const changed = fresh || was !== message;
    let whole = true;
    if (fresh || was.sources !== message.sources) this.sourcesChanged(was);
    if (changed || behind) whole = this.drawParts(streaming, now);
    this.behind = !whole;
    if (changed) {
      const verdictChanged = fresh || JSON.stringify(was.verdict) !== JSON.stringify(message.verdict);
      this.el.classList.toggle('jv-streaming', streaming);
      setAttr(this.el, 'aria-busy', streaming ? 'true' : null);
      show(this.thinking, streaming && message.parts.length === 0);
      if (fresh || was.status !== message.status || was.error !== message.error) this.drawMark();
      if (fresh || was.sources !== message.sources) this.drawSources();
      if (fresh || was.notes !== message.notes) this.drawNotes();
      if (fresh || was.footer !== message.footer) put(this.numbers, ...footer(this.ui, message.footer ?? null));
      if (verdictChanged) this.drawVerdict();
    }
    const blind = !!message.pair && !message.pair.picked;
    setAttr(this.actions, 'inert', streaming || blind);
    this.el.classList.toggle('jv-blind', blind);
    setAttr(this.again, 'disabled', this.ui.busy());
    this.drawVersions();
    this.dirty = false;
    return whole;
  }

  /** @param {Message} was */
  sourcesChanged(was) {
    const before = JSON.stringify(this.dirty ? [] : was.sources ?? []);
    if (before === JSON.stringify(this.message.sources ?? [])) return;
    for (const part of this.parts.values()) if (!(part instanceof ToolCard)) part.growing.again();
  }

  /** @returns {Part[]} */
  shownParts() {
    const { verdict, parts } = this.message;
    const corrected = verdict?.corrected;
    return corrected && !this.original && !callIn(corrected) ? [{ t: 'text', id: 'corrected', s: corrected }] : parts;
  }

  /**
   * @param {boolean} streaming
   * @param {number} [now]
   */
  drawParts(streaming, now) {
    const parts = this.shownParts();
    let whole = true;
    const els = parts.map((part, at) => {
      if (part.t === 'tool') {
        const card = this.card(part.call.id);
        card.update(part.call);
        return card.el;
      }
      const words = this.words(String(part.id));
      const open = streaming && at === parts.length - 1;
      whole = words.growing.set(part.s, !open, now) && whole;
      words.el.classList.toggle('jv-growing', open);
      return words.el;
    });
    // Calls that wait at once change places, so that the most dangerous one stands first.
    const waiting = this.cards().filter((card) => card.call?.status === 'waiting' && els.includes(card.el));
    const places = waiting.map((card) => els.indexOf(card.el)).sort((one, other) => one - other);
    inOrder(waiting).forEach((card, at) => { els[places[at]] = card.el; });
    const keep = new Set(els);
    for (const [id, part] of this.parts) if (!keep.has(part.el)) this.parts.delete(id);
    this.drawBatch();
    order(this.body, parts.length ? [...els, ...(this.batch ? [this.batch.el] : [])] : [this.thinking]);
    return whole;
  }

  /** What is said about several calls at once stands below them. */
  drawBatch() {
    const waits = this.cards().some((card) => card.call?.status === 'waiting');
    if (waits && !this.batch) this.batch = new Batch(this.ui);
    else if (!waits) this.batch = null;
    this.batch?.update(this.cards());
  }

  /** The calls, in their order; of those that wait the most dangerous first. */
  cards() {
    const cards = [...this.parts.values()].filter((part) => part instanceof ToolCard);
    const waiting = inOrder(cards.filter((card) => card.call?.status === 'waiting'));
    return cards.map((card) => (card.call?.status === 'waiting' ? /** @type {ToolCard} */ (waiting.shift()) : card));
  }

  /** @param {string} id */
  card(id) {
    const known = this.parts.get(`tool ${id}`);
    if (known instanceof ToolCard) return known;
    const card = new ToolCard(this.ui);
    card.changed = () => this.drawBatch();
    this.parts.set(`tool ${id}`, card);
    return card;
  }

  /**
   * @param {string} id
   * @returns {Words}
   */
  words(id) {
    const known = this.parts.get(`text ${id}`);
    if (known && !(known instanceof ToolCard)) return known;
    const el = h('div', { class: 'jv-words', attr: { dir: 'auto' } });
    const words = { el, growing: new Growing(el, this.decorate) };
    this.parts.set(`text ${id}`, words);
    return words;
  }

  drawMark() {
    const { status, error, id } = this.message;
    const { say } = this.ui;
    const kind = error || status === 'error' ? 'failed' : status === 'cancelled' || status === 'partial' ? status : null;
    this.mark.className = `jv-mark${kind === 'failed' ? ' jv-failed' : ''}`;
    setAttr(this.mark, 'role', kind === 'failed' ? 'alert' : null);
    if (!kind) put(this.mark);
    else if (kind === 'failed') {
      put(this.mark, icon('warn'), h('span', { class: 'jv-why' }, visible(error || say('failed'))),
        iconButton('again', say('retry'), () => this.ui.regen(id), { text: true }));
    } else put(this.mark, icon(kind === 'cancelled' ? 'stop' : 'warn'), say(kind));
  }

  drawSources() {
    const sources = this.message.sources ?? [];
    show(this.sources, sources.length > 0);
    put(this.sources, ...(sources.length ? [h('span', { class: 'jv-muted' }, this.ui.say('sources')), ...sources.map((source) => {
      const place = { showSource: (/** @type {number} */ n, /** @type {HTMLElement} */ a, /** @type {boolean} */ p) => this.showSource(n, a, p), sources: () => sources, codeButtons: () => [] };
      const button = citation(this.ui, place, source);
      button.classList.add('jv-sourcename');
      button.removeAttribute('aria-label');
      button.append(' ', h('span', null, visible(source.label, true)));
      if (source.place) button.append(h('small', null, kindName(this.ui.say, source.place)));
      return button;
    })] : []));
  }

  /**
   * @param {number} n
   * @param {HTMLElement} anchor
   * @param {boolean} pinned
   */
  showSource(n, anchor, pinned) {
    const source = (this.message.sources ?? []).find((one) => one.n === n);
    if (!source) return;
    const { say } = this.ui;
    const label = visible(source.label, true);
    this.ui.popover.open(anchor, h('div', { class: 'jv-source' },
      h('div', { class: 'jv-sourcehead' }, icon('book'), h('strong', null, label),
        source.place ? h('span', { class: 'jv-muted' }, kindName(say, source.place)) : null,
        typeof source.score === 'number' ? h('span', { class: 'jv-tag' }, say('score', { score: source.score.toFixed(2) })) : null),
      h('div', { class: 'jv-passage', attr: { tabindex: '0', dir: 'auto' } }, visible(source.text))),
    { pinned, label: say('source', { n, label }) });
  }

  drawNotes() {
    const notes = this.message.notes ?? [];
    show(this.notes, notes.length > 0);
    put(this.notes, ...notes.map((note) => h('p', null, visible(note))));
  }

  drawVerdict() {
    const { original, message } = this;
    const { verdict } = message;
    const { say } = this.ui;
    this.feedback.update();
    const badges = [];
    const better = verdict?.corrected ? callIn(verdict.corrected) : null;
    this.drawBetter(better);
    if (verdict?.corrected) {
      const flip = textButton(say(original ? 'showCorrected' : 'original'), () => {
        this.original = !original;
        this.ui.steady(() => {
          this.drawParts(false);
          this.drawVerdict();
        });
        /** @type {HTMLElement|null} */ (this.badge.querySelector('.jv-link'))?.focus();
      }, 'jv-link');
      badges.push(h('span', { class: 'jv-tag jv-good' }, icon('fix'), say('corrected')), ...(better ? [] : [flip]));
    }
    if (verdict?.candidate) {
      badges.splice(verdict.corrected ? 1 : 0, 0,
        h('span', { class: 'jv-tag', attr: { title: say('candidateHint') } }, icon('check'), say('candidate')));
    }
    show(this.badge, badges.length > 0);
    put(this.badge, ...badges);
  }

  /** The call as it should have been; one that ran with a person's arguments is there already. @param {Asked|null} better */
  drawBetter(better) {
    const calls = callsOf(this.message);
    if (!better || calls.some((call) => call.edited && covers(call, better))) {
      put(this.better);
      return;
    }
    const risk = calls.find((call) => call.name === better.name)?.risk ?? 'exec';
    const card = new ToolCard(this.ui);
    card.update({ ...better, id: 'corrected', status: 'corrected', risk, rule: '', key: '' });
    put(this.better, card.el);
  }

  /** @param {string} key */
  key(key) {
    if (this.message.status === 'streaming' || (this.message.pair && !this.message.pair.picked)) return false;
    if (key === 'r') this.ui.regen(this.message.id);
    else if (key === 'c') this.copyWords(this.copyButton);
    else if (key === '+' || key === '=') this.feedback.thumb(true);
    else if (key === '-') this.feedback.thumb(false);
    else if (key === 'f') this.feedback.openEditor();
    else if (key === '[') this.turn(-1);
    else if (key === ']') this.turn(1);
    else return false;
    return true;
  }
}

/**
 * @param {Ui} ui
 * @param {Footer|null} given
 */
export function footer(ui, given) {
  if (!given) return [];
  const { say } = ui;
  const model = [given.model, given.adapter].filter(Boolean).join('@');
  const texts = [
    model ? h('span', { class: 'jv-model', attr: { title: visible(model, true) } }, visible(model, true)) : null,
    typeof given.first_token_s === 'number' ? h('span', { attr: { title: say('firstToken', { time: seconds(given.first_token_s) }) } }, seconds(given.first_token_s)) : null,
    typeof given.tokens_per_s === 'number' ? h('span', null, say('speed', { n: whole(given.tokens_per_s) })) : null,
    typeof given.tokens === 'number' ? h('span', null, say('tokens', { n: whole(given.tokens) })) : null,
    typeof given.cost_usd === 'number' ? h('span', null, money(given.cost_usd)) : null,
  ];
  if (given.context) {
    const [used, room] = given.context;
    const share = room > 0 ? Math.min(1, used / room) : 0;
    const label = say('context', { used: whole(used), room: whole(room) });
    const bar = h('i');
    bar.style.width = `${Math.max(3, share * 100)}%`;
    texts.push(h('span', {
      class: `jv-meter${share > 0.85 ? ' jv-full' : ''}`, attr: { role: 'img', 'aria-label': label, title: label },
    }, bar));
  }
  return texts.filter((one) => one !== null);
}

/**
 * The call that a correction is; null for one in words.
 * @param {string} text
 * @returns {Asked|null}
 */
function callIn(text) {
  if (!text.trimStart().startsWith('<tool_call>')) return null;
  try {
    const { name, arguments: given } = JSON.parse(text.replace(/^\s*<tool_call>|<\/tool_call>\s*$/g, ''));
    return { name: String(name), arguments: given ?? {} };
  } catch {
    return { name: text, arguments: {} };
  }
}

/**
 * Whether a call ran as it should have been; what it leaves to the tool may have been filled in.
 * @param {Call} call
 * @param {Asked} better
 */
function covers(call, better) {
  const ran = /** @type {Record<string, any>} */ (typeof call.arguments === 'string' ? {} : call.arguments);
  return call.name === better.name
    && Object.entries(better.arguments).every(([name, value]) => JSON.stringify(ran[name]) === JSON.stringify(value));
}
