/** Two answers to one request, side by side and without names until one is picked. */

/** @import {Choice, Message, Side} from './types.js' */
/** @import {Ui} from './ui.js' */
import { Answer } from './bubble.js';
import { h, put, setAttr } from './dom.js';
import { textButton } from './ui.js';

const CHOICES = /** @type {Choice[]} */ (['left', 'right', 'tie', 'neither']);

export class Pair {
  /**
   * @param {Ui} ui
   * @param {string} id
   */
  constructor(ui, id) {
    this.ui = ui;
    this.pair = id;
    this.sum = '';
    const { say } = ui;
    /** @type {Partial<Record<Side, Answer>>} */
    this.answers = {};
    this.columns = { left: h('div', { class: 'jv-column' }), right: h('div', { class: 'jv-column' }) };
    for (const side of /** @type {Side[]} */ (['left', 'right'])) {
      this.columns[side].append(h('h4', null, say(side === 'left' ? 'answerA' : 'answerB')));
    }
    this.choice = h('div', { class: 'jv-choice' });
    this.el = h('section', { class: 'jv-pair', attr: { 'aria-label': say('pairTitle') } },
      h('div', { class: 'jv-columns' }, this.columns.left, this.columns.right), this.choice);
  }

  /**
   * @param {Message[]} messages one or both
   * @param {number} [now]
   */
  update(messages, now) {
    let whole = true;
    for (const message of messages) {
      const side = message.pair?.side ?? 'left';
      let answer = this.answers[side];
      if (!answer) {
        answer = this.answers[side] = new Answer(this.ui, message);
        answer.paired = true;
        this.columns[side].append(answer.el);
      }
      whole = answer.update(message, now) && whole;
    }
    const picked = messages.find((message) => message.pair?.picked)?.pair?.picked ?? null;
    const ready = messages.length === 2 && messages.every((message) => message.status !== 'streaming');
    for (const side of /** @type {Side[]} */ (['left', 'right'])) this.columns[side].classList.toggle('jv-picked', picked === side);
    const sum = `${picked} ${ready}`;
    if (sum !== this.sum) {
      this.sum = sum;
      this.drawChoice(picked, ready);
    }
    return whole;
  }

  /**
   * @param {Choice|null} picked
   * @param {boolean} ready
   */
  drawChoice(picked, ready) {
    const { say, wire } = this.ui;
    if (picked) {
      put(this.choice, h('span', { class: 'jv-muted' }, say(`picked.${picked}`)));
      return;
    }
    const held = this.choice.contains(document.activeElement);
    const buttons = CHOICES.map((side) => {
      const button = textButton(say(`pick.${side}`), () => {
        for (const one of buttons) setAttr(one, 'disabled', true);
        wire.send('pick', { pair: this.pair, side });
        this.ui.announce(say(`picked.${side}`));
        setTimeout(() => { for (const one of buttons) setAttr(one, 'disabled', false); }, 4000);
        this.ui.focusComposer();
      }, side === 'left' || side === 'right' ? 'jv-pick' : 'jv-pick jv-quiet');
      setAttr(button, 'disabled', !ready);
      return button;
    });
    put(this.choice, h('strong', null, say('pairTitle')), h('span', { class: 'jv-row' }, ...buttons),
      h('small', { class: 'jv-muted' }, say('pairBlind')));
    if (held && ready) buttons[0].focus();
  }
}
