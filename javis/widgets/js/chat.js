/** A chat as it is shown in one place: its title, its messages, its box, and the keys that lead from one to the other. */

/** @import {Effect, Locale, Message, Model, State} from './types.js' */
/** @import {Hub} from './hub.js' */
/** @import {Ui} from './ui.js' */
import { lazy } from './assets.js';
import { Answer, Request, flash } from './bubble.js';
import { Notebook, cellId } from './cellactions.js';
import { Composer } from './composer.js';
import { copy, h, order, put, setAttr, show } from './dom.js';
import { icon } from './icons.js';
import { Pair } from './pair.js';
import { Popover, menu } from './popover.js';
import { running } from './state.js';
import { HELP, localeOf, sayer } from './strings.js';
import { visible, wordsOf } from './text.js';
import { Threads, save } from './threads.js';
import { iconButton, isComposing, isKey, textButton } from './ui.js';

/** Milliseconds after which something that is not there yet is said to wait. */
const WAITS = 900;

/**
 * Notebooks listen to keys before the page does. JupyterLab leaves alone what stands below such an attribute, but some
 * of its shortcuts ask for the focused element itself, so that needs one too.
 */
const QUIET = 'data-lm-suppress-shortcuts';
/** @param {FocusEvent} event */
const quiet = ({ target }) => { if (target instanceof Element) setAttr(target, QUIET, 'true'); };

/** One place where the chat is shown. */
export class ChatView {
  /**
   * @param {Hub} hub
   * @param {Model} model
   * @param {HTMLElement} el
   * @param {Notebook} notebook
   */
  constructor(hub, model, el, notebook) {
    this.hub = hub;
    this.model = model;
    this.host = el;
    this.notebook = notebook;
    this.frame = 0;
    /** @type {number|null} */
    this.height = null;
    /** @type {HTMLInputElement|null} */
    this.titleBox = null;
    const say = (this.say = sayer(this.locale()));
    /** @type {Map<string, Request|Answer|Pair>} */
    this.items = new Map();
    /** @type {Map<string, HTMLElement>} */
    this.waitingEls = new Map();
    this.root = h('div', {
      class: 'jv', attr: { lang: this.locale(), role: 'region', 'aria-label': say('chat'), [QUIET]: 'true' },
      on: {
        keydown: (/** @type {KeyboardEvent} */ event) => this.rootKey(event),
        focusin: (/** @type {FocusEvent} */ event) => quiet(event),
      },
    });
    this.popover = new Popover(this.root);
    this.live = h('div', { class: 'jv-off', attr: { role: 'status', 'aria-live': 'polite' } });
    const ui = (this.ui = this.makeUi());
    this.threads = new Threads(ui);
    this.title = h('button', {
      class: 'jv-title', attr: { type: 'button', title: say('rename'), dir: 'auto' }, on: { click: () => this.rename() },
    });
    this.saveButton = iconButton('save', say('export'), () => this.exportMenu(), { class: 'jv-export', attr: { 'aria-haspopup': 'menu' } });
    this.older = textButton(say('older'), () => this.loadOlder(), 'jv-older');
    this.blank = this.makeBlank();
    this.list = h('div', {
      class: 'jv-list', attr: { role: 'log', 'aria-label': say('conversation'), 'aria-live': 'off' },
      on: { keydown: (/** @type {KeyboardEvent} */ event) => this.listKey(event), focusin: (/** @type {FocusEvent} */ event) => this.rove(event) },
    });
    this.scroller = h('div', { class: 'jv-scroll', on: { scroll: () => this.scrolled() } }, this.blank, this.list);
    this.jump = h('button', {
      class: 'jv-jump', attr: { type: 'button', hidden: true }, on: { click: () => this.toEnd() },
    }, icon('open'), say('latest'));
    this.handle = this.makeHandle();
    this.toasts = h('div', { class: 'jv-toasts' });
    this.composer = this.makeComposer();
    put(this.root, this.makeHead(), h('div', { class: 'jv-middle' }, this.scroller, this.jump), this.handle, this.toasts, this.composer.el,
      this.threads.el, this.popover.el, this.live);
    this.host.replaceChildren(this.root);
    this.sizes = new ResizeObserver(() => this.resized());
    this.theme = new MutationObserver(() => this.readTheme());
    this.following = hub.seen.following;
    this.onTrait = () => this.invalidate();
    this.watch();
    hub.views.add(this);
    hub.hello('view');
    this.draw(0);
  }

