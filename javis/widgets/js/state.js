/**
 * What the page knows, as a pure function of what it heard: no DOM, no clock, no sending.
 * What is to be done about a message comes back as effects.
 */

/** @import {Call, Effect, Message, Part, Run, State, TextPart, WireMessage} from './types.js' */
import { fnv } from './wire.js';

/** @returns {State} */
export const empty = () => ({
  rev: 0, thread: null, title: '', messages: [], head: null, runs: {}, ended: [], pending: [],
  more: false, loaded: false, stale: false,
});

/** @typedef {[State, Effect[]]} Step */

/**
 * @param {State} state
 * @param {string} why
 * @returns {Step}
 */
const lost = (state, why) => [state.stale ? state : { ...state, stale: true }, [{ do: 'hello', why }]];

/**
 * @param {State} state
 * @param {WireMessage} m
 * @returns {Step}
 */
export function reduce(state, m) {
  const handler = handlers[m.op];
  if (!handler) return [state, []];
  const [next, effects] = handler(state, m);
  const rev = typeof m.rev === 'number' && m.rev > next.rev ? m.rev : next.rev;
  return [rev === next.rev ? next : { ...next, rev }, effects];
}

/** @type {Record<string, (state: State, m: any) => Step>} */
const handlers = {
  snap: (state, m) => {
    const same = m.thread === state.thread;
    const older = same && m.more ? before(state.messages, m.messages[0]?.id) : [];
    const messages = [...older, ...m.messages.map(whole)];
    /** @type {Record<string, Run>} */
    const runs = Object.fromEntries((m.runs ?? []).map((/** @type {any} */ one) => [one.run, { id: one.id, next: one.seq }]));
    return [{
      ...state, rev: m.rev ?? state.rev, thread: m.thread ?? null, title: m.title ?? '', messages, runs,
      head: m.head ?? messages.at(-1)?.id ?? null, more: older.length ? state.more : !!m.more,
      loaded: true, stale: false, pending: saved(state.pending, messages),
      ended: state.ended.filter((run) => !(run in runs)),
    }, []];
  },

  msg: (state, m) => {
    const messages = upsert(state.messages, whole(m.message));
    if (messages === state.messages) return [state, []];
    return [{ ...state, messages, head: messages.at(-1)?.id ?? null, pending: saved(state.pending, messages) }, []];
  },

  branch: (state, m) => {
    const at = m.keep === null || m.keep === undefined ? -1 : indexOf(state.messages, m.keep);
    if (at < 0 && m.keep) return lost(state, 'branch');
    const messages = [...state.messages.slice(0, at + 1), ...m.messages.map(whole)];
    return [{
      ...state, messages, head: messages.at(-1)?.id ?? null, more: at < 0 ? !!m.more : state.more,
      pending: saved(state.pending, messages),
    }, []];
  },

  run: (state, m) => {
    const runs = { ...state.runs, [m.run]: { id: m.id, next: 0 } };
    const known = indexOf(state.messages, m.id);
    if (known >= 0) {
      const messages = replace(state.messages, known, { ...state.messages[known], status: /** @type {const} */ ('streaming') });
      return [{ ...state, runs, messages }, [{ do: 'began', id: m.id }]];
    }
    const parent = m.parent === null || m.parent === undefined ? -1 : indexOf(state.messages, m.parent);
    if (parent < 0 && m.parent) return lost({ ...state, runs }, 'run');
    const beside = state.messages.slice(parent + 1).filter((one) => m.pair && one.pair?.id === m.pair.id);
    const answer = whole({ id: m.id, parent: m.parent ?? null, role: 'assistant', status: 'streaming', pair: m.pair ?? null });
    const tail = [...beside, answer].sort(leftFirst);
    const messages = [...state.messages.slice(0, parent + 1), ...tail];
    return [{ ...state, runs, messages, head: m.id }, [{ do: 'began', id: m.id }]];
  },

  d: (state, m) => {
    if (state.stale || state.ended.includes(m.run)) return [state, []];
    const run = state.runs[m.run];
    const at = run ? indexOf(state.messages, run.id) : -1;
    if (at < 0) return lost(state, 'unknown run');
    if (m.seq < run.next) return [state, []];
    if (m.seq > run.next) return lost(state, 'gap');
    const message = state.messages[at];
    const parts = append(message.parts, m.part ?? lastText(message.parts), String(m.s));
    return [{
      ...state, messages: replace(state.messages, at, { ...message, status: /** @type {const} */ ('streaming'), parts }),
      runs: { ...state.runs, [m.run]: { ...run, next: m.seq + 1 } },
    }, []];
  },

  tool: (state, m) => {
    const at = indexOf(state.messages, m.id);
    if (at < 0) return state.ended.includes(m.run) ? [state, []] : lost(state, 'unknown message');
    const message = state.messages[at];
    const was = callsOf(message).find((call) => call.id === m.call.id);
    /** @type {Call} */
    const call = { ...m.call, output: m.call.output || was?.output || '' };
    const parts = was
      ? message.parts.map((part) => (part.t === 'tool' && part.call.id === call.id ? { ...part, call } : part))
      : [...message.parts, /** @type {Part} */ ({ t: 'tool', call })];
    const asks = call.status === 'waiting' && was?.status !== 'waiting';
    return [
      { ...state, messages: replace(state.messages, at, { ...message, parts }) },
      asks ? [{ do: 'waiting', id: m.id, call }] : [],
    ];
  },

  out: (state, m) => {
    for (let at = state.messages.length - 1; at >= 0; at--) {
      const message = state.messages[at];
      if (!callsOf(message).some((call) => call.id === m.call)) continue;
      const parts = message.parts.map((part) => (part.t === 'tool' && part.call.id === m.call
        ? { ...part, call: { ...part.call, output: ((part.call.output ?? '') + m.s).slice(-OUTPUT) } } : part));
      return [{ ...state, messages: replace(state.messages, at, { ...message, parts }) }, []];
    }
    return [state, []];
  },

  note: (state, m) => {
    const id = m.run ? state.runs[m.run]?.id : null;
    const at = id ? indexOf(state.messages, id) : -1;
    if (at < 0) return [state, [{ do: 'note', text: String(m.s) }]];
    const message = state.messages[at];
    const notes = [...(message.notes ?? []), String(m.s)];
    return [{ ...state, messages: replace(state.messages, at, { ...message, notes }) }, []];
  },

  done: (state, m) => {
    const { [m.run]: _, ...runs } = state.runs;
    const ended = [...state.ended.filter((run) => run !== m.run), m.run].slice(-50);
    const at = indexOf(state.messages, m.id);
    const next = { ...state, runs, ended };
    /** @type {Effect} */
    const said = { do: 'ended', id: m.id, status: m.status };
    if (at < 0) {
      const [away, effects] = lost(next, 'done');
      return [away, [...effects, said]];
    }
    const was = state.messages[at];
    /** @type {Message} */
    const message = m.message ? whole(m.message) : { ...was, ...(m.rest ?? {}), parts: was.parts, status: m.status };
    const messages = replace(state.messages, at, message);
    const good = m.message || (m.rest && (m.parts ?? []).every((/** @type {any} */ part) => matches(message.parts, part)));
    if (good) return [{ ...next, messages }, [said]];
    const [away, effects] = lost({ ...next, messages }, 'done');
    return [away, [...effects, said]];
  },

  ack: (state) => [state, []],

  err: (state, m) => {
    const mine = state.pending.find((one) => one.client === m.client);
    const pending = mine ? state.pending.filter((one) => one !== mine) : state.pending;
    return [{ ...state, pending }, [{
      do: 'error', op: String(m.of ?? ''), client: m.client ?? null, text: String(m.message ?? ''), draft: mine?.text ?? null,
    }]];
  },

  page: (state, m) => {
    const at = indexOf(state.messages, m.before);
    if (at !== 0) return [state, []];
    return [{ ...state, messages: [...m.messages.map(whole), ...state.messages], more: !!m.more }, []];
  },

  title: (state, m) => [{ ...state, thread: m.thread, title: m.title }, []],

  // What the page tells itself.
  '@send': (state, m) => [{
    ...state,
    pending: [...state.pending, { client: m.client, text: m.text, known: state.messages.map((one) => one.id) }],
  }, []],
  '@title': (state, m) => [{ ...state, title: m.title }, []],
  '@unsend': (state, m) => [{ ...state, pending: state.pending.filter((one) => one.client !== m.client) }, []],
};

