/** A call of a tool: what it wants to do, what it may do, what it did; and yes, no, or yes with other arguments. */

/** @import {Call, Say, Schema} from './types.js' */
/** @import {Ui} from './ui.js' */
import { h, put, setAttr, show } from './dom.js';
import { icon } from './icons.js';
import { callLine, seconds, visible } from './text.js';
import { iconButton, isKey, isSubmit, textBox, textButton } from './ui.js';

const STATUS_ICONS = {
  proposed: 'wait', waiting: 'pause', running: 'run', ok: 'check', error: 'warn', denied: 'hand', cancelled: 'stop', interrupted: 'warn',
  corrected: 'fix',
};
/** Lines of a result that are shown at first. */
const LINES = 12;
/** Letters of a text that the page draws at all. */
const LETTERS = 40_000;

export class ToolCard {
  /** @param {Ui} ui */
  constructor(ui) {
    this.ui = ui;
    /** @type {Call|null} */
    this.call = null;
    /** @type {boolean|null} what the reader chose */
    this.opened = null;
    this.decided = false;
    /** @type {(() => void)|null} called when a decision was made or taken back */
    this.changed = null;
    /** @type {ArgumentForm|null} */
    this.form = null;
    this.scope = 'once';
    this.icon = h('span', { class: 'jv-callicon' });
    this.name = h('span', { class: 'jv-callname' });
    this.line = h('span', { class: 'jv-callline' });
    this.risk = h('span', { class: 'jv-tag jv-risk' });
    this.status = h('span', { class: 'jv-tag jv-status' });
    this.edited = h('span', { class: 'jv-tag jv-edited', attr: { hidden: true } }, icon('edit'), ui.say('editedArguments'));
    this.time = h('span', { class: 'jv-calltime' });
    this.head = h('button', {
      class: 'jv-callhead', attr: { type: 'button', 'aria-expanded': 'false' },
      on: { click: () => this.toggle() },
    }, this.icon, this.name, this.line, this.risk, this.edited, this.status, this.time, h('span', { class: 'jv-twist' }, icon('open')));
    this.args = h('div', { class: 'jv-args' });
    this.preview = h('div', { class: 'jv-preview' });
    this.output = h('div', { class: 'jv-out' });
    this.result = h('div', { class: 'jv-out' });
    this.ask = h('div', { class: 'jv-ask' });
    this.body = h('div', { class: 'jv-callbody' }, this.args, this.preview, this.output, this.result, this.ask);
    this.el = h('section', {
      class: 'jv-call', on: { keydown: (/** @type {KeyboardEvent} */ event) => this.escape(event) },
    }, this.head, this.body);
  }

  /** To the buttons, for who has not got a mouse. */
  focus() {
    this.openBody(true);
    /** @type {HTMLElement|null} */ (this.ask.querySelector('.jv-yes'))?.focus();
  }

  /** While a call waits, Escape leads back to the box and stops nothing. @param {KeyboardEvent} event */
  escape(event) {
    if (!isKey(event, 'Escape') || this.call?.status !== 'waiting') return;
    event.preventDefault();
    event.stopPropagation();
    if (this.form) this.edit(false);
    else this.ui.focusComposer();
  }

  toggle() {
    const open = !!this.body.hidden;
    this.opened = open;
    this.ui.steady(() => this.openBody(open));
  }

  /** @param {boolean} open */
  openBody(open) {
    this.body.hidden = !open;
    this.head.setAttribute('aria-expanded', String(open));
  }

  /** @param {Call} call */
  update(call) {
    if (call === this.call) return;
    const was = this.call;
    this.call = call;
    const { say } = this.ui;
    if (was?.status !== call.status) {
      this.decided = false;
      if (call.status !== 'waiting') this.form = null;
    }
    this.el.className = `jv-call jv-is-${call.status} jv-does-${call.risk}`;
    this.el.setAttribute('aria-label', `${say('tool')}: ${visible(call.name, true)}, ${say(`call.${call.status}`)}`);
    if (was?.risk !== call.risk || !was) {
      put(this.icon, icon(call.risk));
      put(this.risk, icon(call.risk === 'read' ? 'eye' : call.risk === 'net' ? 'net' : 'warn'), say(`risk.${call.risk}`));
    }
    if (was?.status !== call.status) put(this.status, icon(STATUS_ICONS[call.status]), say(`call.${call.status}`));
    if (was?.name !== call.name) this.name.textContent = visible(call.name, true);
    if (was?.arguments !== call.arguments || was?.status !== call.status) {
      this.line.textContent = callLine(call);
      this.drawArguments();
    }
    show(this.edited, !!call.edited);
    this.time.textContent = typeof call.ms === 'number' ? seconds(call.ms / 1000) : '';
    if (was?.status !== call.status || was?.edited !== call.edited || was?.preview?.s !== call.preview?.s || was?.preview?.kind !== call.preview?.kind) this.drawPreview();
    this.drawOutput(was);
    if (was?.status !== call.status || was?.key !== call.key || was?.pattern !== call.pattern) this.drawAsk();
    if (this.opened === null || (call.status === 'waiting' && was?.status !== 'waiting')) {
      this.openBody(['waiting', 'running', 'error', 'interrupted', 'corrected'].includes(call.status)
        && !(call.status === 'running' && call.risk === 'read' && !call.output));
    }
  }