  /** What changes around the view: its size, its theme, the small traits. */
  watch() {
    this.sizes.observe(this.scroller);
    this.model.on('change:status', this.onTrait);
    this.model.on('change:height', this.onTrait);
    this.theme.observe(document.body, { attributes: true, attributeFilter: ['class', 'data-jp-theme-light', 'data-vscode-theme-kind', 'theme'] });
    this.theme.observe(document.documentElement, { attributes: true, attributeFilter: ['class', 'theme', 'data-theme'] });
    this.readTheme();
  }

  makeHead() {
    const { say } = this;
    const other = this.locale() === 'ko' ? 'en' : 'ko';
    return h('header', { class: 'jv-head' },
      iconButton('list', say('threads'), () => this.threads.open(), { class: 'jv-threadsbutton' }), this.title, h('span', { class: 'jv-gap' }),
      iconButton('plus', say('newThread'), () => this.hub.wire.send('new'), { class: 'jv-new' }), this.saveButton,
      h('button', {
        class: 'jv-button jv-lang-button', attr: { type: 'button', title: say('language'), lang: other, 'aria-label': say('language') },
        on: { click: () => this.setTrait('locale', other) },
      }, other === 'en' ? 'EN' : '한'));
  }

  makeComposer() {
    const { hub } = this;
    return new Composer(this.ui, {
      send: (text, compare) => this.send(text, compare),
      stop: () => hub.stop(),
      command: (name, rest) => this.command(name, rest),
      up: () => this.toCall() || this.lastRequest()?.edit(),
      leave: () => this.lastItem()?.el.focus(),
    }, { draft: hub.draft, keep: (draft) => hub.keep(draft), caps: () => this.model.get('caps') ?? {} });
  }

  /** @returns {Locale} */
  locale() {
    return localeOf(this.model);
  }

  /** @returns {Ui} */
  makeUi() {
    const { hub } = this;
    return {
      wire: hub.wire,
      say: this.say,
      locale: () => this.locale(),
      state: () => hub.state,
      math: lazy(hub.wire, 'math'),
      highlight: lazy(hub.wire, 'highlight'),
      popover: this.popover,
      root: this.root,
      idle: (run) => {
        if ('requestIdleCallback' in globalThis) requestIdleCallback(() => run(), { timeout: 1500 });
        else setTimeout(run, 30);
      },
      announce: (text) => this.announce(text),
      toast: (text, bad) => this.toast(text, bad),
      codeButtons: (message, code, block, lang) => this.codeButtons(message, code, block, lang),
      busy: () => this.busy(),
      focusComposer: () => this.composer.focus(),
      resend: (message, text) => hub.request('edit', text, { id: message.id }),
      regen: (id) => {
        if (this.busy()) return;
        this.following = true;
        hub.regen(id);
      },
      stop: () => hub.stop(),
      steady: (change) => {
        change();
        this.invalidate();
      },
    };
  }

  /** The parts that an empty chat shows. */
  makeBlank() {
    const { say } = this;
    const ideas = ['idea1', 'idea2', 'idea3'].map((key) => h('button', {
      class: 'jv-idea', attr: { type: 'button' }, on: { click: () => this.composer.setDraft(say(key)) },
    }, say(key)));
    return h('div', { class: 'jv-blank' }, h('strong', null, say('hello')), h('p', { class: 'jv-muted' }, say('helloMore')),
      h('div', { class: 'jv-ideas' }, ...ideas));
  }

