/** What every part of the page may ask of the whole, and small things that all of them draw. */

/** @import {Lazy} from './assets.js' */
/** @import {Locale, Message, Say, State} from './types.js' */
/** @import {Popover} from './popover.js' */
/** @import {Wire} from './wire.js' */
import { h, setAttr } from './dom.js';
import { icon } from './icons.js';
import { visible } from './text.js';

/**
 * @typedef {object} Ui
 * @property {Wire} wire
 * @property {Say} say
 * @property {() => Locale} locale
 * @property {() => State} state
 * @property {Lazy<any>} math
 * @property {Lazy<any>} highlight
 * @property {Popover} popover
 * @property {HTMLElement} root
 * @property {(run: () => void) => void} idle
 * @property {(text: string) => void} announce for screen readers
 * @property {(text: string, bad?: boolean) => void} toast
 * @property {(message: Message, code: string, block: number, lang: string) => HTMLElement[]} codeButtons
 * @property {() => boolean} busy whether an answer is being written
 * @property {() => void} focusComposer
 * @property {(message: Message, text: string) => void} resend the request in other words
 * @property {(id: string) => void} regen
 * @property {() => void} stop
 * @property {(change: () => void) => void} steady what is read stays where it is while something changes
 */

/**
 * A button with a picture and a name.
 * @param {string} name of the picture
 * @param {string} label
 * @param {(event: any) => void} click
 * @param {{class?: string, text?: boolean, pressed?: boolean, attr?: Record<string, any>}} [how] text: the name is shown too
 */
export function iconButton(name, label, click, how = {}) {
  return h('button', {
    class: `jv-button ${how.text ? '' : 'jv-square '}${how.class ?? ''}`.trim(),
    attr: {
      type: 'button', title: how.text ? null : label, 'aria-label': how.text ? null : label,
      'aria-pressed': how.pressed === undefined ? null : String(how.pressed), ...how.attr,
    },
    on: { click },
  }, icon(name), how.text ? h('span', null, label) : null);
}

/**
 * A button with words.
 * @param {string} label
 * @param {(event: any) => void} click
 * @param {string} [kind]
 */
export const textButton = (label, click, kind = '') =>
  h('button', { class: `jv-button ${kind}`.trim(), attr: { type: 'button' }, on: { click } }, label);

/**
 * A box for text that grows, and that never acts while a syllable is being composed: browsers say so in
 * `isComposing`, Safari only in the key code 229.
 * @param {{label: string, value?: string, placeholder?: string, class?: string, rows?: number, limit?: number,
 *   submit?: () => void, cancel?: () => void, key?: (event: KeyboardEvent) => boolean|void, input?: () => void}} how
 *   `key` sees a key first, and says whether that was all
 */
export function textBox(how) {
  const box = h('textarea', {
    class: `jv-text ${how.class ?? ''}`.trim(),
    attr: { rows: how.rows ?? 1, 'aria-label': how.label, placeholder: how.placeholder, spellcheck: 'true', dir: 'auto' },
    prop: { value: how.value ?? '' },
  });
  const state = { composing: false };
  const fit = () => {
    box.style.height = 'auto';
    box.style.height = `${Math.min(box.scrollHeight + 2, how.limit ?? 280)}px`;
    box.style.overflowY = box.scrollHeight + 2 > (how.limit ?? 280) ? 'auto' : 'hidden';
  };
  box.addEventListener('compositionstart', () => { state.composing = true; });
  box.addEventListener('compositionend', () => { state.composing = false; });
  box.addEventListener('input', () => {
    fit();
    how.input?.();
  });
  box.addEventListener('keydown', (event) => {
    if (isComposing(event) || state.composing) return;
    if (how.key?.(event)) {
      event.preventDefault();
      return;
    }
    if (event.key === 'Enter' && !event.shiftKey && !event.altKey && how.submit) {
      event.preventDefault();
      how.submit();
    } else if (event.key === 'Escape' && how.cancel) {
      event.preventDefault();
      event.stopPropagation();
      how.cancel();
    }
  });
  return { box, fit, composing: () => state.composing };
}

/** @param {KeyboardEvent} event */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/**
 * Whether a key is meant, and not a letter that is being composed.
 * @param {KeyboardEvent} event
 * @param {string} key
 */
export const isKey = (event, key) => event.key === key && !isComposing(event);

/** Enter with Ctrl or Cmd: what is written is meant to be done. @param {KeyboardEvent} event */
export const isSubmit = (event) => event.key === 'Enter' && (event.ctrlKey || event.metaKey);

/**
 * The kind of what goes with a request, in the language of the page.
 * @param {Say} say
 * @param {string} kind
 */
export const kindName = (say, kind) => (say(`kind.${kind}`) === `kind.${kind}` ? visible(kind, true) : say(`kind.${kind}`));

/**
 * @param {HTMLElement} button
 * @param {boolean} pressed
 */
export const press = (button, pressed) => setAttr(button, 'aria-pressed', String(pressed));