  drawArguments() {
    const call = /** @type {Call} */ (this.call);
    const { say } = this.ui;
    if (this.form) {
      put(this.args, this.form.el);
      return;
    }
    const given = call.arguments;
    if (typeof given === 'string') {
      put(this.args, h('pre', { class: 'jv-mono', attr: { tabindex: '0' } }, clip(this.ui, visible(given, true))));
      return;
    }
    const values = Object.values(given ?? {});
    if (call.preview?.kind === 'command' && values.length === 1 && values[0] === call.preview.s) {
      // The command is shown as what it is, once.
      put(this.args);
      return;
    }
    const rows = Object.entries(given ?? {}).map(([name, value]) => [
      h('dt', null, visible(name, true)),
      h('dd', null, clip(this.ui, visible(typeof value === 'string' ? value : JSON.stringify(value, null, 1) ?? '', true))),
    ]).flat();
    put(this.args, rows.length ? h('dl', null, ...rows) : h('p', { class: 'jv-muted' }, say('noArguments')));
  }

  drawPreview() {
    const call = /** @type {Call} */ (this.call);
    const { kind, s } = call.preview ?? { kind: 'none', s: '' };
    const { say } = this.ui;
    if (kind === 'none' || !s) {
      put(this.preview);
      return;
    }
    // What is shown was made from the arguments as they were asked for.
    const asked = this.form || call.edited ? ` (${say('asAsked')})` : '';
    if (kind === 'diff') put(this.preview, h('h6', null, say('change') + asked), diff(this.ui, s));
    else put(this.preview, h('h6', null, say('command') + asked), scroller('jv-mono jv-command', say('command'), clip(this.ui, visible(s, true))));
  }

  /** @param {Call|null} was */
  drawOutput(was) {
    const call = /** @type {Call} */ (this.call);
    const { say } = this.ui;
    const over = call.result !== null && call.result !== undefined;
    if (was?.output !== call.output || !was || over) {
      const shown = over ? '' : call.output ?? '';
      const pre = this.output.querySelector('pre');
      if (!shown) put(this.output);
      else if (pre) pre.textContent = visible(shown.slice(-LETTERS), true);
      else put(this.output, h('h6', null, say('output')), scroller('jv-mono', say('output'), visible(shown.slice(-LETTERS), true)));
      const now = this.output.querySelector('pre');
      if (now) now.scrollTop = now.scrollHeight;
    }
    if (was?.result === call.result && was) return;
    if (!over || call.result === '') put(this.result);
    else put(this.result, h('h6', null, say('result')), folded(this.ui, String(call.result)));
  }

  drawAsk() {
    const call = /** @type {Call} */ (this.call);
    const { say } = this.ui;
    if (call.status !== 'waiting') {
      put(this.ask);
      return;
    }
    const editing = !!this.form;
    const scopes = ['once', 'thread', ...(call.pattern && !editing ? ['pattern'] : [])];
    if (!scopes.includes(this.scope)) this.scope = 'once';
    const select = h('select', { class: 'jv-select', on: { change: () => { this.scope = select.value; } } },
      ...scopes.map((scope) => h('option', { attr: { value: scope, selected: scope === this.scope } },
        say(`scope.${scope}`, { pattern: visible(call.pattern ?? '', true).slice(0, 80) }))));
    const yes = textButton(say(editing ? 'approveEdited' : 'approve'), () => this.decide(true), 'jv-primary jv-yes');
    const no = textButton(say('deny'), () => this.decide(false), 'jv-no');
    const edit = typeof call.arguments === 'string' ? null : editing
      ? textButton(say('resetArguments'), () => this.edit(false), 'jv-quiet')
      : iconButton('edit', say('editArguments'), () => this.edit(true), { text: true, class: 'jv-quiet jv-editargs' });
    this.complaint = h('p', { class: 'jv-complaint', attr: { role: 'alert' } });
    put(this.ask,
      call.rule ? h('p', { class: 'jv-muted jv-rule' }, reason(say, call)) : null,
      this.complaint,
      h('div', { class: 'jv-askrow' }, yes, no, edit, h('span', { class: 'jv-gap' }),
        h('label', { class: 'jv-scope' }, h('span', null, say('scope')), select)));
    this.buttons = [yes, no, select, edit];
  }