  makeHandle() {
    const set = (/** @type {number} */ height) => {
      const px = Math.round(Math.max(140, Math.min(2000, height)));
      this.height = px;
      this.resized();
      this.invalidate();
      return px;
    };
    const handle = h('div', {
      class: 'jv-handle', attr: { role: 'separator', tabindex: '0', 'aria-orientation': 'horizontal', 'aria-label': this.say('resize'), 'aria-valuemin': 140, 'aria-valuemax': 2000, 'aria-valuenow': 560 },
      on: {
        pointerdown: (/** @type {PointerEvent} */ down) => {
          const from = this.scroller.offsetHeight;
          handle.setPointerCapture(down.pointerId);
          const move = (/** @type {PointerEvent} */ event) => set(from + event.clientY - down.clientY);
          handle.addEventListener('pointermove', move);
          handle.addEventListener('pointerup', () => {
            handle.removeEventListener('pointermove', move);
            if (this.height) this.setTrait('height', this.height);
          }, { once: true });
        },
        keydown: (/** @type {KeyboardEvent} */ event) => {
          const step = { ArrowDown: 40, ArrowUp: -40 }[event.key];
          if (!step) return;
          event.preventDefault();
          this.setTrait('height', set(this.scroller.offsetHeight + step));
        },
      },
    });
    return handle;
  }

  readTheme() {
    const color = getComputedStyle(this.root).getPropertyValue('background-color');
    const [r, g, b] = (color.match(/[\d.]+/g) ?? ['255', '255', '255']).map(Number);
    const scale = color.startsWith('color(') ? 255 : 1;
    const dark = (0.299 * r + 0.587 * g + 0.114 * b) * scale < 128;
    setAttr(this.root, 'data-theme', dark ? 'dark' : 'light');
  }

  /** @param {string} text */
  announce(text) {
    this.live.textContent = '';
    setTimeout(() => { this.live.textContent = text; }, 30);
  }

  /**
   * @param {string} text
   * @param {boolean} [bad]
   */
  toast(text, bad = false) {
    const close = () => toast.remove();
    const toast = h('div', { class: `jv-toast${bad ? ' jv-failed' : ''}`, attr: { role: bad ? 'alert' : 'status' } },
      bad ? icon('warn') : null, h('span', null, text), iconButton('cross', this.say('close'), close));
    while (this.toasts.children.length > 2) this.toasts.firstElementChild?.remove();
    this.toasts.appendChild(toast);
    if (!bad) setTimeout(close, 5000);
  }

  /** @param {Effect} effect */
  effect(effect) {
    if (effect.do === 'error') this.toast(visible(effect.text), true);
    else if (effect.do === 'note') this.toast(visible(effect.text));
    else if (effect.do === 'began') this.announce(this.say('began'));
    else if (effect.do === 'ended') {
      const said = this.say(effect.status === 'cancelled' ? 'endedStopped' : effect.status === 'error' ? 'endedError' : 'ended');
      const message = this.hub.state.messages.find((one) => one.id === effect.id);
      this.announce(message && !message.pair ? `${said}: ${visible(wordsOf(message).slice(0, 400))}` : said);
    } else if (effect.do === 'waiting') this.announce(this.say('asks', { name: visible(effect.call.name, true) }));
  }

  /** To the buttons of a call that waits; whether there is one. */
  toCall() {
    const card = this.bubbles().flatMap((one) => (one instanceof Answer ? one.cards() : [])).find((one) => one.call?.status === 'waiting');
    card?.focus();
    return !!card;
  }

  // ---- doing

  busy() {
    const { state } = this.hub;
    return running(state) || state.pending.length > 0 || this.hub.sent.size > 0 || this.hub.expecting > 0;
  }

  /**
   * @param {string} text
   * @param {boolean} compare
   */
  send(text, compare) {
    this.following = true;
    this.hub.from = this;
    put(this.toasts);
    this.hub.request(compare ? 'compare' : 'send', text, compare ? {} : { parent: this.hub.state.head });
  }

  /**
   * @param {string} name
   * @param {string} rest
   * @returns {boolean}
   */
  command(name, rest) {
    const { wire } = this.hub;
    const answer = this.lastAnswer();
    if (name === '/compare' && rest && !this.busy()) this.send(rest, true);
    else if (name === '/compare') this.composer.setCompare(true);
    else if (name === '/new') wire.send('new');
    else if (name === '/threads') {
      this.threads.open();
      if (rest) {
        this.threads.search.value = rest;
        this.threads.load();
      }
    } else if (name === '/rename' && rest) this.setTitle(rest);
    else if (name === '/rename') this.rename();
    else if (name === '/export') save(this.ui, rest === 'jsonl' || rest === 'ipynb' ? rest : 'md');
    else if (name === '/stop') this.hub.stop();
    else if (name === '/help') this.help();
    else if (!answer) return true;
    else if (name === '/regen') this.ui.regen(answer.message.id);
    else if (name === '/good') answer.feedback.thumb(true);
    else if (name === '/bad') answer.feedback.thumb(false);
    else if (name === '/fix') answer.feedback.openEditor();
    return true;
  }

