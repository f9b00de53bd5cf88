/** The parts of the page that need no page: run with `node --test tests/page/unit.test.mjs`. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inOrder } from '../../javis/widgets/js/batch.js';
import { mentionsIn, trigger } from '../../javis/widgets/js/composer.js';
import { empty, reduce, running, waiting } from '../../javis/widgets/js/state.js';
import { HELP, keys, localeOf, sayer } from '../../javis/widgets/js/strings.js';
import { ago, visible } from '../../javis/widgets/js/text.js';
import { Wire, fnv } from '../../javis/widgets/js/wire.js';

const user = (id, text, parent = null, more = {}) => ({ id, parent, role: 'user', status: 'complete', parts: [{ t: 'text', id: 0, s: text }], siblings: [id], ...more });
const answer = (id, text, parent, more = {}) => ({ id, parent, role: 'assistant', status: 'complete', parts: [{ t: 'text', id: 0, s: text }], siblings: [id], ...more });
const feed = (...messages) => {
  let state = empty();
  const effects = [];
  for (const message of messages) {
    const [next, more] = reduce(state, message);
    state = next;
    effects.push(...more);
  }
  return { state, effects, ids: state.messages.map((one) => one.id), hellos: effects.filter((one) => one.do === 'hello').map((one) => one.why) };
};
const snap = (messages, more = {}) => ({ op: 'snap', rev: 1, thread: 't', title: '', messages, head: null, runs: [], more: false, ...more });
const begun = [snap([user('u1', 'hi')]), { op: 'run', run: 'r', id: 'a1', parent: 'u1' }];
const d = (seq, s, more = {}) => ({ op: 'd', run: 'r', seq, s, ...(seq ? {} : { part: 0 }), ...more });

test('calls that wait at once are in the order in which they were asked about', () => {
  const card = (id, batch) => ({ call: { id, batch } });
  const ids = (cards) => inOrder(cards).map((one) => one.call.id).join(' ');
  assert.equal(ids([card('a', []), card('b', ['c', 'a', 'b']), card('c', [])]), 'c a b');
  assert.equal(ids([card('a', ['b', 'a']), card('new', []), card('b', ['b', 'a'])]), 'b a new');
  assert.equal(ids([card('a'), card('b')]), 'a b');
  assert.equal(ids([]), '');
});

test('FNV-1a over UTF-16 units', () => {
  assert.equal(fnv(''), '811c9dc5');
  assert.equal(fnv('a'), 'e40c292c');
  assert.equal(fnv('foobar'), 'bf9cf968');
  assert.equal(fnv('한').length, 8);
  assert.notEqual(fnv('😀'), fnv('😁'));
});

test('deltas add up, and the end is checked by length and hash', () => {
  const text = 'Hello 안녕 😀';
  const { state, hellos } = feed(...begun, d(0, 'Hello '), d(1, '안녕 😀'),
    { op: 'done', run: 'r', id: 'a1', status: 'complete', seq: 2, parts: [{ id: 0, len: text.length, hash: fnv(text) }], message: null, rest: { footer: { model: 'm' } } });
  assert.equal(state.messages[1].parts[0].s, text);
  assert.equal(state.messages[1].status, 'complete');
  assert.equal(state.messages[1].footer.model, 'm');
  assert.deepEqual(hellos, []);
  assert.equal(running(state), false);
});

test('a gap, a wrong hash, and an unknown message say hello, once', () => {
  assert.deepEqual(feed(...begun, d(0, 'a'), d(2, 'c'), d(3, 'd')).hellos, ['gap']);
  const done = { op: 'done', run: 'r', id: 'a1', status: 'complete', seq: 1, message: null, rest: {} };
  assert.deepEqual(feed(...begun, d(0, 'a'), { ...done, parts: [{ id: 0, len: 1, hash: '00000000' }] }).hellos, ['done']);
  assert.deepEqual(feed(...begun, d(0, 'a'), { ...done, parts: [{ id: 0, len: 2, hash: fnv('a') }] }).hellos, ['done']);
  assert.deepEqual(feed(snap([]), d(0, 'x')).hellos, ['unknown run']);
});

test('the same delta twice is taken once, and late ones are dropped', () => {
  assert.equal(feed(...begun, d(0, 'a'), d(0, 'a'), d(1, 'b')).state.messages[1].parts[0].s, 'ab');
  const late = feed(...begun, d(0, 'a'), { op: 'done', run: 'r', id: 'a1', status: 'cancelled', seq: 1, parts: [], message: answer('a1', 'a', 'u1', { status: 'cancelled' }) }, d(1, 'late'));
  assert.equal(late.state.messages[1].parts[0].s, 'a');
  assert.equal(late.state.messages[1].status, 'cancelled');
});

test('a snapshot in the middle of an answer goes on from there', () => {
  const after = snap([user('u1', 'hi'), answer('a1', 'abc', 'u1', { status: 'streaming' })], { runs: [{ run: 'r', id: 'a1', seq: 3 }] });
  const { state, hellos } = feed(...begun, d(0, 'a'), d(2, 'c'), after, d(3, 'd'), d(4, 'e'));
  assert.equal(state.messages[1].parts[0].s, 'abcde');
  assert.deepEqual(hellos, ['gap']);
  assert.deepEqual(feed(...begun, after, d(4, 'x')).hellos, ['gap']);
});

test('a snapshot names every run, so that both halves of a pair go on', () => {
  const pair = (side) => ({ id: 'p', side, picked: null });
  const late = snap([user('u1', 'hi'), answer('a1', 'l', 'u1', { pair: pair('left') }), answer('b', 'r', 'u1', { pair: pair('right') })],
    { runs: [{ run: 'r', id: 'a1', seq: 1 }, { run: 'r2', id: 'b', seq: 4 }] });
  const { state, hellos } = feed(late, d(1, 'eft'), { op: 'd', run: 'r2', seq: 4, s: 'ight' });
  assert.deepEqual(hellos, []);
  assert.deepEqual(state.messages.slice(1).map((one) => one.parts[0].s), ['left', 'right']);
});

test('words, a call, words are one message; the output of a tool is kept', () => {
  const call = { id: 'c', name: 'ls', arguments: {}, status: 'waiting', risk: 'read', rule: '', key: 'k' };
  const { state, effects } = feed(...begun, d(0, 'a'), { op: 'tool', run: 'r', id: 'a1', part: 'c', call }, { op: 'out', run: 'r', call: 'c', s: 'x\n' },
    { op: 'tool', run: 'r', id: 'a1', part: 'c', call: { ...call, status: 'running' } }, d(1, 'b', { part: 1 }));
  assert.deepEqual(state.messages[1].parts.map((part) => part.s ?? part.call.output), ['a', 'x\n', 'b']);
  assert.equal(effects.filter((one) => one.do === 'waiting').length, 1);
  assert.equal(waiting(state), false);
});

test('regenerating and editing move the branch; a message that is not shown changes nothing', () => {
  const base = [snap([user('u1', 'hi'), answer('a1', 'one', 'u1')])];
  assert.deepEqual(feed(...base, { op: 'run', run: 'r', id: 'a2', parent: 'u1' }).ids, ['u1', 'a2']);
  assert.deepEqual(feed(...base, { op: 'msg', rev: 2, message: answer('a2', 'two', 'u1', { siblings: ['a1', 'a2'] }) }).ids, ['u1', 'a1']);
  assert.deepEqual(feed(...base, { op: 'msg', rev: 2, message: user('u2', 'more', 'a1') }).ids, ['u1', 'a1', 'u2']);
  assert.deepEqual(feed(...base, { op: 'branch', rev: 2, keep: null, messages: [user('u9', 'other')] }).ids, ['u9']);
  assert.deepEqual(feed(...base, { op: 'branch', rev: 2, keep: 'u1', messages: [answer('a3', 'x', 'u1')] }).ids, ['u1', 'a3']);
  assert.deepEqual(feed(...base, { op: 'branch', rev: 2, keep: 'nowhere', messages: [] }).hellos, ['branch']);
});

test('two answers of a pair stand side by side, left first', () => {
  const pair = (side) => ({ id: 'p', side, picked: null });
  const { ids, hellos, state } = feed(snap([user('u1', 'hi')]), { op: 'run', run: 'r2', id: 'b', parent: 'u1', pair: pair('right') },
    { op: 'run', run: 'r', id: 'a1', parent: 'u1', pair: pair('left') }, d(0, 'left'), { op: 'd', run: 'r2', seq: 0, part: 0, s: 'right' });
  assert.deepEqual(ids, ['u1', 'a1', 'b']);
  assert.deepEqual(hellos, []);
  assert.deepEqual(state.messages.slice(1).map((one) => one.parts[0].s), ['left', 'right']);
});

test('a request waits until its record comes, and comes back with an error', () => {
  const sent = { op: '@send', client: 'c1', text: 'hi ' };
  assert.equal(feed(snap([]), sent).state.pending.length, 1);
  assert.equal(feed(snap([]), sent, { op: 'msg', rev: 2, message: user('u1', 'hi') }).state.pending.length, 0);
  assert.equal(feed(snap([user('u0', 'hi')]), sent, { op: 'msg', rev: 2, message: user('u0', 'hi') }).state.pending.length, 1, 'an older one with these words is not it');
  const failed = feed(snap([]), sent, { op: 'err', of: 'send', client: 'c1', message: 'no' });
  assert.equal(failed.state.pending.length, 0);
  assert.deepEqual(failed.effects.at(-1), { do: 'error', op: 'send', client: 'c1', text: 'no', draft: 'hi ' });
});

test('older messages come in front, and stay there after a resynchronisation', () => {
  const base = [snap([user('u2', 'b')], { more: true }), { op: 'page', before: 'u2', messages: [user('u1', 'a')], more: false }];
  assert.deepEqual(feed(...base).ids, ['u1', 'u2']);
  assert.deepEqual(feed(...base, snap([user('u2', 'b'), answer('a2', 'x', 'u2')], { more: true })).ids, ['u1', 'u2', 'a2']);
});

test('the state that was is not touched', () => {
  const before = feed(...begun, d(0, 'a')).state;
  const copy = structuredClone(before);
  reduce(before, d(1, 'b'));
  reduce(before, { op: 'note', run: 'r', s: 'n' });
  assert.deepEqual(before, copy);
});

test('what a mention is, and what is being completed', () => {
  assert.deepEqual(mentionsIn('plot @df and @cell:12, not me@mail.test; @file:a/b.py. @df'), ['@df', '@cell:12', '@file:a/b.py']);
  assert.deepEqual(trigger('use @d', 6), { sign: '@', start: 4 });
  assert.equal(trigger('me@d', 4), null);
  assert.deepEqual(trigger('/ne', 3), { sign: '/', start: 0 });
  assert.equal(trigger('see /etc', 8), null);
});

test('escapes and marks that turn the direction are shown', () => {
  assert.equal(visible('\u001b[31m'), '␛[31m');
  assert.equal(visible('a\u202eb'), 'a⟨U+202E⟩b');
  assert.equal(visible('a\u200bb'), 'a\u200bb');
  assert.equal(visible('a\u200bb', true), 'a⟨U+200B⟩b');
  assert.equal(visible('한글 👩‍👩‍👧\n\tx'), '한글 👩‍👩‍👧\n\tx');
});

test('both languages say everything', () => {
  const [en, ko] = [sayer('en'), sayer('ko')];
  const holes = (text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
  for (const key of keys()) {
    assert.ok(en(key) && ko(key), key);
    assert.deepEqual(holes(en(key)), holes(ko(key)), key);
  }
});

test('the help has words for every key, and the language is the browser\'s where none is given', () => {
  for (const [title, rows] of HELP) for (const key of [title, ...rows.map((row) => row[1])]) assert.ok(keys().includes(key), key);
  Object.defineProperty(globalThis, 'navigator', { value: { language: 'ko-KR' }, configurable: true });
  const locale = (given) => localeOf({ get: () => given });
  assert.deepEqual([locale('ko'), locale('en'), locale(''), locale('de')], ['ko', 'en', 'ko', 'en']);
});

test('what was said a moment ago was said now', () => {
  assert.equal(ago(Date.now() - 20_000, 'en'), 'now');
  assert.equal(ago(Date.now() - 20_000, 'ko'), '지금');
  assert.match(ago(Date.now() - 130_000, 'en'), /2 min/);
});

test('questions find their answers, others are left to the listener', async () => {
  const sent = [];
  const heard = [];
  const wire = new Wire({ get() {}, set() {}, save_changes() {}, on() {}, off() {}, send: (m) => sent.push(m) }, (m) => heard.push(m.op));
  const answerTo = wire.ask('threads', { query: 'x' });
  wire.hear({ op: 'threads', q: sent[0].q, items: [] }, []);
  assert.deepEqual((await answerTo).items, []);
  const refused = wire.ask('preview', { text: '' });
  wire.hear({ op: 'err', of: 'preview', q: sent[1].q, message: 'no' }, []);
  await assert.rejects(refused, /no/);
  wire.hear({ op: 'snap', view: 'another' }, []);
  wire.hear({ op: 'snap', view: wire.view }, []);
  assert.deepEqual(heard, ['snap']);
  wire.close();
});