  /** @param {boolean} on */
  edit(on) {
    const call = /** @type {Call} */ (this.call);
    this.form = on && typeof call.arguments !== 'string' ? new ArgumentForm(this.ui, call, () => this.decide(true), () => this.edit(false)) : null;
    this.ui.steady(() => {
      this.drawArguments();
      this.drawPreview();
      this.drawAsk();
    });
    if (this.form) this.form.begin();
    else /** @type {HTMLElement|null} */ (this.ask.querySelector('.jv-editargs'))?.focus();
  }

  /** @param {boolean} yes */
  decide(yes) {
    const call = this.call;
    if (!call || this.decided || call.status !== 'waiting') return;
    /** @type {Record<string, any>} */
    const decision = { call: call.id, key: call.key, yes, scope: this.scope };
    if (yes && this.form) {
      const read = this.form.read();
      if (typeof read === 'string') {
        if (this.complaint) this.complaint.textContent = read;
        return;
      }
      if (JSON.stringify(read) !== JSON.stringify(call.arguments)) decision.arguments = read;
    }
    this.decided = true;
    this.changed?.();
    for (const button of this.buttons ?? []) setAttr(/** @type {HTMLElement} */ (button), 'disabled', true);
    this.ui.announce(this.ui.say('decided'));
    this.ui.wire.send('approve', decision);
    this.ui.focusComposer();
    setTimeout(() => {
      if (this.call?.status === 'waiting' && this.decided) this.undecided();
    }, 4000);
  }

  /** The kernel has not taken the decision: it can be made again. */
  undecided() {
    this.decided = false;
    this.changed?.();
    for (const button of this.buttons ?? []) setAttr(/** @type {HTMLElement} */ (button), 'disabled', false);
  }
}

/** A field for each argument, as the schema has it. */
class ArgumentForm {
  /**
   * @param {Ui} ui
   * @param {Call} call
   * @param {() => void} submit
   * @param {() => void} cancel
   */
  constructor(ui, call, submit, cancel) {
    this.ui = ui;
    const given = /** @type {Record<string, any>} */ (call.arguments);
    const known = call.schema?.properties ?? {};
    this.required = call.schema?.required ?? [];
    const names = [...new Set([...Object.keys(known), ...Object.keys(given)])];
    /** @type {{name: string, kind: string, given: boolean, input: HTMLInputElement|HTMLSelectElement|HTMLTextAreaElement, fit?: () => void}[]} */
    this.fields = names.map((name) => this.field(name, known[name] ?? {}, given[name], name in given, submit, cancel));
    this.el = h('div', { class: 'jv-form' }, ...this.fields.map(({ name, input }) => h('label', { class: 'jv-field' },
      h('span', null, visible(name, true), this.required.includes(name) ? h('b', { attr: { 'aria-hidden': 'true' } }, ' *') : null),
      input,
      known[name]?.description ? h('small', null, visible(known[name].description ?? '', true)) : null)));
  }

  /**
   * @param {string} name
   * @param {Schema} schema
   * @param {any} value
   * @param {boolean} given
   * @param {() => void} submit
   * @param {() => void} cancel
   */
  field(name, schema, value, given, submit, cancel) {
    const type = schema.type ?? schema.anyOf?.find((one) => one.type && one.type !== 'null')?.type ?? kindOf(value);
    if (schema.enum) {
      const input = h('select', { class: 'jv-select' }, ...schema.enum.map((one) =>
        h('option', { attr: { value: JSON.stringify(one), selected: one === value } }, visible(String(one), true))));
      return { name, kind: 'enum', given, input };
    }
    if (type === 'boolean') {
      const input = h('input', { attr: { type: 'checkbox' }, prop: { checked: !!value } });
      return { name, kind: 'boolean', given, input };
    }
    if (type === 'integer' || type === 'number') {
      const input = h('input', { class: 'jv-input', attr: { type: 'text', inputmode: 'decimal' }, prop: { value: value ?? '' } });
      return { name, kind: type, given, input };
    }
    const text = type === 'string' || type === undefined;
    const shown = value === undefined ? '' : text && typeof value === 'string' ? value : JSON.stringify(value, null, 2);
    const { box, fit } = textBox({
      label: visible(name, true), value: shown, class: 'jv-mono', limit: 240, cancel,
      key: (event) => {
        if (!isSubmit(event)) return false;
        submit();
        return true;
      },
    });
    return { name, kind: text && (value === undefined || typeof value === 'string') ? 'string' : 'json', given, input: box, fit };
  }

