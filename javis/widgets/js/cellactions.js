/**
 * Code of an answer in the notebook: copied, put into a cell, run, and what became of it there.
 * JupyterLab and Notebook 7 hand over their document through the widget manager; elsewhere the code
 * goes to the clipboard.
 */

/** @import {Model} from './types.js' */

/** @typedef {'ok'|'raised'|'edited'|'deleted'} Outcome */
/** @typedef {(what: Outcome, detail?: string) => void} Tell */

/** Milliseconds after the last key before changed code counts as edited. */
const SETTLED = 4000;

export class Notebook {
  /**
   * @param {Model} model
   * @param {HTMLElement} el the view, to know under which cell to insert
   */
  constructor(model, el) {
    this.model = model;
    this.el = el;
    /** @type {any} the cell that was inserted last */
    this.last = null;
    /** @type {(() => void)[]} */
    this.watching = [];
  }

  /** @returns {any} the shared notebook, or null where there is none */
  get shared() {
    const shared = this.model.widget_manager?.context?.model?.sharedModel;
    return typeof shared?.insertCell === 'function' ? shared : null;
  }

  get available() {
    return !!this.shared;
  }

  /** Where the next cell goes: under the one inserted last, else under this one, else at the end. */
  place() {
    const cells = this.shared.cells;
    const last = this.last ? cells.indexOf(this.last) : -1;
    if (last >= 0) return last + 1;
    const cell = this.el.closest('.jp-Cell');
    const listed = Number(cell?.getAttribute('data-windowed-list-index') ?? NaN);
    if (Number.isInteger(listed) && listed < cells.length) return listed + 1;
    const beside = cell?.parentElement ? [...cell.parentElement.querySelectorAll(':scope > .jp-Cell')] : [];
    const at = cell ? beside.indexOf(cell) : -1;
    return at >= 0 ? Math.min(at + 1, cells.length) : cells.length;
  }

  /**
   * @param {string} code
   * @param {Tell} tell what becomes of it
   * @returns {any} the cell
   */
  insert(code, tell) {
    const shared = this.shared;
    const at = this.place();
    const cell = shared.insertCell(at, { cell_type: 'code', source: code, metadata: { trusted: true } }) ?? shared.cells[at];
    this.last = cell;
    this.watching.push(watch(shared, cell, code, tell));
    return cell;
  }

  /**
   * Runs a cell as a person would, with the notebook's own shortcut, so that its outputs, its number and
   * its place in the history are those of any other cell. It needs the cell on the page, which takes a
   * moment after it was inserted.
   * @param {any} cell
   * @param {number} [tries]
   */
  run(cell, tries = 40) {
    const at = this.shared?.cells.indexOf(cell) ?? -1;
    const notebook = this.el.closest('.jp-Notebook');
    const nodes = notebook ? [...notebook.querySelectorAll('.jp-Cell')] : [];
    const node = nodes.find((one) => one.getAttribute('data-windowed-list-index') === String(at))
      ?? (nodes.length === this.shared?.cells.length ? nodes[at] : undefined);
    if (!node && notebook && at >= 0 && tries) {
      setTimeout(() => this.run(cell, tries - 1), 50);
      return true;
    }
    if (!node) return this.ask(cell);
    const press = (node.querySelector('.jp-InputPrompt') ?? node);
    for (const type of ['mousedown', 'mouseup']) {
      press.dispatchEvent(new MouseEvent(type, { bubbles: true, cancelable: true, button: 0 }));
    }
    const key = { key: 'Enter', code: 'Enter', keyCode: 13, which: 13, ctrlKey: true };
    setTimeout(() => node.dispatchEvent(new KeyboardEvent('keydown', { ...key, bubbles: true, cancelable: true })), 50);
    return true;
  }

  /**
   * Runs a cell that is not on the page through the kernel's connection, and keeps its outputs in it.
   * @param {any} cell
   * @returns {boolean} whether it could be asked
   */
  ask(cell) {
    const manager = this.model.widget_manager;
    const kernel = manager?.context?.sessionContext?.session?.kernel ?? manager?.kernel;
    if (typeof kernel?.requestExecute !== 'function') return false;
    const future = kernel.requestExecute(
      { code: cell.getSource?.() ?? cell.source, store_history: true, stop_on_error: false, allow_stdin: false }, true, { cellId: cellId(cell) });
    const outputs = new Outputs(cell);
    set(cell, 'executionState', 'running');
    future.onIOPub = (/** @type {any} */ message) => outputs.take(message);
    future.onReply = (/** @type {any} */ message) => set(cell, 'execution_count', message.content.execution_count ?? null);
    future.done?.then(() => set(cell, 'executionState', 'idle'), () => set(cell, 'executionState', 'idle'));
    return true;
  }

  dispose() {
    for (const stop of this.watching) stop();
    this.watching = [];
  }
}