/** How much of a tool's live output the page keeps. */
const OUTPUT = 100_000;

/**
 * @param {Message[]} messages
 * @param {string} id
 */
const indexOf = (messages, id) => messages.findLastIndex((one) => one.id === id);

/** @param {Message} message */
export const callsOf = (message) => message.parts.flatMap((part) => (part.t === 'tool' ? [part.call] : []));

/** @param {any} message a record of the wire, in which a field may be missing @returns {Message} */
const whole = (message) => ({
  siblings: [message.id], mentions: [], sources: [], footer: null, verdict: null, error: null, notes: [], pair: null, parts: [],
  .../** @type {any} */ (message),
});

/**
 * @param {Message} a
 * @param {Message} b
 */
const leftFirst = (a, b) => Number(a.pair?.side === 'right') - Number(b.pair?.side === 'right');

/**
 * @param {Message[]} messages
 * @param {string|undefined} id
 */
const before = (messages, id) => messages.slice(0, Math.max(0, messages.findIndex((one) => one.id === id)));

/**
 * @template T
 * @param {T[]} list
 * @param {number} at
 * @param {T} item
 */
const replace = (list, at, item) => list.map((one, n) => (n === at ? item : one));

/**
 * A message that is new or has changed, in its place; the same list where it is not shown.
 * @param {Message[]} messages
 * @param {Message} message
 */
