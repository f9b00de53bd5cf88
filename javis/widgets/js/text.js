/** Plain text for people: hidden characters made visible, numbers and times in few letters. */

/** @import {Call, Message, TextPart} from './types.js' */

const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
const TURNING = /[\u202a-\u202e\u2066-\u2069]|\udb40[\udc00-\udc7f]/g;
const UNSEEN = /[\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028\u2029\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]/g;

/** @param {string} s */
const code = (s) => `⟨U+${(s.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}⟩`;

/** @param {string} s */
const picture = (s) => {
  const at = s.charCodeAt(0);
  return at < 0x20 ? String.fromCharCode(0x2400 + at) : at === 0x7f ? '\u2421' : code(s);
};

/**
 * Text in which nothing acts unseen: terminal escapes and marks that turn the direction of writing
 * are shown as what they are.
 * @param {string} text
 * @param {boolean} [exact] also show characters that have no width (for code, arguments, addresses)
 */
export function visible(text, exact = false) {
  const shown = text.replace(/\r\n?/g, '\n').replace(CONTROL, picture).replace(TURNING, code);
  return exact ? shown.replace(UNSEEN, code) : shown;
}

/** @param {number} n */
export const whole = (n) => Math.round(n).toLocaleString('en-US');

/** @param {number} s seconds */
export function seconds(s) {
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  return s < 100 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`;
}

/** @param {number} usd */
export function money(usd) {
  if (usd === 0) return '$0';
  return usd < 0.01 ? `$${usd.toPrecision(2)}` : `$${usd.toFixed(2)}`;
}

/**
 * How long ago, in words of the language of the page.
 * @param {string|number|null|undefined} when seconds since 1970, or a time in ISO form
 * @param {string} locale
 */
export function ago(when, locale) {
  if (when === null || when === undefined || when === '') return '';
  const at = typeof when === 'number' ? when * (when < 1e11 ? 1000 : 1) : Date.parse(when);
  if (Number.isNaN(at)) return visible(String(when), true);
  const minutes = (at - Date.now()) / 60000;
  const words = new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style: 'short' });
  if (Math.abs(minutes) < 1) return words.format(0, 'second');
  if (Math.abs(minutes) < 60) return words.format(Math.round(minutes), 'minute');
  if (Math.abs(minutes) < 60 * 24) return words.format(Math.round(minutes / 60), 'hour');
  if (Math.abs(minutes) < 60 * 24 * 14) return words.format(Math.round(minutes / 1440), 'day');
  return new Date(at).toLocaleDateString(locale, { year: 'numeric', month: 'short', day: 'numeric' });
}

/**
 * The words of a message, without its calls.
 * @param {Message} message
 */
export const wordsOf = (message) =>
  message.parts
    .filter((part) => part.t === 'text')
    .map((part) => /** @type {TextPart} */ (part).s)
    .join('\n\n')
    .trim();

/**
 * A call in one line.
 * @param {Call} call
 */
export function callLine(call) {
  if (typeof call.arguments === 'string') return visible(call.arguments.slice(0, 160), true);
  const shown = Object.entries(call.arguments ?? {}).map(([name, value]) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value) ?? '';
    const line = text.replace(/\s+/g, ' ');
    return `${name}: ${line.length > 60 ? line.slice(0, 60) + '…' : line}`;
  });
  return visible(shown.join('  ·  '), true);
}