  begin() {
    for (const field of this.fields) field.fit?.();
    this.fields[0]?.input.focus();
  }

  /** @returns {Record<string, any>|string} the arguments, or what is wrong with them */
  read() {
    /** @type {Record<string, any>} */
    const result = {};
    for (const { name, kind, given, input } of this.fields) {
      const raw = input.value;
      if (kind === 'boolean') {
        const checked = /** @type {HTMLInputElement} */ (input).checked;
        if (checked || given) result[name] = checked;
        continue;
      }
      if (raw === '' && !given && !this.required.includes(name)) continue;
      if (kind === 'enum') result[name] = JSON.parse(raw);
      else if (kind === 'string') result[name] = raw;
      else if (kind === 'integer' || kind === 'number') {
        if (raw.trim() === '' || !Number.isFinite(Number(raw))) return this.ui.say('notNumber', { name });
        result[name] = Number(raw);
      } else {
        try {
          result[name] = JSON.parse(raw);
        } catch (error) {
          return `${name}: ${/** @type {Error} */ (error).message}`;
        }
      }
    }
    return result;
  }
}

/**
 * Why a call waits, in the language of the page where the rule is a known one.
 * @param {Say} say
 * @param {Call} call
 */
function reason(say, call) {
  const { kind = '', effect = '', ...parts } = call.why ?? {};
  const key = `why.${kind}${effect ? `.${effect}` : ''}`;
  const shown = Object.fromEntries(Object.entries(parts).map(([name, value]) => [name, visible(value, true)]));
  return say(key) === key ? say('rule', { rule: visible(call.rule, true) }) : say(key, shown);
}

/** @param {any} value */
const kindOf = (value) => (value === undefined ? undefined : typeof value);

/**
 * @param {Ui} ui
 * @param {string} text
 */
const clip = (ui, text) => (text.length > LETTERS ? `${text.slice(0, LETTERS)}\n${ui.say('truncated', { n: text.length - LETTERS })}` : text);

/**
 * @param {string} kind
 * @param {string} label
 * @param {string} text
 */
const scroller = (kind, label, text) => h('pre', { class: kind, attr: { tabindex: '0', role: 'group', 'aria-label': label } }, text);

/**
 * A change of a file, line by line; the sign stays in front, so that colour says nothing on its own.
 * @param {Ui} ui
 * @param {string} text
 */
export function diff(ui, text) {
  const lines = clip(ui, visible(text, true)).split('\n');
  if (lines.at(-1) === '') lines.pop();
  const kind = (/** @type {string} */ line) => (/^(\+\+\+|---|@@|diff |index )/.test(line) ? 'jv-meta'
    : line.startsWith('+') ? 'jv-plus' : line.startsWith('-') ? 'jv-minus' : '');
  return h('pre', { class: 'jv-mono jv-diff', attr: { tabindex: '0', role: 'group', 'aria-label': ui.say('change') } },
    ...lines.map((line) => h('span', { class: kind(line) }, `${line}\n`)));
}

/**
 * @param {Ui} ui
 * @param {string} raw
 */
function folded(ui, raw) {
  const text = clip(ui, visible(raw, true));
  const lines = text.split('\n');
  const { say } = ui;
  if (lines.length <= LINES + 2) return scroller('jv-mono', say('result'), text);
  const pre = scroller('jv-mono', say('result'), lines.slice(0, LINES).join('\n'));
  let open = false;
  const button = textButton(say('more', { n: lines.length }), () => {
    open = !open;
    ui.steady(() => {
      pre.textContent = open ? text : lines.slice(0, LINES).join('\n');
      button.textContent = open ? say('less') : say('more', { n: lines.length });
    });
  }, 'jv-link');
  const box = h('div', null, pre, button);
  show(button, true);
  return box;
}