function upsert(messages, message) {
  const at = indexOf(messages, message.id);
  if (at >= 0) return replace(messages, at, message);
  const other = message.pair ? messages.findLastIndex((one) => one.pair?.id === message.pair?.id) : -1;
  if (other >= 0) {
    const where = message.pair?.side === 'left' ? other : other + 1;
    return [...messages.slice(0, where), message, ...messages.slice(where)];
  }
  const last = messages.at(-1);
  const partner = last?.pair ? messages.filter((one) => one.pair?.id === last.pair?.id).map((one) => one.id) : [];
  const fits = last ? message.parent === last.id || partner.includes(message.parent ?? '') : true;
  return fits ? [...messages, message] : messages;
}

/** The text that a piece without a name goes on with. @param {Part[]} parts */
const lastText = (parts) => /** @type {TextPart|undefined} */ (parts.findLast((part) => part.t === 'text'))?.id ?? '';

/**
 * @param {Part[]} parts
 * @param {string|number} id
 * @param {string} s
 * @returns {Part[]}
 */
function append(parts, id, s) {
  const at = parts.findIndex((part) => part.t === 'text' && String(part.id) === String(id));
  if (at < 0) return [...parts, { t: 'text', id, s }];
  const part = /** @type {TextPart} */ (parts[at]);
  return replace(parts, at, { ...part, s: part.s + s });
}

/**
 * @param {Part[]} parts
 * @param {{id: string|number, len: number, hash: string}} sum
 */
function matches(parts, sum) {
  const part = parts.find((one) => one.t === 'text' && String(one.id) === String(sum.id));
  const text = part?.t === 'text' ? part.s : '';
  return text.length === sum.len && fnv(text) === sum.hash;
}

/**
 * The requests that have not come back as messages yet.
 * @param {State['pending']} pending
 * @param {Message[]} messages
 */
function saved(pending, messages) {
  if (!pending.length) return pending;
  return pending.filter((one) => !messages.some((message) => message.role === 'user'
    && !one.known.includes(message.id) && textOf(message).trim() === one.text.trim()));
}

/** @param {Message} message */
export const textOf = (message) => message.parts.map((part) => (part.t === 'text' ? part.s : '')).join('');

/** @param {State} state */
export const running = (state) => Object.keys(state.runs).length > 0;

/** Whether a person has to say yes or no before it goes on. @param {State} state */
export const waiting = (state) => Object.values(state.runs).some((run) => {
  const message = state.messages[indexOf(state.messages, run.id)];
  return !!message && callsOf(message).some((call) => call.status === 'waiting');
});
