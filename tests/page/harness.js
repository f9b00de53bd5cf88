/**
 * A page with the chat and no kernel: a model as anywidget would hand it over, which keeps what the page
 * sends (`sent`) and lets a test say what the kernel would (`kernel`).
 */

const query = new URLSearchParams(location.search);
const traits = {
  kind: 'chat', thread_id: 't1', status: 'idle', locale: query.get('locale') ?? 'en', height: Number(query.get('height') ?? 0),
  caps: { mentions: true, compare: true, tools: true, shell: true }, proto: 1,
};

class FakeModel {
  constructor() {
    this.listeners = new Map();
    this.sent = [];
  }
  get(name) { return traits[name]; }
  set(name, value) {
    if (traits[name] === value) return;
    traits[name] = value;
    this.emit(`change:${name}`, this, value);
  }
  save_changes() {}
  on(name, callback) {
    if (!this.listeners.has(name)) this.listeners.set(name, new Set());
    this.listeners.get(name).add(callback);
  }
  off(name, callback) {
    if (callback) this.listeners.get(name)?.delete(callback);
    else this.listeners.clear();
  }
  emit(name, ...args) {
    for (const callback of [...(this.listeners.get(name) ?? [])]) callback(...args);
  }
  send(message) {
    const copy = structuredClone(message);
    this.sent.push(copy);
    for (const answer of answers) answer(copy);
  }
}

const model = new FakeModel();
const answers = [];
const kernel = (message, buffers = []) => model.emit('msg:custom', { v: 1, ...message }, buffers);
let rev = 0;
const asset = { highlight: 'highlight.js', math: 'math.js' };

// Files that are fetched on demand come as they would over the comm.
answers.push(async (message) => {
  if (message.op !== 'asset' || !asset[message.name]) return;
  const bytes = await (await fetch(`/javis/widgets/static/${asset[message.name]}`)).arrayBuffer();
  kernel({ op: 'asset', name: message.name, mime: 'text/javascript' }, [new DataView(bytes)]);
});

const tools = {
  traits,
  model,
  kernel,
  answers,
  /** What was sent, by op. */
  sent: (op) => model.sent.filter((one) => !op || one.op === op),
  forget: () => { model.sent.length = 0; },
  view: () => model.sent.findLast((one) => one.op === 'hello')?.view,
  snap: (messages = [], more = {}) => kernel({ op: 'snap', rev: ++rev, thread: 't1', title: '', messages, head: messages.at(-1)?.id ?? null, runs: [], more: false, ...more }),
  msg: (message) => kernel({ op: 'msg', rev: ++rev, message }),
  user: (id, text, parent = null, more = {}) => ({ id, parent, role: 'user', status: 'complete', parts: [{ t: 'text', id: 0, s: text }], siblings: [id], mentions: [], sources: [], footer: null, verdict: null, error: null, notes: [], pair: null, ...more }),
  answer: (id, text, parent = null, more = {}) => ({ id, parent, role: 'assistant', status: 'complete', parts: text === null ? [] : [{ t: 'text', id: 0, s: text }], siblings: [id], mentions: [], sources: [], footer: null, verdict: { up: null, stars: null, reasons: [], comment: null, corrected: null, candidate: false }, error: null, notes: [], pair: null, ...more }),
  fnv: (text) => {
    let hash = 0x811c9dc5;
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
    return (hash >>> 0).toString(16).padStart(8, '0');
  },
  /** An answer that is being written: `say` adds words, `done` ends it. */
  run: (run, id, parent, more = {}) => {
    let seq = 0;
    let last = null;
    const texts = {};
    kernel({ op: 'run', run, id, parent, ...more });
    return {
      say: (s, part = 0) => {
        texts[part] = (texts[part] ?? '') + s;
        kernel({ op: 'd', run, seq: seq++, s, ...(part === last ? {} : { part }) });
        last = part;
      },
      skip: () => { seq++; },
      tool: (call) => kernel({ op: 'tool', run, id, part: call.id, call }),
      out: (call, s) => kernel({ op: 'out', run, call, s }),
      done: (status = 'complete', extra = {}) => {
        const parts = Object.entries(texts).map(([part, s]) => ({ id: Number(part), len: s.length, hash: tools.fnv(s) }));
        const rest = tools.answer(id, null, parent, { status, ...(extra.message ?? {}) });
        kernel({ op: 'done', run, id, status, seq, parts: extra.parts ?? parts, message: null, rest });
      },
    };
  },
};
Object.assign(globalThis, { chat: tools });

// What hostile text would do, should it run.
globalThis.caught = [];
for (const name of ['alert', 'confirm', 'prompt', 'print', 'open']) globalThis[name] = (...args) => { globalThis.caught.push([name, ...args.map(String)]); };

const esm = await (await fetch('/javis/widgets/static/chat.js')).text();
const url = URL.createObjectURL(new Blob([esm], { type: 'text/javascript' }));
const { default: factory } = await import(url);
const widget = await factory();
const element = document.getElementById('cell');
await widget.initialize?.({ model });
tools.mount = async (el = element) => widget.render({ model, el });
tools.unmount = await tools.mount();
globalThis.ready = true;