/** The outputs of a cell that runs out of sight, put into it as they come. */
class Outputs {
  /** @param {any} cell */
  constructor(cell) {
    this.cell = cell;
    /** @type {{output: any, id?: string}[]} each with the name by which it may be changed */
    this.all = [];
    /** The next output takes the place of those before it. */
    this.clear = false;
    this.put();
  }

  put() {
    this.cell.setOutputs?.(this.all.map(({ output }) => structuredClone(output)));
  }

  /** @param {any} message */
  take({ content, header }) {
    const type = header.msg_type;
    const id = content.transient?.display_id;
    if (type === 'clear_output' && content.wait) this.clear = true;
    else if (type === 'clear_output') this.all = [];
    else if (type === 'update_display_data') {
      const { data, metadata = {} } = content;
      this.all = this.all.map((one) => (id && one.id === id ? { id, output: { ...one.output, data, metadata } } : one));
    } else this.add(asOutput(type, content), id);
    this.put();
  }

  /**
   * @param {any} output null: it was none
   * @param {string} [id]
   */
  add(output, id) {
    if (!output) return;
    if (this.clear) this.all = [];
    this.clear = false;
    const before = this.all.at(-1)?.output;
    const goesOn = output.output_type === 'stream' && before?.output_type === 'stream' && before.name === output.name;
    if (goesOn) before.text += output.text;
    else this.all.push({ output, id });
  }
}

/**
 * @param {any} cell
 * @returns {string|undefined}
 */
export const cellId = (cell) => cell?.id ?? cell?.getId?.();

/**
 * @param {any} cell
 * @param {string} name
 * @param {any} value
 */
function set(cell, name, value) {
  try {
    cell[name] = value;
  } catch {
    // An older notebook does not know it: the outputs are there all the same.
  }
}

/**
 * @param {string} type
 * @param {any} content
 * @returns {any}
 */
function asOutput(type, content) {
  if (type === 'stream') return { output_type: 'stream', name: content.name, text: content.text };
  if (type === 'error') return { output_type: 'error', ename: content.ename, evalue: content.evalue, traceback: content.traceback };
  if (type === 'execute_result') {
    return { output_type: type, data: content.data, metadata: content.metadata ?? {}, execution_count: content.execution_count };
  }
  if (type === 'display_data') return { output_type: type, data: content.data, metadata: content.metadata ?? {} };
  return null;
}

/** @param {any} cell */
const sourceOf = (cell) => String(cell.getSource?.() ?? cell.source ?? '');

/**
 * What becomes of a cell, each thing told once: it ran, it raised, its code was changed, it was deleted.
 * @param {any} shared
 * @param {any} cell
 * @param {string} code
 * @param {Tell} tell
 * @returns {() => void} stop watching
 */
function watch(shared, cell, code, tell) {
  let count = cell.execution_count ?? null;
  let edited = false;
  let gone = false;
  /** @type {any} */
  let ranTimer;
  /** @type {any} */
  let editTimer;
  const edit = () => {
    clearTimeout(editTimer);
    if (edited || gone || sourceOf(cell).trim() === code.trim()) return;
    edited = true;
    tell('edited', share(code, sourceOf(cell)));
  };
  const ran = () => {
    edit();
    const outputs = cell.getOutputs?.() ?? cell.outputs ?? [];
    const error = outputs.find((/** @type {any} */ one) => one.output_type === 'error');
    tell(error ? 'raised' : 'ok', error ? `${error.ename}: ${error.evalue}`.slice(0, 300) : undefined);
  };
  const changed = () => {
    const now = cell.execution_count ?? null;
    if (now !== null && now !== count) {
      // The outputs come on another channel, and may be later than the count.
      clearTimeout(ranTimer);
      ranTimer = setTimeout(ran, 400);
    }
    count = now;
    clearTimeout(editTimer);
    if (!edited) editTimer = setTimeout(edit, SETTLED);
  };
  const moved = () => {
    // A moved cell leaves and comes back.
    setTimeout(() => {
      const id = cellId(cell);
      if (gone || shared.cells.some((/** @type {any} */ one) => one === cell || (id && cellId(one) === id))) return;
      gone = true;
      stop();
      tell('deleted');
    }, 300);
  };
  const stop = () => {
    clearTimeout(ranTimer);
    clearTimeout(editTimer);
    cell.changed?.disconnect?.(changed);
    shared.changed?.disconnect?.(moved);
  };
  cell.changed?.connect?.(changed);
  shared.changed?.connect?.(moved);
  return stop;
}

/**
 * How much of the lines was changed, in words.
 * @param {string} before
 * @param {string} after
 */
function share(before, after) {
  const old = before.split('\n').map((line) => line.trim()).filter(Boolean);
  const now = new Set(after.split('\n').map((line) => line.trim()));
  const kept = old.filter((line) => now.has(line)).length;
  return `${old.length - kept} of ${old.length} lines changed`;
}
