/** Several calls that wait at once: all of them, none, or those that are picked; and how many questions there were. */

/** @import {Call} from './types.js' */
/** @import {ToolCard} from './toolcard.js' */
/** @import {Ui} from './ui.js' */
import { h, put, show } from './dom.js';
import { icon } from './icons.js';
import { callLine, visible } from './text.js';
import { textButton } from './ui.js';

/** @param {ToolCard} card */
const waits = (card) => card.call?.status === 'waiting' && !card.decided;

export class Batch {
  /** @param {Ui} ui */
  constructor(ui) {
    this.ui = ui;
    /** @type {ToolCard[]} those that wait, the most dangerous first */
    this.cards = [];
    /** @type {Set<string>} */
    this.picked = new Set();
    this.sum = '';
    this.el = h('section', { class: 'jv-batch', attr: { role: 'group', hidden: true } });
  }

  /** @param {ToolCard[]} cards of the message */
  update(cards) {
    this.cards = inOrder(cards.filter(waits));
    const asked = Math.max(0, ...this.cards.map((card) => card.call?.asked ?? 0));
    const ids = this.cards.map((card) => card.call?.id ?? '');
    const sum = `${ids} ${asked}`;
    if (sum === this.sum) return;
    this.sum = sum;
    this.picked = new Set([...this.picked].filter((id) => ids.includes(id)));
    show(this.el, ids.length > 1 || asked > 0);
    this.draw(asked);
  }

  /** @param {number} asked */
  draw(asked) {
    const { say } = this.ui;
    const n = this.cards.length;
    this.el.setAttribute('aria-label', n > 1 ? say('batch', { n }) : say('asked', { n: asked }));
    this.yes = textButton('', () => this.decide((id) => !this.picked.size || this.picked.has(id)), 'jv-primary jv-batchyes');
    this.name();
    put(this.el,
      n > 1 ? h('p', { class: 'jv-batchhead' }, icon('warn'), say('batch', { n })) : null,
      n > 1 ? h('ol', null, ...this.cards.map((card) => this.item(/** @type {Call} */ (card.call)))) : null,
      asked ? h('p', { class: 'jv-asked' }, say('asked', { n: asked })) : null,
      h('div', { class: 'jv-askrow' },
        ...(n > 1 ? [this.yes, textButton(say('denyAll'), () => this.decide(() => false), 'jv-batchno')] : []),
        asked ? textButton(say('stopTurn'), () => this.ui.stop(), 'jv-stopturn') : null,
        n > 1 ? h('span', { class: 'jv-muted' }, say('oneByOne')) : null));
  }

  /** @param {Call} call */
  item(call) {
    const box = h('input', {
      attr: { type: 'checkbox' }, prop: { checked: this.picked.has(call.id) },
      on: { change: () => {
        if (box.checked) this.picked.add(call.id);
        else this.picked.delete(call.id);
        this.name();
      } },
    });
    return h('li', { class: `jv-does-${call.risk}` }, h('label', null, box, h('span', { class: 'jv-callname' }, visible(call.name, true)),
      h('span', { class: 'jv-callline' }, callLine(call)), h('span', { class: 'jv-tag jv-risk' }, this.ui.say(`risk.${call.risk}`))));
  }

  /** What the first button would do. */
  name() {
    const { say } = this.ui;
    if (this.yes) put(this.yes, this.picked.size ? say('approvePicked', { n: this.picked.size }) : say('approveAll', { n: this.cards.length }));
  }

  /** @param {(id: string) => boolean} yes */
  decide(yes) {
    // All is decided before the first is told: telling one changes what waits, and what is picked.
    const said = this.cards.map((card) => /** @type {const} */ ([card, yes(card.call?.id ?? '')]));
    for (const [card, one] of said) card.decide(one);
  }
}

/**
 * Calls that wait at once, in the order in which they were asked about.
 * @template {{call: Call|null}} T
 * @param {T[]} cards
 * @returns {T[]}
 */
export function inOrder(cards) {
  const order = cards.find((card) => card.call?.batch?.length)?.call?.batch ?? [];
  const at = (/** @type {T} */ card) => (order.includes(card.call?.id ?? '') ? order.indexOf(card.call?.id ?? '') : order.length);
  return [...cards].sort((one, other) => at(one) - at(other));
}
