/** What people say of an answer: a thumb, a reason, a remark, or the answer as it should have been. */

/** @import {Call, Message} from './types.js' */
/** @import {Ui} from './ui.js' */
import { h, put } from './dom.js';
import { icon } from './icons.js';
import { callsOf } from './state.js';
import { REASONS } from './strings.js';
import { visible, wordsOf } from './text.js';
import { iconButton, isKey, isSubmit, press, textBox, textButton } from './ui.js';

/** @typedef {{el: HTMLElement, send: () => string|null, begin: () => void}} Editor `send` says what is wrong */

export class Feedback {
  /**
   * @param {Ui} ui
   * @param {() => Message} message the answer as it is now
   * @param {() => void} leave the focus goes back to the answer
   */
  constructor(ui, message, leave) {
    this.ui = ui;
    this.message = message;
    this.leave = leave;
    this.el = h('div', { class: 'jv-feedback' });
    this.up = iconButton('up', ui.say('good'), () => this.thumb(true), { class: 'jv-thumb', pressed: false });
    this.down = iconButton('down', ui.say('bad'), () => this.thumb(false), { class: 'jv-thumb', pressed: false });
    this.fix = iconButton('fix', ui.say('correct'), () => this.openEditor(), { class: 'jv-fix' });
    /** @type {'none'|'why'|'editor'} */
    this.showing = 'none';
    this.sent = false;
    /** @type {HTMLButtonElement[]} */
    this.chips = [];
    /** @type {() => void} */
    this.save = () => {};
    /** @type {Set<string>} */
    this.said = new Set();
  }

  get buttons() {
    return [this.up, this.down, this.fix];
  }

  /** Called when the record has changed. */
  update() {
    const verdict = this.message().verdict;
    press(this.up, verdict?.up === true);
    press(this.down, verdict?.up === false);
    for (const reason of verdict?.reasons ?? []) this.said.add(reason);
    if (this.showing === 'why') this.markReasons();
    if (this.showing === 'editor' && this.sent && verdict?.corrected) this.close();
  }

  /** @param {boolean} up */
  thumb(up) {
    const { id, verdict } = this.message();
    const off = verdict?.up === up;
    this.ui.wire.send('rate', { id, up: off ? null : up });
    press(this.up, !off && up);
    press(this.down, !off && !up);
    if (off) this.close();
    else {
      this.ui.announce(this.ui.say('saved'));
      this.openWhy(up);
    }
  }

  close() {
    const inside = this.el.contains(document.activeElement);
    this.showing = 'none';
    this.sent = false;
    this.ui.steady(() => put(this.el));
    if (inside) this.leave();
  }

  /** @param {boolean} up */
  openWhy(up) {
    const { say } = this.ui;
    this.showing = 'why';
    this.chips = (up ? REASONS.good : REASONS.bad).map((reason) => h('button', {
      class: 'jv-reason', attr: { type: 'button', 'aria-pressed': 'false' }, prop: { value: reason },
      on: { click: () => this.reason(reason) },
    }, say(reason)));
    const comment = h('input', {
      class: 'jv-input', attr: { type: 'text', 'aria-label': say('comment'), placeholder: say('commentHint'), maxlength: '2000' },
    });
    const save = () => {
      const text = comment.value.trim();
      if (!text) return;
      this.ui.wire.send('rate', { id: this.message().id, comment: text });
      this.ui.announce(say('saved'));
      this.close();
    };
    comment.addEventListener('keydown', (event) => {
      if (!isKey(event, 'Enter')) return;
      event.preventDefault();
      save();
    });
    const panel = h('div', {
      class: 'jv-panel jv-why', attr: { role: 'group', 'aria-label': say(up ? 'whyGood' : 'why') },
      on: { keydown: (/** @type {KeyboardEvent} */ event) => this.escape(event) },
    },
    h('div', { class: 'jv-panelhead' }, h('strong', null, say(up ? 'whyGood' : 'why')), this.stars(),
      iconButton('cross', say('close'), () => this.close())),
    h('div', { class: 'jv-reasons' }, ...this.chips),
    h('div', { class: 'jv-row' }, comment, textButton(say('save'), save),
      up ? null : iconButton('fix', say('correct'), () => this.openEditor(), { text: true, class: 'jv-primary' })));
    this.ui.steady(() => put(this.el, panel));
    this.markReasons();
    this.chips[0]?.focus();
  }

  stars() {
    const { say } = this.ui;
    const now = this.message().verdict?.stars ?? 0;
    const buttons = [1, 2, 3, 4, 5].map((n) => h('button', {
      class: `jv-star${n <= now ? ' jv-on' : ''}`, attr: { type: 'button', 'aria-label': say('star', { n }), 'aria-pressed': String(n === now) },
      on: {
        click: () => {
          this.ui.wire.send('rate', { id: this.message().id, stars: n });
          for (const [at, button] of buttons.entries()) {
            button.classList.toggle('jv-on', at < n);
            press(button, at + 1 === n);
          }
          this.ui.announce(say('saved'));
        },
      },
    }, icon('star')));
    return h('span', { class: 'jv-stars', attr: { role: 'group', 'aria-label': say('stars') } }, ...buttons);
  }