  help() {
    const { say } = this;
    const parts = HELP.map(([title, keys]) => h('section', null, h('h6', null, say(title)), h('dl', null, ...keys.flatMap(([names, what]) => [
      h('dt', null, ...names.split(' ').map((name) => h('kbd', null, name))), h('dd', null, say(what))]))));
    this.popover.open(this.composer.slash, h('div', { class: 'jv-help', attr: { tabindex: '0' } }, ...parts),
      { pinned: true, label: say('help'), focus: true, width: 700 });
  }

  exportMenu() {
    const formats = /** @type {const} */ ([['md', 'exportMd', '.md'], ['jsonl', 'exportJsonl', '.jsonl'], ['ipynb', 'exportIpynb', '.ipynb']]);
    this.popover.open(this.saveButton, menu(formats.map(([format, key, detail]) => ({
      label: this.say(key), detail, run: () => save(this.ui, format),
    })), () => this.popover.close(true)), { pinned: true, role: 'menu', label: this.say('export'), focus: true });
  }

  rename() {
    if (this.titleBox) return;
    const { say } = this;
    const input = h('input', { class: 'jv-input jv-titlebox', attr: { type: 'text', 'aria-label': say('title'), maxlength: '200' }, prop: { value: this.hub.state.title } });
    this.titleBox = input;
    let over = false;
    const end = (/** @type {boolean} */ keep) => {
      if (over) return;
      over = true;
      const title = input.value.trim();
      const focused = document.activeElement === input;
      input.replaceWith(this.title);
      this.titleBox = null;
      if (keep && title && title !== this.hub.state.title) this.setTitle(title);
      if (focused) this.title.focus();
    };
    input.addEventListener('keydown', (event) => {
      if (isComposing(event)) return;
      if (event.key === 'Enter') end(true);
      else if (event.key === 'Escape') {
        event.stopPropagation();
        end(false);
      }
    });
    input.addEventListener('blur', () => end(true));
    this.title.replaceWith(input);
    input.focus();
    input.select();
  }

  /** @param {string} title */
  setTitle(title) {
    this.hub.wire.send('rename', { title });
    this.hub.hear({ op: '@title', title });
  }

