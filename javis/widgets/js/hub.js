/**
 * What is known of a chat, once for all its views: it hears the kernel, notices when nobody answers, and keeps
 * what is not saved yet, also for the page that comes after this one.
 */

/** @import {Effect, Model, WireMessage} from './types.js' */
/** @import {ChatView} from './chat.js' */
import { token } from './dom.js';
import { empty, reduce, running, textOf, waiting } from './state.js';
import { Wire } from './wire.js';

/** Milliseconds that a saved request may wait for its answer to begin. */
const EXPECTS = 20000;
/** Milliseconds after which a request that is not saved yet is asked after. */
const UNSAVED = 4000;
/** Milliseconds without an answer to hello after which the kernel is said to be away: at first, and with a request that waits. */
const AWAY = [4000, 2000];

/** @typedef {{op: string, at: number, after: string|null, fields: Record<string, any>}} Sent */
/** @typedef {{text: string, after: string|null}} Lost a request of an earlier page, and the message before it */

export class Hub {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    this.state = empty();
    /** @type {Set<ChatView>} */
    this.views = new Set();
    /** @type {Map<string, Sent>} what was sent and is not saved yet */
    this.sent = new Map();
    this.stopping = false;
    /** When a saved request began to wait for its answer. */
    this.expecting = 0;
    /** @type {ChatView|null} where the last request was written */
    this.from = null;
    this.hiddenAt = 0;
    this.helloSince = 0;
    this.helloTries = 0;
    this.seen = { top: 0, following: true };
    this.wire = new Wire(model, (message) => this.hear(message));
    this.storedAs = this.key;
    /** @type {Lost[]} */
    this.lost = listed(read(`${this.key}-sent`));
    this.draft = read(this.key);
    this.timer = setInterval(() => this.tick(), 500);
    this.seenAgain = () => {
      if (document.hidden) this.hiddenAt = Date.now();
      else if (this.hiddenAt && Date.now() - this.hiddenAt > 60000) this.hello('back');
    };
    document.addEventListener('visibilitychange', this.seenAgain);
  }

  // ---- hearing

  /** @param {string} why */
  hello(why) {
    // One that is not answered yet will be answered with what is known then.
    const asked = this.helloSince && Date.now() - this.wire.helloAt < 1000;
    if (!this.helloSince) this.helloSince = Date.now();
    if (!asked || why === 'view') this.wire.hello(this.state.loaded ? this.state.rev : 0);
  }

  /** @param {WireMessage} message */
  hear(message) {
    const [state, effects] = reduce(this.state, message);
    const changed = state !== this.state;
    this.state = state;
    if (['run', 'd', 'tool', 'out', 'done', 'snap', 'msg'].includes(message.op)) this.wire.heard();
    if (['run', 'done', 'err', 'snap'].includes(message.op)) {
      this.expecting = 0;
      this.sent.delete('regen');
    }
    if (message.op === 'ack' && message.client) this.acked(message.client);
    if (!running(state) && !this.expecting) this.stopping = false;
    for (const effect of effects) this.act(effect);
    for (const [client, { op }] of this.sent) {
      if (['send', 'compare'].includes(op) && !state.pending.some((one) => one.client === client)) this.settled(client);
    }
    if (message.op === 'snap') this.answered(message);
    if (changed || effects.length) this.draw();
  }

  /** The kernel is there. @param {WireMessage} message */
  answered(message) {
    this.helloSince = 0;
    this.helloTries = 0;
    // What it has not saved, though it came before hello, was lost on the way. It takes a request only once.
    for (const one of this.sent.values()) if (message.view && one.at < this.wire.helloAt) this.post(one);
    for (const { text, after } of this.lost.splice(0)) {
      const { messages } = this.state;
      const since = messages.slice(messages.findIndex((one) => one.id === after) + 1);
      if (!since.some((one) => one.role === 'user' && textOf(one).trim() === text.trim())) this.giveBack(text);
    }
    this.store();
  }

  /** Saved, so the record will come; should it not, the request is not shown for ever. @param {string} client */
  acked(client) {
    this.settled(client);
    if (!running(this.state)) this.expecting = Date.now();
    this.draw();
    setTimeout(() => this.hear({ op: '@unsend', client }), 1500);
  }

  /** @param {Effect} effect */
  act(effect) {
    if (effect.do === 'hello') this.hello(effect.why);
    else if (effect.do === 'error') {
      const draft = effect.draft ?? this.sent.get(effect.client ?? '')?.fields.text;
      this.settled(effect.client ?? '');
      if (draft) this.giveBack(draft);
    }
    for (const view of this.views) view.effect(effect);
  }

  tick() {
    if (!this.views.size) return;
    const now = Date.now();
    if (this.expecting && now - this.expecting > EXPECTS) {
      this.expecting = 0;
      this.hello('no answer began');
    }
    if (running(this.state) && !waiting(this.state) && this.wire.quiet()) this.hello('silence');
    if (!this.helloSince && this.waited > UNSAVED) this.hello('not saved');
    if (this.helloSince && now - this.wire.helloAt > Math.min(5000 * 2 ** this.helloTries, 60000)) {
      this.helloTries++;
      this.wire.hello(this.state.rev);
    }
    if (this.sent.size || this.helloSince) this.draw();
  }

  draw() {
    for (const view of this.views) view.invalidate();
  }

  /** Milliseconds that the oldest request waits to be saved. */
  get waited() {
    return this.sent.size ? Date.now() - Math.min(...[...this.sent.values()].map((one) => one.at)) : 0;
  }

  /** Whether nobody answers, though the kernel is not at work. JupyterLab says whether it is. */
  get away() {
    const kernel = this.model.widget_manager?.context?.sessionContext?.session?.kernel?.status;
    return !!this.helloSince && kernel !== 'busy' && Date.now() - this.helloSince > AWAY[this.sent.size ? 1 : 0];
  }

  // ---- asking

  /**
   * @param {string} op
   * @param {string} text
   * @param {Record<string, any>} [fields]
   */
  request(op, text, fields = {}) {
    const client = token();
    const after = op === 'edit' ? null : this.state.messages.at(-1)?.id ?? null;
    const sent = { op, at: 0, after, fields: { text, client, ...fields } };
    this.sent.set(client, sent);
    this.store();
    if (op !== 'edit') this.hear({ op: '@send', client, text });
    this.post(sent);
  }

  /** @param {string} id */
  regen(id) {
    const sent = { op: 'regen', at: 0, after: null, fields: { id } };
    this.sent.set('regen', sent);
    this.post(sent);
  }

  /** @param {Sent} sent */
  post(sent) {
    sent.at = Date.now();
    this.wire.send(sent.op, sent.fields);
    this.wire.heard();
    this.draw();
  }

  /** Nobody takes the requests any more: their words go back into the box. */
  withdraw() {
    for (const [client, { fields }] of [...this.sent]) {
      this.settled(client);
      this.hear({ op: '@unsend', client });
      if (fields.text) this.giveBack(fields.text);
    }
    this.draw();
  }

  stop() {
    if (this.away && this.sent.size) {
      this.withdraw();
      return;
    }
    this.stopping = true;
    this.wire.send('stop', { run: Object.keys(this.state.runs).at(-1) ?? null });
    this.draw();
  }

  // ---- what is kept, also for the page that comes after this one

  get key() {
    const place = this.model.widget_manager?.context?.path ?? '';
    return `javis-draft-${place}-${this.model.get('thread_id') ?? ''}`;
  }

  /** A request that will not be answered goes back into the box in which it was written. @param {string} text */
  giveBack(text) {
    const view = this.from && this.views.has(this.from) ? this.from : [...this.views].at(-1);
    if (view) view.composer.restore(text);
    else this.keep(this.draft ? `${text}\n${this.draft}` : text);
  }

  /** @param {string} client */
  settled(client) {
    if (this.sent.delete(client)) this.store();
  }

  /** @param {string} draft */
  keep(draft) {
    this.draft = draft;
    this.store();
  }

  store() {
    if (this.key !== this.storedAs) for (const key of [this.storedAs, `${this.storedAs}-sent`]) write(key, '');
    this.storedAs = this.key;
    write(this.key, this.draft);
    const sent = [...this.sent.values()].flatMap(({ fields, after }) => (fields.text ? [{ text: fields.text, after }] : []));
    const open = [...this.lost, ...sent];
    write(`${this.key}-sent`, open.length ? JSON.stringify(open) : '');
  }

  close() {
    clearInterval(this.timer);
    document.removeEventListener('visibilitychange', this.seenAgain);
    this.wire.close();
  }
}

/** @param {string} text @returns {Lost[]} */
function listed(text) {
  try {
    return JSON.parse(text || '[]');
  } catch {
    return [];
  }
}

/** @param {string} key */
function read(key) {
  try {
    return sessionStorage.getItem(key) ?? '';
  } catch {
    return '';
  }
}

/**
 * @param {string} key
 * @param {string} text empty: nothing is kept
 */
function write(key, text) {
  try {
    if (text) sessionStorage.setItem(key, text);
    else sessionStorage.removeItem(key);
  } catch {
    // A page without storage keeps its drafts until it is reloaded.
  }
}