  markReasons() {
    for (const chip of this.chips) press(chip, this.said.has(chip.value));
  }

  /** @param {string} reason */
  reason(reason) {
    if (this.said.has(reason)) return;
    this.said.add(reason);
    this.ui.wire.send('rate', { id: this.message().id, reason });
    this.markReasons();
    this.ui.announce(this.ui.say('saved'));
  }

  /** @param {KeyboardEvent} event */
  escape(event) {
    if (!isKey(event, 'Escape')) return;
    event.preventDefault();
    event.stopPropagation();
    this.close();
  }

  openEditor() {
    if (this.showing === 'editor') {
      this.close();
      return;
    }
    const { say } = this.ui;
    const message = this.message();
    const call = callsOf(message)[0];
    this.showing = 'editor';
    const words = this.wordsEditor(message);
    const tool = call ? this.toolEditor(call) : null;
    let active = tool && !wordsOf(message) ? tool : words;
    const complaint = h('p', { class: 'jv-complaint', attr: { role: 'alert' } });
    const slot = h('div', { class: 'jv-slot' }, active.el);
    this.save = () => {
      const wrong = active.send();
      complaint.textContent = wrong ?? '';
      if (wrong) return;
      this.sent = true;
      this.ui.announce(say('saved'));
      setTimeout(() => this.showing === 'editor' && this.sent && this.close(), 600);
    };
    const tabs = this.tabs(tool ? [words, tool] : [], active, (one) => {
      active = one;
      put(slot, one.el);
      one.begin();
    });
    const panel = h('div', {
      class: 'jv-panel jv-editor', attr: { role: 'group', 'aria-label': say('correction') },
      on: { keydown: (/** @type {KeyboardEvent} */ event) => this.escape(event) },
    },
    h('div', { class: 'jv-panelhead' }, h('strong', null, say('correction')), tabs, iconButton('cross', say('close'), () => this.close())),
    slot, complaint,
    h('div', { class: 'jv-row' }, textButton(say('correctionSave'), () => this.save(), 'jv-primary jv-savefix'),
      textButton(say('cancel'), () => this.close()), h('small', { class: 'jv-muted' }, 'Ctrl+Enter')));
    this.ui.steady(() => put(this.el, panel));
    active.begin();
  }

  /**
   * @param {Editor[]} editors words, a call of a tool; none where there is nothing to choose
   * @param {Editor} first
   * @param {(one: Editor) => void} turn
   */
  tabs(editors, first, turn) {
    const tabs = editors.map((one, n) => h('button', {
      class: 'jv-tab', attr: { type: 'button', 'aria-pressed': String(one === first) },
      on: {
        click: () => {
          tabs.forEach((tab, at) => press(tab, at === n));
          turn(one);
        },
      },
    }, this.ui.say(n ? 'correctionTool' : 'correctionText')));
    return h('span', { class: 'jv-tabs' }, ...tabs);
  }

  /** @param {KeyboardEvent} event */
  submitKey(event) {
    if (!isSubmit(event)) return false;
    this.save();
    return true;
  }

  /** @param {Message} message @returns {Editor} */
  wordsEditor(message) {
    const { say } = this.ui;
    const before = message.verdict?.corrected ?? wordsOf(message);
    const { box, fit } = textBox({
      label: say('correction'), value: before, class: 'jv-answerbox', limit: 420, key: (event) => this.submitKey(event),
    });
    return {
      el: box,
      begin: () => {
        fit();
        box.focus();
        box.setSelectionRange(box.value.length, box.value.length);
      },
      send: () => {
        if (box.value.trim() === before.trim()) return say('correctionSame');
        this.ui.wire.send('correct', { id: message.id, text: box.value });
        return null;
      },
    };
  }

  /** @param {Call} call @returns {Editor} */
  toolEditor(call) {
    const { say } = this.ui;
    const name = h('input', { class: 'jv-input jv-mono', attr: { type: 'text', 'aria-label': say('tool') }, prop: { value: call.name } });
    const given = typeof call.arguments === 'string' ? call.arguments : JSON.stringify(call.arguments, null, 2);
    const { box, fit } = textBox({ label: say('argumentsJson'), value: given, class: 'jv-mono', limit: 320, key: (event) => this.submitKey(event) });
    return {
      el: h('div', { class: 'jv-form' },
        h('label', { class: 'jv-field' }, h('span', null, say('tool')), name),
        h('label', { class: 'jv-field' }, h('span', null, say('argumentsJson')), box)),
      begin: () => {
        fit();
        name.focus();
      },
      send: () => {
        let values;
        try {
          values = JSON.parse(box.value || '{}');
          if (values === null || typeof values !== 'object' || Array.isArray(values)) throw new Error(typeof values);
        } catch (error) {
          return say('badJson', { why: visible(/** @type {Error} */ (error).message, true) });
        }
        this.ui.wire.send('correct', { id: this.message().id, tool: name.value.trim(), arguments: values });
        return null;
      },
    };
  }
}