  /**
   * A small trait, which the kernel keeps with the widget.
   * @param {string} name
   * @param {any} value
   */
  setTrait(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  loadOlder() {
    const first = this.hub.state.messages[0];
    if (!first) return;
    setAttr(this.older, 'disabled', true);
    this.hub.wire.send('page', { before: first.id });
    setTimeout(() => setAttr(this.older, 'disabled', false), 1500);
  }

  /**
   * @param {Message} message
   * @param {string} code
   * @param {number} block
   * @param {string} lang
   */
  codeButtons(message, code, block, lang) {
    const { say } = this;
    const copyButton = iconButton('copy', say('copy'), async () => {
      const done = await copy(code, this.root);
      flash(this.ui, copyButton, done);
      if (done) this.hub.wire.send('used', { id: message.id, block, what: 'copied', code });
    });
    const shell = /^(bash|sh|shell|zsh)$/i.test(lang);
    if (!shell && !/^(|py|python|python3|ipython|r|julia)$/i.test(lang)) return [copyButton];
    const source = shell ? `%%bash\n${code}` : code;
    return [copyButton,
      iconButton('below', say('insert'), () => this.insert(message.id, block, source, false), { class: 'jv-insert' }),
      iconButton('run', say('insertRun'), () => this.insert(message.id, block, source, true), { class: 'jv-insertrun' })];
  }

  /**
   * @param {string} id
   * @param {number} block
   * @param {string} code
   * @param {boolean} run
   */
  async insert(id, block, code, run) {
    const { wire } = this.hub;
    if (!this.notebook.available) {
      const done = await copy(code, this.root);
      this.toast(this.say(done ? 'pasteHint' : 'copyFailed'), !done);
      if (done) wire.send('used', { id, block, what: 'copied', code });
      return;
    }
    try {
      const cell = this.notebook.insert(code, (what, detail) => wire.send('outcome', { id, block, what, ...(detail ? { detail } : {}) }));
      const ran = run && this.notebook.run(cell);
      wire.send('used', { id, block, what: ran ? 'ran' : 'inserted', code, cell: cellId(cell) });
      this.toast(this.say(ran ? 'ran' : 'inserted'));
    } catch (error) {
      this.toast(String(error), true);
    }
  }

  // ---- drawing

  invalidate() {
    if (!this.frame) this.frame = requestAnimationFrame((now) => this.draw(now));
  }

  /** @param {number} now */
  draw(now) {
    this.frame = 0;
    const { hub } = this;
    const { state } = hub;
    const whole = this.drawMessages(state, now);
    const title = state.title || this.say('untitled');
    if (this.title.textContent !== title) this.title.textContent = visible(title, true);
    const bare = state.loaded && !state.messages.length && !state.pending.length;
    show(this.blank, bare);
    this.root.classList.toggle('jv-bare', bare);
    this.list.setAttribute('aria-busy', String(running(state)));
    const height = this.height ?? Number(this.model.get('height') ?? 0);
    this.scroller.style.height = height ? `${height}px` : '';
    this.scroller.style.maxHeight = height ? 'none' : '';
    setAttr(this.handle, 'aria-valuenow', Math.round(height || 560));
    this.composer.update(this.busy(), this.statusText(), hub.stopping);
    setAttr(this.root, 'data-state', this.busy() ? 'running' : 'idle');
    if (this.following) this.pin();
    show(this.jump, !this.following && !this.atEnd());
    if (!whole) this.invalidate();
  }

  /**
   * @param {State} state
   * @param {number} now
   */
  drawMessages(state, now) {
    let whole = true;
    /** @type {Element[]} */
    const els = state.more ? [this.older] : [];
    const used = new Set();
    for (let at = 0; at < state.messages.length; at++) {
      const message = state.messages[at];
      const next = state.messages[at + 1];
      const both = message.pair && next?.pair?.id === message.pair.id;
      const single = message.pair && !both && !message.pair.picked;
      if (both || single) {
        const key = `pair ${message.pair?.id}`;
        let pair = this.items.get(key);
        if (!(pair instanceof Pair)) this.items.set(key, (pair = new Pair(this.ui, message.pair?.id ?? '')));
        whole = pair.update(both ? [message, next] : [message], now || undefined) && whole;
        els.push(pair.el);
        used.add(key);
        if (both) at++;
        continue;
      }
      let item = this.items.get(message.id);
      if (!item || item instanceof Pair) {
        item = message.role === 'user' ? new Request(this.ui, message) : new Answer(this.ui, message);
        this.items.set(message.id, item);
      }
      whole = item.update(message, now || undefined) && whole;
      els.push(item.el);
      used.add(message.id);
    }
    for (const [key] of this.items) if (!used.has(key)) this.items.delete(key);
    for (const one of state.pending) els.push(this.pendingEl(one.client, one.text));
    for (const [client, el] of this.waitingEls) if (!els.includes(el)) this.waitingEls.delete(client);
    order(this.list, els);
    const articles = this.articles();
    if (!articles.some((el) => el.tabIndex === 0) && articles.length) articles[articles.length - 1].tabIndex = 0;
    return whole;
  }

  /**
   * A request on its way to the kernel.
   * @param {string} client
   * @param {string} text
   */
  pendingEl(client, text) {
    const known = this.waitingEls.get(client);
    if (known) return known;
    const el = h('article', { class: 'jv-msg jv-user jv-pending', attr: { 'aria-label': this.say('you') } },
      h('div', { class: 'jv-said' }, h('div', { class: 'jv-body' }, visible(text))), h('div', { class: 'jv-foot' }));
    this.waitingEls.set(client, el);
    return el;
  }

  statusText() {
    const { hub, say } = this;
    const now = Date.now();
    if (this.model.get('status') === 'closed') return say('closed');
    if (hub.away) return say('away');
    if (hub.waited > WAITS) return say('queued');
    if (hub.stopping) return say('stopping');
    if (!hub.state.loaded) return now - hub.helloSince > WAITS ? say('connecting') : '';
    if (hub.state.stale && now - hub.helloSince > WAITS) return say('resync');
    return '';
  }

  // ---- scrolling: the end is followed only by those who are there

  atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < 40;
  }

