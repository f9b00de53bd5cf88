/**
 * The line to the kernel: sends, asks and waits for answers, says hello, and notices silence.
 * Knows nothing of what is shown.
 */

/** @import {Model, WireMessage} from './types.js' */
import { token } from './dom.js';

/**
 * FNV-1a, 32 bits, over UTF-16 code units: each unit is mixed in whole.
 * @param {string} text
 * @returns {string} eight hexadecimal digits
 */
export function fnv(text) {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}

/** Milliseconds without a word, while an answer runs, after which the page says hello. */
export const SILENCE = 5000;

/** @typedef {{op: string, resolve: (m: any) => void, reject: (e: Error) => void, timer: any}} Waiting */

export class Wire {
  /**
   * @param {Model} model
   * @param {(message: WireMessage, buffers: DataView[]) => void} listen for all that answers no question
   */
  constructor(model, listen) {
    this.model = model;
    this.listen = listen;
    this.view = token();
    /** @type {Map<string, Waiting>} */
    this.waiting = new Map();
    this.number = 0;
    this.helloAt = 0;
    this.heardAt = Date.now();
    this.patience = SILENCE;
    this.receive = (/** @type {any} */ content, /** @type {any} */ buffers) => this.hear(content, buffers ?? []);
    model.on('msg:custom', this.receive);
  }

  /**
   * @param {string} op
   * @param {Record<string, any>} [fields]
   */
  send(op, fields = {}) {
    this.model.send({ v: 1, op, ...fields });
  }

  /**
   * A question with a number, which the answer carries too.
   * @param {string} op
   * @param {Record<string, any>} fields
   * @param {number} [limit] milliseconds
   * @returns {Promise<any>}
   */
  ask(op, fields, limit = 15000) {
    const q = ++this.number;
    return this.expect(`q${q}`, op, { q, ...fields }, limit);
  }

  /**
   * A file that is only needed now and then.
   * @param {string} name
   * @returns {Promise<{message: WireMessage, buffers: DataView[]}>}
   */
  asset(name) {
    return this.expect(`asset ${name}`, 'asset', { name }, 60000);
  }

  /**
   * @param {string} key
   * @param {string} op
   * @param {Record<string, any>} fields
   * @param {number} limit
   * @returns {Promise<any>}
   */
  expect(key, op, fields, limit) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(key);
        reject(new Error('no answer'));
      }, limit);
      this.waiting.set(key, { op, resolve, reject, timer });
      this.send(op, fields);
    });
  }

  /**
   * @param {string} key
   * @param {any} answer
   */
  settle(key, answer) {
    const one = this.waiting.get(key);
    if (!one) return false;
    clearTimeout(one.timer);
    this.waiting.delete(key);
    if (answer instanceof Error) one.reject(answer);
    else one.resolve(answer);
    return true;
  }

  /**
   * @param {WireMessage} message
   * @param {DataView[]} buffers
   */
  hear(message, buffers) {
    if (!message || typeof message.op !== 'string') return;
    if (message.view && message.view !== this.view) return;
    const failed = message.op === 'err' ? new Error(String(message.message ?? '')) : null;
    if (message.q !== undefined && this.settle(`q${message.q}`, failed ?? message)) return;
    if (message.op === 'asset' && this.settle(`asset ${message.name}`, { message, buffers })) return;
    if (failed && this.fail(String(message.of ?? ''), failed)) return;
    this.listen(message, buffers);
  }

  /**
   * An error that belongs to a question, though it does not say to which.
   * @param {string} op
   * @param {Error} error
   */
  fail(op, error) {
    const keys = [...this.waiting].filter(([, one]) => one.op === op);
    for (const [key] of keys) this.settle(key, error);
    return keys.length > 0;
  }

  /** @param {number} rev */
  hello(rev) {
    this.helloAt = Date.now();
    this.send('hello', { view: this.view, rev });
  }

  /** Something of the running answer came. */
  heard() {
    this.heardAt = Date.now();
    this.patience = SILENCE;
  }

  /**
   * Called now and then while an answer runs.
   * @returns {boolean} whether it has been too quiet; the next time it may be quiet for twice as long
   */
  quiet() {
    if (Date.now() - this.heardAt < this.patience) return false;
    this.heardAt = Date.now();
    this.patience = Math.min(this.patience * 2, 60000);
    return true;
  }

  close() {
    this.model.off('msg:custom', this.receive);
    for (const key of [...this.waiting.keys()]) this.settle(key, new Error('closed'));
  }
}