  pin() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  scrolled() {
    if (!this.scroller.clientHeight) return;
    this.following = this.atEnd();
    this.hub.seen = { top: this.scroller.scrollTop, following: this.following };
    show(this.jump, !this.following);
    if (!this.popover.pinned) this.popover.close();
    else this.popover.place();
  }

  /** A notebook may take its cells off the page and put them back: what was read is found again. */
  resized() {
    if (!this.scroller.clientHeight) return;
    if (this.following) this.pin();
    else if (this.scroller.scrollTop === 0 && this.hub.seen.top > 0) this.scroller.scrollTop = this.hub.seen.top;
    this.popover.place();
  }

  toEnd() {
    this.following = true;
    this.pin();
    show(this.jump, false);
    this.composer.focus();
  }

  // ---- keys

  /** @returns {HTMLElement[]} */
  articles() {
    return [.../** @type {NodeListOf<HTMLElement>} */ (this.list.querySelectorAll('.jv-msg:not(.jv-pending)'))];
  }

  /** @param {FocusEvent} event */
  rove(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const article = /** @type {HTMLElement|null} */ (target.closest('.jv-msg'));
    if (!article || article.classList.contains('jv-pending')) return;
    for (const one of this.articles()) one.tabIndex = one === article ? 0 : -1;
  }

  /** @param {KeyboardEvent} event */
  listKey(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (!target.classList.contains('jv-msg') || isComposing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = this.articles();
    const at = all.indexOf(target);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      if (to >= all.length) this.composer.focus();
      else all[Math.max(0, to)].focus();
      return;
    }
    if (event.key === 'Escape') {
      event.preventDefault();
      event.stopPropagation();
      this.composer.focus();
      return;
    }
    const item = this.bubbles().find((one) => one.el === target);
    if (item?.key(event.key)) event.preventDefault();
  }

  /** @param {KeyboardEvent} event */
  rootKey(event) {
    if ((event.ctrlKey || event.metaKey) && event.key === 's' && !event.shiftKey) {
      // The notebook's own shortcut is held back here, and saving must still work.
      const context = this.model.widget_manager?.context;
      if (context?.save) {
        event.preventDefault();
        context.save();
      }
    }
    if (isKey(event, 'Escape') && this.busy() && !event.defaultPrevented) this.hub.stop();
    if (event.altKey && isKey(event, 'ArrowUp') && this.toCall()) event.preventDefault();
    event.stopPropagation();
  }

  /** @returns {(Request|Answer)[]} */
  bubbles() {
    return [...this.items.values()].flatMap((item) => (item instanceof Pair ? Object.values(item.answers) : [item]));
  }

  lastItem() {
    const id = this.articles().at(-1);
    return this.bubbles().find((one) => one.el === id);
  }

  lastAnswer() {
    const els = this.articles();
    return this.bubbles().filter((one) => one instanceof Answer).sort((a, b) => els.indexOf(a.el) - els.indexOf(b.el)).at(-1);
  }

  lastRequest() {
    const els = this.articles();
    return this.bubbles().filter((one) => one instanceof Request).sort((a, b) => els.indexOf(a.el) - els.indexOf(b.el)).at(-1);
  }

  dispose() {
    cancelAnimationFrame(this.frame);
    this.hub.views.delete(this);
    this.model.off('change:status', this.onTrait);
    this.model.off('change:height', this.onTrait);
    this.theme.disconnect();
    this.sizes.disconnect();
    this.popover.dispose();
    this.threads.close();
    this.host.replaceChildren();
  }
}

/**
 * A view, made anew when the language or what the kernel can do has changed.
 * @param {Hub} hub
 * @param {Model} model
 * @param {HTMLElement} el
 * @returns {() => void} take it away
 */
export function mount(hub, model, el) {
  const notebook = new Notebook(model, el);
  let view = new ChatView(hub, model, el, notebook);
  const again = () => {
    const focused = el.contains(document.activeElement);
    view.dispose();
    view = new ChatView(hub, model, el, notebook);
    if (focused) view.composer.focus();
  };
  model.on('change:locale', again);
  model.on('change:caps', again);
  return () => {
    model.off('change:locale', again);
    model.off('change:caps', again);
    view.dispose();
    notebook.dispose();
  };
}
